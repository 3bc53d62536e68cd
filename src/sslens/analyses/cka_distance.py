"""CKA against the distance of two blocks in depth, across architectures (figure 11 of Shekhar et
al., 2023; claim C4)."""

import itertools
from collections.abc import Iterator, Sequence

import pandas as pd

from sslens.comparisons import families, pairs, panels, roles
from sslens.comparisons.beside import add_deconfounded, make_rows_with_deconfounded
from sslens.comparisons.distances import DEPTH, STEPS, average_by_distance, fit_slope
from sslens.comparisons.inputs import GramSets, Models
from sslens.comparisons.pairs import (
    CKA,
    DIFFERENCE,
    Pair,
    Pairs,
    Row,
    make_cka_columns,
    make_contrast_columns,
    make_difference_columns,
)
from sslens.comparisons.roles import JE, PIXELS, REC
from sslens.comparisons.trainings import count_trainings_once
from sslens.figure import Figure, Line, Lines
from sslens.statistics.sampled import Sampled, average
from sslens.table import Results

TITLE = "Objective or architecture?"
CAPTION = (
    "Minibatch CKA of all pairs of blocks of two models against their distance: above of their"
    " relative depths, averaged within steps of 0.1, below of the blocks' numbers. The papers leave"
    " open which of the two they mean. A transformer and a CNN of one family of objectives are held"
    " against two transformers of different families: where the first curve lies above, the"
    " objective decides more than the architecture. Bands are 95 % intervals over minibatches;"
    " differences are paired, and those at all distances hold at once. Deconfounded CKA, what is"
    " left when the raw pixels are regressed out, is in the tables. The dashed line is the control:"
    " random initialisations of two architectures."
)
KIND = "block"
_SLOPE = ("slope", "low", "high")
_CURVE = ("tokens", "unit", "distance", "cells", *CKA, "minibatches")
_OBJECTIVE = ("model_a", "model_b", "family", "pairs", "tokens")
_TWO = ("model_a", "model_b", "family", "across")
#: `curves` have a pair of models at a distance, and `control` the same of random initialisations;
#: `pairs` have two models at the same depth, and `slopes` the line through their curve. `objective`
#: has the pairs of one family across architectures less the pairs across families, at the same
#: depth, `objective-by-distance` the same at each distance, and `slope-differences` of the slopes
_TABLES = {
    "curves": (*_TWO, *_CURVE),
    "control": ("model_a", "model_b", *_CURVE),
    "pairs": (*_TWO, "tokens", *CKA, "minibatches"),
    "slopes": (*_TWO, "tokens", "unit", *_SLOPE, "minibatches"),
    "objective": (*_OBJECTIVE, *CKA, *DIFFERENCE, "minibatches"),
    "objective-by-distance": (
        *_OBJECTIVE,
        "unit",
        "distance",
        *CKA,
        *DIFFERENCE,
        "together",
        "minibatches",
    ),
    "slope-differences": (*_OBJECTIVE, "unit", *_SLOPE, *DIFFERENCE, "minibatches"),
}
TABLES = {name: add_deconfounded(columns) for name, columns in _TABLES.items()}
UNITS = pairs.UNITS | {
    "model_a": "name of a model, or a family and architecture where pairs are averaged",
    "model_b": "name of a model, or a family and architecture",
    "family": "the family that a comparison is about; of two models the family of both, or empty",
    "across": (
        "what two models differ in: architectures (transformer and CNN of one family), families"
        " (two transformers, JE and REC), or other"
    ),
    "unit": "of the distance: depth (relative), or layers (numbers of blocks)",
    "distance": "middle of the step of |depth_a - depth_b|, or difference of the blocks' numbers",
    "cells": "pairs of blocks averaged",
    "cka": "mean minibatch CKA, unbiased",
    "slope": "least-squares slope of CKA over distance, a unit of distance",
    "deconfounded_slope": "the same of deconfounded CKA",
}


def explain_absence(models: Models) -> str | None:
    """Say why there is nothing to show: there are fewer than two models under study."""
    names = [name for name in models.studied if name != PIXELS]
    return None if len(names) > 1 else "it needs two models, best a transformer and a CNN"


