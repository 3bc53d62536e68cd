"""CKA before and after fine-tuning (figures 5, 6 of Shekhar et al., 2022; figures 4, 8, 9, 10 of
2023; claim C9)."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from sslens.comparisons import families, pairs, panels, roles, tuned
from sslens.comparisons.beside import add_deconfounded, make_rows_with_deconfounded, merge
from sslens.comparisons.contrasts import BETWEEN, MEAN, subtract_kind
from sslens.comparisons.ends import Ends, compare_end, list_thirds
from sslens.comparisons.inputs import GramSets, Models
from sslens.comparisons.pairs import (
    CKA,
    DIFFERENCE,
    Pairs,
    Row,
    make_cka_columns,
    make_contrast_columns,
    make_difference_columns,
)
from sslens.comparisons.pickable import list_pickable
from sslens.comparisons.rises import Rise, Stages
from sslens.comparisons.roles import JE, REC
from sslens.comparisons.trainings import TRAININGS
from sslens.figure import Figure, Lines, Panel
from sslens.statistics.sampled import Sampled
from sslens.table import Results

TITLE = "What does fine-tuning make alike?"
CAPTION = (
    "Minibatch CKA between models before (PT) and after fine-tuning (FT): all four combinations of"
    " two models, block by block, of the first two also by type of layer, then each model with"
    " itself before. Below, the same depth only, for the blocks and for three types of layer,"
    " beside two random initialisations and, where one was fine-tuned likewise, beside that before"
    " and after (dashed): labels make any two networks more alike, and only what ends above them"
    " is due to the pre-training. Bands are 95 % jackknife intervals over minibatches; a"
    " difference, and a difference of two, is paired minibatch by minibatch, and those of the layer"
    " types hold at once."
)
TYPES = ("norm1", "qkv", "fc1")
KINDS = ("block", *TYPES)
#: combinations of two models that are drawn
DRAWN = 3
_PAIR = ("model_a", "model_b", "members", "control", "tokens", "kind")
_FAMILY = families.FAMILIES
#: `matched` has a fine-tuned model with itself before, and there late less early; `fine-tuned` has
#: it with another model, less the same before fine-tuning, and `beyond-control` that rise less the
#: rise of a fine-tuned random initialisation; `ends` has it less that random initialisation with
#: the other model. `families` and what follows are the same of fine-tuned REC models with JE
#: models, averaged; `families-thirds` is about fc1 early and late, and about both fine-tuned, late;
#: `families-rise-by-type` holds the rises in the types of layer against each other.
TABLES = {
    "cells": (*pairs.TABLES["cells"], "tuned_a", "tuned_b"),
    "same-depth": pairs.TABLES["same-depth"],
    "means": pairs.TABLES["means"],
    "late": pairs.TABLES["late"],
    "matched": (*_PAIR, *CKA, *DIFFERENCE, "minibatches", "recipe"),
    "fine-tuned": (*_PAIR, *CKA, *DIFFERENCE, "minibatches"),
    "beyond-control": (*_PAIR, "rise", "low", "high", *DIFFERENCE, "minibatches"),
    "ends": (*_PAIR, *CKA, *DIFFERENCE, "minibatches"),
    "families": add_deconfounded((*_FAMILY, *MEAN, "minibatches")),
    "families-ends": add_deconfounded((*_FAMILY, *MEAN, "minibatches")),
    "families-thirds": add_deconfounded((*_FAMILY, "part", *MEAN, "minibatches")),
    "families-rise-by-type": (*_FAMILY, *BETWEEN, "together", "minibatches"),
    "families-beyond-control": (
        *_FAMILY,
        "rise",
        "low",
        "high",
        *DIFFERENCE,
        "together",
        "minibatches",
    ),
}
UNITS = families.UNITS | {
    "part": "the depths that are averaged",
    "members": "which model is taken for which before fine-tuning, and the models of a family",
    "tuned_a": "whether model_a was fine-tuned",
    "tuned_b": "whether model_b was",
    "recipe": "digest of how model_a was fine-tuned (settings, epochs, images); empty if unknown",
    "rise": "minibatch CKA after fine-tuning less that before, unbiased",
}


def explain_absence(models: Models) -> str | None:
    """Say why there is nothing to show: no model is there both fine-tuned and pre-trained."""
    if tuned.match_origins(_list_studied(models)):
        return None
    return (
        "of no model both a pre-trained and a fine-tuned version are given (the same objective and"
        " architecture)"
    )


def _list_studied(models: Models) -> Models:
    """The models without the controls."""
    return Models(tuple(model for model in models if not model.control))


def compute(models: Models, *, grams: GramSets, seed: int = 0) -> Results:
    """Compute the CKA of all pairs of models by kind of tap, and its rise by fine-tuning.

    Where there is a control, a random initialisation that was fine-tuned by the same recipe, it
    also compares the rise with the control's rise.
    """
    return pairs.make_pair_results(_list_rows(models, grams, seed), TABLES, UNITS)


def _list_rows(models: Models, grams: GramSets, seed: int) -> Iterator[tuple[str, Row]]:
    stages = Stages.of(models)
    after = {name for name in models.studied if roles.is_tuned(models.about(name))}
    pixels = pairs.find_pixels(grams)
    for tokens in roles.list_tokens(models, grams):
        rises: dict[str, tuple[Pairs, Rise]] = {}
        for kind in KINDS:
            compared = pairs.compare_pairs(
                models, grams[tokens], tokens, kind, stages.is_compared, pixels=pixels, seed=seed
            )
            for table, row in make_rows_with_deconfounded(
                lambda found: pairs.make_pair_rows(models, found), compared
            ):
                if table == "cells":
                    row |= {"tuned_a": row["model_a"] in after, "tuned_b": row["model_b"] in after}
                yield table, row
            yield from _list_matches(stages, compared)
            yield from _list_changes(stages, compared)
            rise = stages.compare_rise(compared, stages.rec, stages.je)
            if rise is not None:
                rises[kind] = compared, rise
        beyond = {
            kind: (compared.deconfounded, rise)
            for kind, (compared, rise) in rises.items()
            if compared.deconfounded is not None
        }
        yield from merge(_compare_families(stages, rises), _compare_families(stages, beyond))
        yield from _compare_types(stages, rises)
        yield from _compare_control(stages, rises)


def _compare_families(
    stages: Stages, rises: Mapping[str, tuple[Pairs, Rise]]
) -> Iterator[tuple[str, Row]]:
    """Make the rows of `families`, `families-ends` and `families-thirds`."""
    by_kind = {kind: Ends(stages, compared) for kind, (compared, _) in rises.items()}
    for kind, (compared, rise) in rises.items():
        names = _name_families(stages, compared, rise)
        change, end = by_kind[kind].compare_rise(), by_kind[kind].compare_ends()
        if change is not None:
            yield "families", names | change.row(f"{REC} · {JE}, both pre-trained")
        if end is not None:
            controls = roles.list_names(by_kind[kind].list_after(by_kind[kind].controls))
            yield "families-ends", names | end.row(f"{controls} · {JE}")
    for kind, part, contrast, less in list_thirds(by_kind):
        names = _name_families(stages, *rises[kind])
        if kind == "block":
            names |= {"model_b": f"{JE}, fine-tuned"}
        yield "families-thirds", names | {"part": part} | contrast.row(less)


def _name_families(stages: Stages, compared: Pairs, rise: Rise) -> Row:
    """Make the columns of a row about families: each fine-tuned model with its model before
    fine-tuning, and the JE models."""
    matches = [
        tuned.describe_match(stages.models, name, stages.before[name]) for name in stages.rec
    ]
    members = "; ".join([*matches, f"{JE}: {roles.list_names(stages.je)}"])
    return families.name_families(compared, f"{REC}, fine-tuned", JE, rise.count, members)


def _name_pair(stages: Stages, compared: Pairs, name: str, other: str) -> Row:
    """The columns of a row of a fine-tuned model and another."""
    return {
        "model_a": name,
        "model_b": other,
        "members": tuned.describe_match(stages.models, name, stages.before[name]),
        "control": tuned.is_control(stages.models.about(name)),
        "tokens": compared.tokens,
        "kind": compared.kind,
    }


def _list_matches(stages: Stages, compared: Pairs) -> Iterator[tuple[str, Row]]:
    """Make the rows of `matched`: the CKA of each fine-tuned model with its model before
    fine-tuning, and the difference between the last and the first third of the depths."""
    for name, first in stages.before.items():
        pair = compared.find(name, first)
        if pair:
            late, early = pair.thirds()
            contrast = make_contrast_columns(late, "the first third", early)
            names = _name_pair(stages, compared, name, first)
            recipe = {"recipe": stages.models.about(name).recipe or ""}
            yield "matched", names | make_cka_columns(pair.same.mean()) | contrast | recipe


def _list_changes(stages: Stages, compared: Pairs) -> Iterator[tuple[str, Row]]:
    """Make the rows of `fine-tuned` and `beyond-control`.

    For each fine-tuned model and each other pre-trained model, they have CKA after less CKA before,
    and this rise less the control's rise.
    """
    others = [
        name for name in stages.models.studied if not roles.is_tuned(stages.models.about(name))
    ]
    for (name, first), other in itertools.product(stages.before.items(), others):
        rise = stages.compare_rise(compared, [name], [other]) if other != first else None
        if rise is None:
            continue
        names = _name_pair(stages, compared, name, other)
        contrast = make_contrast_columns(rise.after, f"{first} · {other}", rise.before)
        yield "fine-tuned", names | make_cka_columns(rise.after) | contrast
        if rise.control is not None and not names["control"]:
            less = stages.describe_control([name], other)
            end = compare_end(Ends(stages, compared), name, other)
            if end is not None:
                level, against, control = end
                contrast = make_contrast_columns(level, control, against)
                yield "ends", names | make_cka_columns(level) | contrast
            contrast = make_contrast_columns(rise.rise, less, rise.control)
            yield "beyond-control", names | _fill_rise(rise.rise) | contrast


def _compare_types(
    stages: Stages, rises: Mapping[str, tuple[Pairs, Rise]]
) -> Iterator[tuple[str, Row]]:
    """Compare the rise of CKA in norm1 and in qkv with the rise in fc1, by simultaneous
    intervals."""
    if not set(TYPES) <= set(rises):
        return
    fc1 = rises["fc1"][1].rise
    kinds = ("norm1", "qkv")
    more = Sampled.stack([rises[kind][1].rise - fc1 for kind in kinds])
    fc1_pairs = rises["fc1"][0]
    for kind, difference in zip(kinds, _list_differences(more, "the rise in fc1"), strict=True):
        compared, rise = rises[kind]
        names = _name_families(stages, compared, rise) | make_cka_columns(rise.after) | difference
        contrast = Ends(stages, compared).compare_rise(lambda pair: subtract_kind(pair, fc1_pairs))
        if contrast is not None:
            row = contrast.row("the rise in fc1", len(kinds))
            names |= {column: row[column] for column in TRAININGS}
        yield "families-rise-by-type", names


def _compare_control(
    stages: Stages, rises: Mapping[str, tuple[Pairs, Rise]]
) -> Iterator[tuple[str, Row]]:
    """Compare the rise of CKA with the control's rise, for the blocks and for the types of layer.

    The intervals of the types are simultaneous.
    """
    for kinds in (("block",), TYPES):
        beyond = {kind: rises[kind][1].beyond for kind in kinds if kind in rises}
        present = {kind: value for kind, value in beyond.items() if value is not None}
        if not present:
            continue
        less = stages.describe_control(stages.rec, JE)
        differences = _list_differences(Sampled.stack(list(present.values())), less)
        for kind, difference in zip(present, differences, strict=True):
            compared, rise = rises[kind]
            names = _name_families(stages, compared, rise)
            yield "families-beyond-control", names | _fill_rise(rise.rise) | difference


def _fill_rise(rise: Sampled) -> Row:
    """The columns of a rise of CKA, and the number of minibatches."""
    row = make_cka_columns(rise)
    return {"rise": row.pop("cka")} | row


def _list_differences(differences: Sampled, less: str) -> Iterator[Row]:
    """Make the columns of several differences, with simultaneous intervals."""
    several = len(differences.value) > 1
    low, high = differences.simultaneous_interval() if several else differences.interval()
    for k, value in enumerate(differences.value):
        row = make_difference_columns(less, float(value), float(low[k]), float(high[k]))
        yield row | {"together": len(differences.value)}


def draw(results: Results) -> Figure:
    """Draw heat maps of models before and after fine-tuning, then curves of CKA by kind of tap.

    A row of heat maps has two models in the four combinations of before and after. Further rows
    have each model before fine-tuning with itself after it.
    """
    rows = results["cells"]
    cells = panels.Cells.of(rows)
    before = list_before(results)
    tokens = cells.tokens()
    combinations = _list_combinations(results, before, tokens[0])[:DRAWN]
    kinds = [kind for kind in KINDS if (rows.kind == kind).any()]
    heat = [(four, kind) for four in combinations[:1] for kind in kinds]
    heat += [(four, "block") for four in combinations[1:]]
    grid: list[list[Panel | None]] = [
        [_draw_stages(cells, rows, a, b, tokens[0], kind) for a, b in four] for four, kind in heat
    ]
    own = [(first, name) for name, first in before.items()]
    grid += [
        [_draw_stages(cells, rows, a, b, tokens[0], "block") for a, b in own[i : i + 4]]
        for i in range(0, len(own), 4)
    ]
    for four, one in itertools.product(combinations or [own], tokens[:2]):
        grid.append([_draw_lines(cells, results, one, kind, four) for kind in kinds])
    first = [*itertools.chain.from_iterable(combinations or [own])]
    return panels.make_figure("cka-finetune", grid, list_pickable(results, first))


def _list_combinations(
    results: Results, before: Mapping[str, str], tokens: str
) -> list[list[tuple[str, str]]]:
    """List, once for each two models, their combinations before and after fine-tuning: four if both
    are fine-tuned, else two."""
    if "fine-tuned" not in results:
        return []
    rows = results["fine-tuned"]
    rows = rows[(rows.tokens == tokens) & (rows.kind == "block") & ~rows.control]
    after = {first: name for name, first in reversed(list(before.items()))}
    combined: dict[frozenset[str], list[tuple[str, str]]] = {}
    for name, other in zip(rows.model_a, rows.model_b, strict=True):
        first = before[name]
        four = [(first, other), (name, other)]
        if other in after:
            four += [(first, after[other]), (name, after[other])]
        combined.setdefault(frozenset((first, other)), four)
    return list(combined.values())


def _draw_stages(
    cells: panels.Cells, rows: pd.DataFrame, a: str, b: str, tokens: str, kind: str
) -> Panel | None:
    """A heat map whose title says which of the two models was fine-tuned."""
    after = set(rows[rows.tuned_a].model_a) | set(rows[rows.tuned_b].model_b)
    title = " · ".join(f"{name} ({'FT' if name in after else 'PT'})" for name in (a, b))
    return panels.draw_cells(
        cells, a, b, tokens, kind, title if kind == "block" else f"{kind}: {title}"
    )


def _draw_lines(
    cells: panels.Cells,
    results: Results,
    tokens: str,
    kind: str,
    four: Sequence[tuple[str, str]],
) -> Lines:
    """Draw the combinations of two models, and as dashed lines the controls: two random
    initialisations, and the second model with a control before and after fine-tuning."""
    panel = panels.draw_lines(cells, tokens, kind, f"{kind}, {panels.LABELS[tokens]}", four)
    other, before = four[0][1], list_before(results)
    controls: list[str] = []
    if "fine-tuned" in results:
        rows = results["fine-tuned"]
        controls = list(dict.fromkeys(rows[rows.control & (rows.model_b == other)].model_a))
    stages = [(one, other) for name in controls for one in (before[name], name)][:2]
    lines = (
        panels.draw_line(cells, a, b, tokens, kind)
        for a, b in [*panels.list_beside(cells, ()), *stages]
    )
    dashed = (replace(line, control=True) for line in lines if line is not None)
    return replace(panel, lines=(*panel.lines, *dashed))


def list_before(results: Results) -> dict[str, str]:
    """Read the name of the model before fine-tuning, by the name of the fine-tuned model."""
    if "matched" not in results:
        return {}
    rows = results["matched"]
    return dict(zip(rows.model_a, rows.model_b, strict=True))
