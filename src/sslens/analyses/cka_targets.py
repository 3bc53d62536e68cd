"""CKA of every tap with known quantities of the images, such as the mean colour: how much of a
layer's similarities these quantities explain."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from sslens.capture import Grams
from sslens.comparisons.inputs import GramSets, Models
from sslens.comparisons.targets import Targets
from sslens.figure import Figure, Line, Lines, Panel
from sslens.measures.cka import Comparison
from sslens.statistics.sampled import Sampled
from sslens.table import Results, Table

TITLE = "What known quantities are the layers alike to?"
CAPTION = (
    "Minibatch CKA with the unbiased HSIC_1 between every tap and what is known of each image: its"
    " class, on generated scenes every factor, and of any image its mean colour, its luminance and"
    " its local contrast at 32 px. The Gram of a quantity is made of its value, of an angle of its"
    " cosine and sine, of a class of a column a class. A CKA near 1 says that the layer lays images"
    " out as the quantity does and little else; one near 0 does not say that the quantity cannot be"
    " read from the layer. Bands are 95 % bootstrap intervals over minibatches. Dashed lines are"
    " controls: random initialisations, which often are little more than the mean colour, and raw"
    " pixels. Drawn for all tokens after every block; other tokens and taps are in the table."
)
ON_REQUEST = True
#: panels side by side
ACROSS = 4
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
    "low": "lower end of the 95 % bootstrap interval over minibatches",
    "high": "upper end",
    "minibatches": "drawn from by the bootstrap",
}


def compute(models: Models, *, grams: GramSets, targets: Targets, seed: int = 0) -> Results:
    """Compute the CKA of every tap with every quantity.

    The table is `targets`; it has a row for each model, choice of tokens, tap and quantity.
    """
    rows = [
        row
        for tokens, sets in grams.items()
        for name, own in sets.items()
        for row in _rows(own, targets, seed, model=name, tokens=tokens, models=models)
    ]
    return Results({"targets": Table(pd.DataFrame(rows, columns=list(UNITS)), UNITS)})


def _rows(
    grams: Grams, targets: Targets, seed: int, *, model: str, tokens: str, models: Models
) -> Iterator[dict[str, Any]]:
    sampled = Sampled.of(Comparison.of(grams, targets.grams(grams)), seed=seed)
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
    """Draw a panel for each quantity: CKA after every block against depth, with one curve per
    model. Raw pixels are a horizontal line."""
    frame = results["targets"]
    tokens = frame.tokens.iloc[0]
    shown = frame[(frame.tokens == tokens) & frame.kind.isin(("block", "pixels"))]
    panels: list[Panel | None] = [
        Lines(
            str(target),
            "relative depth",
            "CKA with the quantity",
            tuple(_lines(shown[shown.target == target])),
            (-0.1, 1.05),
        )
        for target in frame.target.unique()
    ]
    across = min(ACROSS, len(panels))
    panels += [None] * (-len(panels) % across)
    rows = (tuple(panels[start : start + across]) for start in range(0, len(panels), across))
    return Figure("cka-targets", tuple(rows))


def _lines(frame: pd.DataFrame) -> Iterator[Line]:
    for name, rows in frame.groupby("model", sort=False):
        ordered = rows.sort_values("depth")
        if ordered.kind.iloc[0] == "pixels":
            ordered = pd.concat([ordered.assign(depth=0.0), ordered.assign(depth=1.0)])
        x, y, low, high = (
            ordered[column].to_numpy(np.float64) for column in ("depth", "cka", "low", "high")
        )
        yield Line(str(name), x, y, low, high, control=bool(rows.control.iloc[0]))