def on_request(models: Models) -> bool:
    """Whether all models are CNNs, or all are not; then the user must ask for this analysis."""
    names = [name for name in models.studied if name != PIXELS]
    return len({roles.is_cnn(models.about(name)) for name in names}) < 2


def compute(models: Models, *, grams: GramSets, seed: int = 0) -> Results:
    """Compute CKA against the distance of two blocks, in relative depth and in layers.

    The table `curves` has a curve for each pair of models, and `control` has one for two random
    initialisations; `slopes` has the slope of each curve. The tables `objective` and
    `objective-by-distance` compare the CKA of a transformer and a CNN of one family with the CKA of
    two transformers of different families, and `slope-differences` their slopes.
    """
    tokens = roles.list_tokens(models, grams)[0]

    def wanted(a: str, b: str) -> bool:
        alike = models.is_control(a) == models.is_control(b)
        return a != b and alike and PIXELS not in (a, b)

    pixels = pairs.find_pixels(grams)
    compared = pairs.compare_pairs(
        models, grams[tokens], tokens, KIND, wanted, pixels=pixels, seed=seed
    )
    rows = make_rows_with_deconfounded(lambda found: _list_rows(models, found), compared)
    return pairs.make_pair_results(rows, TABLES, UNITS)


def _list_rows(models: Models, compared: Pairs) -> Iterator[tuple[str, Row]]:
    tokens = {"tokens": compared.tokens}
    for pair in compared:
        if not pair.control:
            names = {"model_a": pair.a, "model_b": pair.b} | _describe_difference(models, pair)
            names |= tokens
            yield from (("curves", names | row) for row in _list_points(pair))
            yield "pairs", names | make_cka_columns(pair.same.mean())
            for unit in STEPS:
                yield "slopes", names | {"unit": unit} | _make_slope_columns(fit_slope(pair, unit))
    control = _find_control(models, compared)
    if control is not None:
        names = {"model_a": control.a, "model_b": control.b}
        yield from (("control", names | tokens | row) for row in _list_points(control))
    for family, other in ((JE, REC), (REC, JE)):
        for table, row in _compare_objective(models, compared, family, other):
            yield table, tokens | row


def _describe_difference(models: Models, pair: Pair) -> dict[str, str]:
    """The family of two pre-trained models, and what they differ in."""
    abouts = [models.about(name) for name in (pair.a, pair.b)]
    both = {about.family or "" for about in abouts}
    networks = {roles.is_cnn(about) for about in abouts}
    pretrained = both <= {JE, REC} and not any(roles.is_tuned(about) for about in abouts)
    if pretrained and len(both) == 1 and len(networks) == 2:
        return {"family": both.pop(), "across": "architectures"}
    across = "families" if pretrained and len(both) == 2 and networks == {False} else "other"
    return {"family": "", "across": across}


def _find_control(models: Models, compared: Pairs) -> Pair | None:
    """Random initialisations of the first two models of different architecture, else of the first
    two models."""
    twos = list(itertools.combinations(models.studied, 2))
    apart = [two for two in twos if len({roles.is_cnn(models.about(name)) for name in two}) == 2]
    twins = roles.find_twins(models, *(apart or twos)[0])
    return compared.find(*twins) if twins else None


def _list_points(pair: Pair) -> Iterator[Row]:
    """Make one row for each step of distance."""
    for unit, width in STEPS.items():
        for step, (mean, cells) in average_by_distance(pair, unit).items():
            row = {"unit": unit, "distance": step * width, "cells": cells}
            yield row | make_cka_columns(mean)


def _make_slope_columns(slope: Sampled) -> Row:
    """The columns of a slope, and the number of minibatches."""
    row = make_cka_columns(slope)
    return {"slope": row.pop("cka")} | row


