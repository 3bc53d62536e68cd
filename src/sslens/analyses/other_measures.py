"""The same pairs of models by every measure of similarity: whether a conclusion rests on CKA
alone."""

import itertools
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from sslens.capture import Grams
from sslens.comparisons.inputs import GramSets, Models
from sslens.comparisons.nulls import match_depths
from sslens.comparisons.pairs import Row, choose_kind, find_pixels
from sslens.comparisons.panels import make_figure
from sslens.comparisons.roles import PIXELS, find_twins, list_tokens
from sslens.figure import Figure, Line, Lines
from sslens.find import names, plugin
from sslens.measures import explain_lack, measure
from sslens.table import Results, Table

TITLE = "Does another measure say the same?"
CAPTION = (
    "Models at the same relative depth by every measure of similarity there is, computed from the"
    " same Grams of the blocks. The scales differ: what counts is the order of the curves. Dashed"
    " lines are controls, random initialisations with each other and with a model, and raw pixels"
    " with a model. The measures other than minibatch CKA have no intervals here, so that small"
    " differences prove nothing."
)
#: the kind of tap that is compared
KIND = "block"
#: pairs of models at most, beside the controls
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
    "value": (
        "the measure; empty where it is undefined: a tap is constant over images, or, of"
        " deconfounded CKA, the pixels explain over 95 % of a tap"
    ),
}


def explain_absence(models: Models) -> str | None:
    """Say why there is nothing to show: there is only one model and no control.

    A model equals itself by every measure, so that a comparison needs two.
    """
    return None if len(models) > 1 else "it needs two models, or one and its controls"


def compute(models: Models, *, grams: GramSets, seed: int = 0) -> Results:
    """Compare the first pairs of models, and controls, by every measure at the same relative depth.

    The table is `values`. Measures that need the Grams of raw pixels are left out if there are no
    such Grams. Nothing is random here, so that the seed has no effect.
    """
    tokens = list_tokens(models, grams)[0]
    blocks = {name: choose_kind(own, KIND) for name, own in grams[tokens].items()}
    rows: list[Row] = []
    pixels = find_pixels(grams)
    for a, b in _choose_pairs(models, blocks):
        control = models.is_control(a) or models.is_control(b)
        pair = {"model_a": a, "model_b": b, "control": control, "tokens": tokens}
        for name in names("measures"):
            if explain_lack(name, pixels) is None:
                rows += _list_rows(name, blocks[a], blocks[b], pixels, pair)
    return Results({"values": Table(pd.DataFrame(rows, columns=list(UNITS)), UNITS)})


def _choose_pairs(models: Models, grams: Mapping[str, Grams]) -> list[tuple[str, str]]:
    """The first pairs of models, two random initialisations, and a model with one of these and with
    raw pixels."""
    with_taps = {name for name, own in grams.items() if own.taps}
    studied = [name for name in models.studied if name in with_taps]
    pairs = list(itertools.combinations(studied, 2))
    twins = find_twins(models, *(pairs[0] if pairs else (studied[0], studied[0])))
    random = [twins] if twins and with_taps.issuperset(twins) else []
    beside = [
        (studied[0], name)
        for name in (*(random[0][:1] if random else ()), PIXELS)
        if name in models.controls
    ]
    return [*pairs[:PAIRS], *random, *beside]


def _list_rows(name: str, a: Grams, b: Grams, pixels: Grams | None, pair: Row) -> Iterator[Row]:
    """One measure of two models at each of the same depths."""
    module = plugin("measures", name)
    values = measure(name, a, b, pixels)
    lowest, highest = module.RANGE
    about = {"measure": name, "title": module.TITLE, "lowest": lowest, "highest": highest}
    longer = a if len(a.taps) >= len(b.taps) else b
    for tap, (i, j) in zip(longer.taps, match_depths(a, b), strict=True):
        taps = {"tap_a": a.taps[i].name, "tap_b": b.taps[j].name, "depth": tap.depth}
        yield pair | about | taps | {"value": values[i, j]}


def draw(results: Results) -> Figure:
    """Draw a panel for each measure, with one curve per pair of models."""
    panels: list[Lines | None] = []
    for _, rows in results["values"].groupby("measure", sort=False):
        lines = (
            _draw_line(points) for _, points in rows.groupby(["model_a", "model_b"], sort=False)
        )
        low, high = float(rows.lowest.iloc[0]), float(rows.highest.iloc[0])
        limits = (max(low, -0.1) - 0.02, high + 0.05) if np.isfinite(high) else None
        title = rows.title.iloc[0]
        defined = tuple(line for line in lines if line is not None)
        facets = {"measure": str(title)}
        panels.append(Lines(title, "relative depth", title, defined, limits, facets=facets))
    return make_figure("other-measures", [panels[i : i + 3] for i in range(0, len(panels), 3)])


def _draw_line(points: pd.DataFrame) -> Line | None:
    """A measure by depth; None where nothing is defined."""
    if points.value.isna().all():
        return None
    ordered = points.sort_values("depth")
    name = f"{points.model_a.iloc[0]} · {points.model_b.iloc[0]}"
    x, y = (ordered[column].to_numpy(float) for column in ("depth", "value"))
    return Line(name, x, y, control=bool(points.control.any()))
