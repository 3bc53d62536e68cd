"""CKA by type of layer: norm1, qkv, fc1 (figure 2 of Shekhar et al., 2022; figure 1b of 2023; claim
C3)."""

import itertools
from collections.abc import Iterator, Mapping

import numpy as np

from sslens.comparisons import families, panels, roles
from sslens.comparisons.inputs import GramSets, Models
from sslens.comparisons.pairs import (
    CKA,
    DIFFERENCE,
    TABLES_NULL,
    Pairs,
    Row,
    compare_pairs,
    make_cka_columns,
    make_difference_columns,
    make_pair_results,
    make_pair_rows,
)
from sslens.comparisons.roles import JE, REC
from sslens.figure import Figure, Panel
from sslens.statistics.sampled import Sampled, average
from sslens.table import Results

TITLE = "In which type of layer do they differ?"
CAPTION = (
    "Minibatch CKA between two models at every block, for the LayerNorm before attention (norm1),"
    " the qkv projection and the first MLP layer (fc1), all tokens flattened. Below, the same depth"
    " only, beside the controls: random initialisations and raw pixels. Bands are 95 % bootstrap"
    " intervals over minibatches. Two types are compared within each replicate, over the depths at"
    " which both are defined; the three such intervals of a pair hold at once. A cell is undefined"
    " (grey) where a layer gives the same output for every image."
)
KINDS = ("norm1", "qkv", "fc1")
_BETWEEN = (*CKA, *DIFFERENCE, "together", "minibatches")
#: `types` and `families-types` have one type of layer less another, of a pair and of JE with REC
TABLES = {
    **TABLES_NULL,
    "types": ("model_a", "model_b", "tokens", "kind", *_BETWEEN),
    **families.TABLES,
    "families-types": (*families.FAMILIES, *_BETWEEN),
}


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
    return make_pair_results(rows, TABLES, families.UNITS)


def _list_rows(models: Models, grams: GramSets, seed: int) -> Iterator[tuple[str, Row]]:
    for tokens in roles.list_tokens(models, grams):
        by_kind = {
            kind: compare_pairs(models, grams[tokens], tokens, kind, seed=seed, null=True)
            for kind in KINDS
        }
        for pairs in by_kind.values():
            yield from make_pair_rows(models, pairs)
            yield from families.compare_cka_of_families(models, pairs)
        for a, b in itertools.combinations(models.studied, 2):
            by_type = {kind: pairs.find(a, b) for kind, pairs in by_kind.items()}
            values = {kind: pair.same for kind, pair in by_type.items() if pair}
            names = {"model_a": a, "model_b": b, "tokens": tokens}
            yield from (("types", names | row) for row in _compare_types(values))
        yield from _compare_types_of_families(models, by_kind)
    yield from families.list_members(models)


def _compare_types_of_families(
    models: Models, by_kind: Mapping[str, Pairs]
) -> Iterator[tuple[str, Row]]:
    """Compare the types of layer with each other, averaged over the pairs of a JE and a REC
    model."""
    across = {kind: families.find_pairs(models, pairs)[1] for kind, pairs in by_kind.items()}
    if not all(across.values()):
        return
    grid = max((pair.depths for side in across.values() for pair in side), key=len)
    values = {kind: average([pair.at(grid) for pair in side]) for kind, side in across.items()}
    members = families.describe_members(models)
    names = families.name_families(by_kind["fc1"], JE, REC, len(across["fc1"]), members)
    yield from (("families-types", names | row) for row in _compare_types(values))


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
    grid: list[list[Panel | None]] = [
        [panels.draw_cells(cells, a, b, tokens[0], kind, f"{kind}: {a} · {b}") for kind in KINDS]
        for a, b in pairs
    ]
    drawn = panels.list_drawn(cells)
    for one in tokens:
        grid.append(
            [
                panels.draw_lines(cells, one, kind, f"{kind}, {panels.LABELS[one]}", drawn)
                for kind in KINDS
            ]
        )
    return panels.make_figure("cka-layer-types", grid)
