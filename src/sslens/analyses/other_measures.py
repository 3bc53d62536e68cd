"""The same pairs of models by every measure of similarity: whether a conclusion rests on CKA
alone."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sslens.capture import Grams
from sslens.comparisons import panels as _panels
from sslens.comparisons import untyped as _roles
from sslens.comparisons.inputs import Inputs
from sslens.comparisons.nulls import same_depth
from sslens.comparisons.pairs import choose_kind
from sslens.figure import Figure, Line, Lines
from sslens.find import names, plugin
from sslens.measures import lack, measure
from sslens.models.about import About
from sslens.table import Table

TITLE = "Does another measure say the same?"
CAPTION = (
    "Models at the same relative depth by every measure of similarity there is, computed from the"
    " same Grams of the blocks. The scales differ: what counts is the order of the curves. Dashed"
    " lines are controls, random initialisations with each other and with a model, and raw pixels"
    " with a model. The measures other than minibatch CKA have no intervals here, so that small"
    " differences prove nothing."
)
VERSION = 2
NEEDS = ("grams",)
KIND = "block"
#: pairs of models
PAIRS = 5
UNITS = {
    "measure": "file of measures/",
    "title": "what the measure is called",
    "lowest": "least value the measure can have",
    "highest": "largest value the measure can have",
    "model_a": "name",
    "model_b": "name",
    "control": "whether a control is among the two",
    "tokens": "which tokens were flattened: all, cls or patch",
    "tap_a": "tap of model_a",
    "tap_b": "tap of model_b, at the nearest relative depth",
    "depth": "relative depth, 0 to 1, in the model with more taps",
    "value": "the measure; empty where it is undefined because a tap is constant over images",
}


def without(about: Mapping[str, About], controls: Sequence[str]) -> str | None:
    """Every measure has a model like itself."""
    return None if len(about) > 1 else "it needs two models, or one and its controls"


def compute(inputs: Inputs) -> Table:
    """Every measure of the first pairs of models, and of the controls, at the same relative
    depth."""
    tokens = _roles.tokens(inputs)[0]
    grams = {name: choose_kind(each, KIND) for name, each in inputs.grams[tokens].items()}
    rows: list[dict[str, Any]] = []
    for a, b in _chosen(inputs, grams):
        known = {
            "model_a": a,
            "model_b": b,
            "control": not {a, b} <= set(inputs.models),
            "tokens": tokens,
        }
        for name in names("measures"):
            if lack(name, grams.get("pixels")) is None:
                rows += _rows(name, grams[a], grams[b], grams.get("pixels"), known)
    return Table(pd.DataFrame(rows, columns=list(UNITS)), UNITS)


def _chosen(inputs: Inputs, grams: Mapping[str, Grams]) -> list[tuple[str, str]]:
    """The first pairs of models, two random initialisations, and a model with one of these and with
    raw pixels."""
    models = [name for name in inputs.models if name in grams and grams[name].taps]
    pairs = list(itertools.combinations(models, 2))
    twins = _roles.twins(inputs, *(pairs[0] if pairs else (models[0], models[0])))
    random = [twins] if twins and all(name in grams and grams[name].taps for name in twins) else []
    beside = [
        (models[0], name)
        for name in (*(random[0][:1] if random else ()), "pixels")
        if name in inputs.controls
    ]
    return [*pairs[:PAIRS], *random, *beside]


def _rows(
    name: str, a: Grams, b: Grams, pixels: Grams | None, known: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    module = plugin("measures", name)
    values = measure(name, a, b, pixels)
    lowest, highest = module.RANGE
    longer = a if len(a.taps) >= len(b.taps) else b
    for tap, (i, j) in zip(longer.taps, same_depth(a, b), strict=True):
        measured = {"measure": name, "title": module.TITLE, "lowest": lowest, "highest": highest}
        taps = {"tap_a": a.taps[i].name, "tap_b": b.taps[j].name, "depth": tap.depth}
        yield known | measured | taps | {"value": values[i, j]}


def draw(table: Table) -> Figure:
    """A panel a measure, a line a pair."""
    frame = table.frame
    panels: list[Lines | None] = []
    for _, here in frame.groupby("measure", sort=False):
        lines = [
            line
            for _, points in here.groupby(["model_a", "model_b"], sort=False)
            if (line := _line(points))
        ]
        low, high = float(here.lowest.iloc[0]), float(here.highest.iloc[0])
        limits = (max(low, -0.1) - 0.02, high + 0.05) if np.isfinite(high) else None
        panels.append(
            Lines(here.title.iloc[0], "relative depth", here.title.iloc[0], tuple(lines), limits)
        )
    return _panels.make_figure(
        "other-measures", [panels[i : i + 3] for i in range(0, len(panels), 3)]
    )


def _line(points: pd.DataFrame) -> Line | None:
    if points.value.isna().all():
        return None
    ordered = points.sort_values("depth")
    name = f"{points.model_a.iloc[0]} · {points.model_b.iloc[0]}"
    x, y = (ordered[column].to_numpy(float) for column in ("depth", "value"))
    return Line(name, x, y, control=bool(points.control.any()))


def findings(table: Table) -> tuple[str, ...]:
    """Which pair every measure puts first, and which pairs lie above two random initialisations by
    which measure."""
    frame = table.frame
    frame = frame.assign(pair=frame.model_a + " and " + frame.model_b)
    mean = frame.groupby(["measure", "pair"], sort=False).value.mean().unstack("pair", sort=False)
    models = [
        pair for pair in dict.fromkeys(frame[~frame.control].pair) if mean[pair].notna().all()
    ]
    said = [_order(mean[models])] if len(models) > 1 else []
    control = _random(frame)
    if control is not None:
        said += [_against(mean, pair, control) for pair in models]
    return tuple(said)


def _random(frame: pd.DataFrame) -> str | None:
    """The pair of two controls, where there is one: only those of a model have it in common with
    other rows."""
    alone = set(frame[~frame.control].model_a) | set(frame[~frame.control].model_b)
    rows = frame[frame.control & ~frame.model_a.isin(alone)]
    return None if rows.empty else str(rows.pair.iloc[0])


def _order(mean: pd.DataFrame) -> str:
    first = mean.idxmax(axis=1)
    best = first["cka"]
    orders = {
        measure: tuple(row.sort_values(ascending=False).index) for measure, row in mean.iterrows()
    }
    other = [measure for measure in orders if orders[measure] != orders["cka"]]
    count = len(mean)
    if not other:
        return (
            f"All {count} measures order the {mean.shape[1]} pairs alike, {best} first, by their"
            " mean at the same depth."
        )
    different = [str(measure) for measure in other]
    if (first == best).all():
        return (
            f"All {count} measures find {best} most alike; {_roles.listed(different)} order the"
            " other pairs unlike CKA."
        )
    parts = [f"{first[measure]} by {measure}" for measure in first.index if first[measure] != best]
    return f"The measures do not agree which pair is most alike: {best} by CKA, {', '.join(parts)}."


def _against(mean: pd.DataFrame, pair: str, control: str) -> str:
    above = [
        str(measure)
        for measure in mean.index
        if mean.loc[measure, pair] > mean.loc[measure, control]
    ]
    if len(above) == len(mean):
        return f"By all {len(mean)} measures {pair} are more alike than {control}."
    if not above:
        return f"By none of {len(mean)} measures {pair} are more alike than {control}."
    return (
        f"By {_roles.listed(above)}, and not by the other measures, {pair} are more alike than"
        f" {control}."
    )