def _compare_objective(
    models: Models, compared: Pairs, family: str, other: str
) -> Iterator[tuple[str, Row]]:
    """Transformers with CNNs of their family, less transformers with transformers of the other
    family."""
    cnns = [name for name in models.studied if roles.is_cnn(models.about(name))]
    transformers = [name for name in models.studied if name not in cnns]
    own, own_cnns, others = (
        count_trainings_once(models, roles.list_pretrained(models, names, side))
        for names, side in ((transformers, family), (cnns, family), (transformers, other))
    )
    inside = compared.find_all(own, own_cnns)
    outside = compared.find_all(own, others)
    if not inside or not outside:
        return
    names: Row = {"model_a": f"{family} transformer", "model_b": f"{family} CNN", "family": family}
    names["pairs"] = len(inside)
    less = f"{family} transformer · {other} transformer"
    value, against = families.average_same(inside), families.average_same(outside)
    yield "objective", names | make_cka_columns(value) | make_contrast_columns(value, less, against)
    for unit in STEPS:
        named = names | {"unit": unit}
        slope, against = (
            average([fit_slope(pair, unit) for pair in side]) for side in (inside, outside)
        )
        row = _make_slope_columns(slope) | make_contrast_columns(slope, less, against)
        yield "slope-differences", named | row
        for row in _compare_by_distance(inside, outside, unit, less):
            yield "objective-by-distance", named | row


def _compare_by_distance(
    inside: Sequence[Pair], outside: Sequence[Pair], unit: str, less: str
) -> Iterator[Row]:
    """The CKA of some pairs less the CKA of others at each distance, with simultaneous
    intervals."""
    steps = [[average_by_distance(pair, unit) for pair in side] for side in (inside, outside)]
    shared = sorted(set.intersection(*(set(means) for side in steps for means in side)))
    near, far = (
        Sampled.stack([average([means[step][0] for means in side]) for step in shared])
        for side in steps
    )
    difference = near - far
    low, high = difference.simultaneous_interval()
    for k, step in enumerate(shared):
        numbers = float(difference.value[k]), float(low[k]), float(high[k])
        row = {"distance": step * STEPS[unit], "together": len(shared)}
        yield row | make_cka_columns(near[k]) | make_difference_columns(less, *numbers)


def draw(results: Results) -> Figure:
    """Draw a panel for each family with a CNN: its curves across architectures, and the curves
    across families; in the first row by relative depth, in the second by numbers of blocks.

    Without such a family, draw one panel a row with the curves of all pairs.
    """
    names = list(dict.fromkeys(results["objective"].family)) if "objective" in results else []
    rows = []
    for unit in STEPS:
        curves = results["curves"]
        curves = curves[curves.unit == unit]
        family_panels = [
            _draw_panel(results, select_curves(curves, family), f"{family} across architectures")
            for family in names
        ]
        rows.append(family_panels or [_draw_panel(results, curves, "All pairs of models")])
    return panels.make_figure("cka-distance", rows)


def select_curves(curves: pd.DataFrame, family: str) -> pd.DataFrame:
    """Select the curves of a family across architectures, and of transformers across families."""
    return curves[
        ((curves.across == "architectures") & (curves.family == family))
        | (curves.across == "families")
    ]


def _draw_panel(results: Results, curves: pd.DataFrame, title: str) -> Lines:
    by_pair = curves.groupby(["model_a", "model_b"], sort=False)
    lines = [_draw_line(points, f"{a} · {b}") for (a, b), points in by_pair]
    unit = curves.unit.iloc[0] if len(curves) else DEPTH
    if "control" in results:
        control = results["control"]
        control = control[control.unit == unit]
        name = f"{control.model_a.iloc[0]} · {control.model_b.iloc[0]}"
        lines.append(_draw_line(control, name, control=True))
    label = "distance of relative depths" if unit == DEPTH else "difference of the blocks' numbers"
    facets = {"curves": title, "distance": label}
    return Lines(title, label, "CKA", tuple(lines), (-0.1, 1.05), facets=facets)


def _draw_line(points: pd.DataFrame, name: str, *, control: bool = False) -> Line:
    x, y, low, high = (
        points[column].to_numpy(float) for column in ("distance", "cka", "low", "high")
    )
    return Line(name, x, y, low, high, control=control)
