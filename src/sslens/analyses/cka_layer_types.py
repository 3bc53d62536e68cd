"""CKA by type of layer: norm1, qkv, fc1 (figure 2 of Shekhar et al., 2022; figure 1b of 2023; claim
C3)."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from sslens.capture import Grams
from sslens.comparisons import ceilings, families, panels, roles
from sslens.comparisons.beside import add_deconfounded, make_rows_with_deconfounded, merge
from sslens.comparisons.contrasts import PairContrast, subtract_kind
from sslens.comparisons.inputs import GramSets, Models
from sslens.comparisons.pairs import (
    CKA,
    DIFFERENCE,
    TABLES_NULL,
    Pair,
    Pairs,
    Row,
    compare_pairs,
    find_pixels,
    make_cka_columns,
    make_difference_columns,
    make_pair_results,
    make_pair_rows,
)
from sslens.comparisons.pickable import list_pickable
from sslens.comparisons.roles import JE, REC
from sslens.comparisons.trainings import TRAININGS, Sides, average_over_objectives
from sslens.figure import Figure, Panel
from sslens.statistics.sampled import Sampled, average
from sslens.table import Results

TITLE = "In which type of layer do they differ?"
CAPTION = (
    "Minibatch CKA between two models at every block, for the LayerNorm before attention (norm1),"
    " the qkv projection and the first MLP layer (fc1), all tokens flattened. The papers speak of"
    " the layer normalisation before attention in their figures and after it in their text: norm2,"
    " the one after attention, is shown where it was asked for. Below, the same depth only, beside"
    " the controls: random initialisations and raw pixels. Bands are 95 % intervals over"
    " minibatches. Two types are compared on the same minibatches, over the depths at which all are"
    " defined; such intervals of a pair hold at once. Deconfounded CKA, what is left when the raw"
    " pixels are regressed out, is in the tables. A cell is grey where a layer gives one output for"
    " all images."
)
KINDS = ("norm1", "qkv", "fc1")
#: shown where models have it, which they do where it was asked for
AFTER = "norm2"
_BETWEEN = (*CKA, *DIFFERENCE, "together", "minibatches")
#: `types` and `families-types` have one type of layer less another, of a pair and of JE with REC
TABLES = {
    **TABLES_NULL,
    **ceilings.TABLES,
    **{
        name: add_deconfounded(columns)
        for name, columns in {
            "types": ("model_a", "model_b", "tokens", "kind", *_BETWEEN),
            **families.TABLES,
            "families-types": (*families.FAMILIES, *_BETWEEN, *TRAININGS),
        }.items()
    },
}
UNITS = families.UNITS | ceilings.UNITS


def explain_absence(models: Models) -> str | None:
    """Say why there is nothing to show: all models are CNNs.

    Some CNNs have a layer fc1, but no CNN has norm1 or qkv.
    """
    if models.studied and all(roles.is_cnn(models.about(name)) for name in models.studied):
        return (
            "it is about attention, normalisation and MLP layers of transformers, and these models"
            " are CNNs"
        )
    return None


def compute(models: Models, *, grams: GramSets, seed: int = 0) -> Results:
    """Compute the CKA of every tap with every tap of the same type, for all pairs of models and
    controls, and compare the types with each other."""
    rows = list(_list_rows(models, grams, seed))
    return make_pair_results(rows, TABLES, UNITS)


def list_kinds(grams: Mapping[str, Grams]) -> tuple[str, ...]:
    """List the types of layer that are compared: norm1, qkv and fc1, and norm2 where any model has
    it."""
    present = {tap.kind for one in grams.values() for tap in one.taps}
    return (*KINDS, AFTER) if AFTER in present else KINDS


def _list_rows(models: Models, grams: GramSets, seed: int) -> Iterator[tuple[str, Row]]:
    pixels = find_pixels(grams)
    for tokens in roles.list_tokens(models, grams):
        by_kind = {
            kind: compare_pairs(
                models, grams[tokens], tokens, kind, pixels=pixels, seed=seed, null=True
            )
            for kind in list_kinds(grams[tokens])
        }
        for compared in by_kind.values():
            yield from make_rows_with_deconfounded(
                lambda pairs: _list_tables(models, pairs), compared
            )
        deconfounded = {kind: pairs.deconfounded for kind, pairs in by_kind.items()}
        present = {kind: pairs for kind, pairs in deconfounded.items() if pairs is not None}
        yield from merge(_list_types(models, by_kind, tokens), _list_types(models, present, tokens))
    yield from families.list_members(models)


def _list_tables(models: Models, pairs: Pairs) -> Iterator[tuple[str, Row]]:
    yield from make_pair_rows(models, pairs)
    yield from ceilings.list_rows(models, pairs)
    yield from families.compare_cka_of_families(models, pairs)


def _list_types(
    models: Models, by_kind: Mapping[str, Pairs], tokens: str
) -> Iterator[tuple[str, Row]]:
    """Compare the types of layer with each other, for all pairs of models and for families."""
    for a, b in itertools.combinations(models.studied, 2):
        by_type = {kind: pairs.find(a, b) for kind, pairs in by_kind.items()}
        values = {kind: pair.same for kind, pair in by_type.items() if pair}
        names = {"model_a": a, "model_b": b, "tokens": tokens}
        yield from (("types", names | row) for row in _compare_types(values))
    yield from _compare_types_of_families(models, by_kind)


def _compare_types_of_families(
    models: Models, by_kind: Mapping[str, Pairs]
) -> Iterator[tuple[str, Row]]:
    """Compare the types of layer with each other, averaged over the pairs of a JE and a REC model,
    and beside it over the pairs of two JE models."""
    members = families.describe_members(models)
    within, across = (
        {kind: families.find_pairs(models, pairs)[which] for kind, pairs in by_kind.items()}
        for which in (0, 1)
    )
    if not across or not all(across.values()):
        return
    names = families.name_families(by_kind["fc1"], JE, REC, len(across["fc1"]), members)
    for row in _compare_types(_average_kinds(models, across)):
        over = _compare_over_trainings(models, by_kind[row["kind"]], by_kind[row["less"]], row)
        yield "families-types", names | row | over
    if all(within.values()):
        names |= {"model_b": JE, "pairs": len(within["fc1"])}
        for row in _compare_types(_average_kinds(models, within)):
            yield "families-types", names | row


def _average_kinds(models: Models, by_kind: Mapping[str, Sequence[Pair]]) -> Mapping[str, Sampled]:
    """The mean CKA at each depth of the deepest pair, by type of layer."""
    grid = max((pair.depths for side in by_kind.values() for pair in side), key=len)
    return {
        kind: average_over_objectives(
            models, {(pair.a, pair.b): pair.at(grid) for pair in side}, average
        )
        for kind, side in by_kind.items()
    }


def _compare_over_trainings(models: Models, pairs: Pairs, others: Pairs, row: Row) -> Row:
    """The interval over trainings of one type of layer less another, between JE and REC."""
    je, rec = families.list_families(models)

    def choose(sides: Sides) -> tuple[list[Pair], list[Pair]]:
        return pairs.find_all(sides[JE], sides[REC]), []

    pick = partial(subtract_kind, others=others)
    contrast = PairContrast.of(models, {JE: je, REC: rec}, choose, pick)
    columns = contrast.row(row["less"], row["together"])
    return {column: columns[column] for column in TRAININGS}


def _compare_types(values: Mapping[str, Sampled]) -> Iterator[Row]:
    """Subtract from each type each type before it, with simultaneous intervals, over the depths at
    which all types are defined."""
    if len({len(value.value) for value in values.values()}) != 1 or len(values) < 2:
        return
    defined = np.logical_and.reduce([np.isfinite(value.value) for value in values.values()])
    if not defined.any():
        return
    means = {kind: value[defined].mean() for kind, value in values.items()}
    twos = list(itertools.combinations(means, 2))
    differences = Sampled.stack([means[later] - means[earlier] for earlier, later in twos])
    low, high = differences.simultaneous_interval()
    for k, (less, more) in enumerate(twos):
        numbers = float(differences.value[k]), float(low[k]), float(high[k])
        row = (
            {"kind": more} | make_cka_columns(means[more]) | make_difference_columns(less, *numbers)
        )
        yield row | {"together": len(twos)}


def draw(results: Results) -> Figure:
    """Draw a row of heat maps for each pair of models, with one column per type of layer; then draw
    curves of CKA at the same depth."""
    cells = panels.Cells.of(results["cells"])
    tokens, names = cells.tokens(), cells.models()
    pairs = list(itertools.combinations(names, 2)) or [(name, name) for name in names]
    kinds = [kind for kind in (*KINDS, AFTER) if (results["cells"].kind == kind).any()]
    grid: list[list[Panel | None]] = [
        [panels.draw_cells(cells, a, b, tokens[0], kind, f"{kind}: {a} · {b}") for kind in kinds]
        for a, b in pairs
    ]
    drawn = panels.list_drawn(cells)
    for one in tokens:
        grid.append(
            [
                panels.draw_lines(cells, one, kind, f"{kind}, {panels.LABELS[one]}", drawn)
                for kind in kinds
            ]
        )
    return panels.make_figure("cka-layer-types", grid, list_pickable(results, drawn))
