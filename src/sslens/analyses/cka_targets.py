"""CKA of every tap with known quantities of the images, such as the mean colour: how much of a
layer's similarities these quantities explain."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from sslens.capture import Grams
from sslens.comparisons.inputs import GramSets, Models
from sslens.comparisons.panels import LABELS, list_tokens_in, make_figure, shorten_taps
from sslens.comparisons.roles import PIXELS, list_tokens
from sslens.comparisons.targets import Targets
from sslens.figure import Figure, Heatmap, Panel
from sslens.measures.cka import Comparison
from sslens.statistics.sampled import Sampled
from sslens.table import Results, Table

TITLE = "What do the layers share with what is known of the images?"
CAPTION = (
    "Minibatch CKA with the unbiased HSIC_1 between every layer and what is known of each image:"
    " its class, on generated scenes every factor, and of any image its mean colour, its luminance"
    " and its local contrast at 32 px. The Gram of a quantity is made of its value, of an angle of"
    " its cosine and sine, of a class of a column a class. A CKA near 1 says that the layer lays"
    " images out as the quantity does and little else; one near 0 does not say that the quantity"
    " cannot be read from the layer. Intervals, in the table, are over minibatches. The last maps"
    " are of the controls: a random initialisation, which often is little more than the mean"
    " colour, and raw pixels. A grey cell is undefined: the quantity, or the layer, is the same"
    " for all images."
)
#: maps side by side
ACROSS = 3
#: kinds of taps that are drawn; the others are in the table
DRAWN = ("block", "pixels")
UNITS = {
    "model": "name",
    "control": "whether it is a control",
    "tokens": "which tokens were flattened: all, cls or patch",
    "kind": "what the tap computes",
    "tap": "whose similarities are compared",
    "depth": "relative depth of the tap, 0 to 1",
    "target": "what is known of each image",
    "cka": (
        "minibatch CKA of the tap with the quantity, unbiased; empty where either is the same for"
        " all images and CKA is 0/0"
    ),
    "low": "lower end of the 95 % interval over minibatches",
    "high": "upper end",
    "minibatches": "resampled for the interval",
}


def compute(models: Models, *, grams: GramSets, targets: Targets, seed: int = 0) -> Results:
    """Compute the CKA of every tap with every quantity.

    The table is `targets`; it has a row for each model, choice of tokens, tap and quantity.
    """
    rows = [
        row
        for tokens in list_tokens(models, grams)
        for name, own in grams[tokens].items()
        for row in _rows(own, targets, model=name, tokens=tokens, models=models)
    ]
    return Results({"targets": Table(pd.DataFrame(rows, columns=list(UNITS)), UNITS)})


def _rows(
    grams: Grams, targets: Targets, *, model: str, tokens: str, models: Models
) -> Iterator[dict[str, Any]]:
    sampled = Sampled.of(Comparison.of(grams, targets.grams(grams)))
    low, high = sampled.interval()
    for i, tap in enumerate(grams.taps):
        for j, target in enumerate(targets.values):
            yield {
                "model": model,
                "control": models.is_control(model),
                "tokens": tokens,
                "kind": tap.kind,
                "tap": tap.name,
                "depth": tap.depth,
                "target": target,
                "cka": sampled.value[i, j],
                "low": low[i, j],
                "high": high[i, j],
                "minibatches": sampled.batches,
            }


def draw(results: Results) -> Figure:
    """Draw a heat map of quantities against blocks for each model, the first random initialisation
    and raw pixels; first of all tokens, then of each other choice of tokens."""
    frame = results["targets"]
    frame = frame[frame.kind.isin(DRAWN)]
    rows: list[list[Panel | None]] = []
    for tokens in list_tokens_in(frame):
        shown = frame[frame.tokens == tokens]
        panels: list[Panel | None] = [
            _draw_model(name, tokens, shown[shown.model == name]) for name in _list_drawn(shown)
        ]
        rows += [panels[start : start + ACROSS] for start in range(0, len(panels), ACROSS)]
    return make_figure("cka-targets", rows)


def _list_drawn(frame: pd.DataFrame) -> list[str]:
    """The models under study, one random initialisation, and raw pixels."""
    names = list(dict.fromkeys(frame[~frame.control].model))
    controls = list(dict.fromkeys(frame[frame.control].model))
    random = [name for name in controls if name != PIXELS]
    return [*names, *random[:1], *(name for name in controls if name == PIXELS)]


def _draw_model(name: str, tokens: str, rows: pd.DataFrame) -> Heatmap:
    row, targets = pd.factorize(rows.target[::-1])  # the first quantity at the top
    column, taps = pd.factorize(rows.tap)
    values = np.full((len(targets), len(taps)), np.nan)
    values[row[::-1], column] = rows.cka
    title = name if rows.kind.iloc[0] == "pixels" else f"{name}, {LABELS[tokens]}"
    return Heatmap(
        title,
        values,
        tuple(map(str, targets)),
        shorten_taps(list(taps)),
        x_label="block",
        y_label="",
        limits=(0.0, 1.0),
        unit="CKA",
        facets={"model": name, "tokens": LABELS[tokens]},
        column_notes=tuple(f"{name} {tap}" for tap in taps),
    )
