"""20-NN accuracy after every block, by pooling (figure 3 of Shekhar et al., 2022; figure 12 of
2023)."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch

from sslens.capture import Features
from sslens.comparisons.inputs import Inputs
from sslens.figure import Figure, Line, Lines
from sslens.probes.knn import neighbours, votes
from sslens.statistics.proportions import wilson
from sslens.table import Table

TITLE = "Where are the classes separated?"
CAPTION = (
    "Accuracy of cosine k-NN (k = 20) on the features after every block and after the final norm,"
    " for the CLS token, the mean of all tokens and the mean of the patch tokens. Neighbours vote"
    " with exp(s/0.07), as in DINO's evaluation; plain majority is in the table. Without a second"
    " set of images each image is classified by all others. Bands are 95 % Wilson intervals; the"
    " best of many blocks and poolings, as named in the summary, was chosen on these same images"
    " and is a little optimistic. Dashed lines are controls: random initialisations and the raw"
    " pixels."
)
VERSION = 3
NEEDS = ("features", "labels")
K, TEMPERATURE = 20, 0.07
POOLINGS = {"cls": "CLS token", "mean": "mean of all tokens", "patch": "mean of patch tokens"}
UNITS = {
    "model": "name",
    "control": "whether it is a control",
    "tap": "where the features are read",
    "kind": "what the tap computes",
    "depth": "relative depth, 0 to 1",
    "pooling": (
        "cls, mean (of all tokens, or places of a CNN's map), patch (mean of patch tokens), or flat"
    ),
    "vote": "weighted: exp(cosine / 0.07); majority: one vote each",
    "k": "neighbours",
    "accuracy": "share of images whose class is predicted",
    "low": "lower end of the 95 % Wilson interval",
    "high": "upper end",
    "gain": "accuracy less that of the best control (by the same vote), on the same images",
    "gain_low": "lower end of its 95 % interval, images paired",
    "gain_high": "upper end",
    "images": "images classified",
    "chance": "share of the most frequent class",
}


def compute(inputs: Inputs) -> Table:
    """Accuracy of every block and pooling of every model and control, by both votes."""
    found = [
        each
        for name, features in inputs.features.items()
        for each in _rows(name, features, inputs.bank.get(name), inputs, name in inputs.controls)
    ]
    best: dict[str, np.ndarray] = {}
    for row, correct in found:
        if row["control"] and correct.mean() > best.get(row["vote"], np.zeros(1)).mean():
            best[row["vote"]] = correct
    rows = [row | _gain(correct, best.get(row["vote"])) for row, correct in found]
    return Table(pd.DataFrame(rows, columns=list(UNITS)), UNITS)


def _gain(correct: np.ndarray, control: np.ndarray | None) -> dict[str, float]:
    """The difference of two accuracies on the same images, and its 95 % interval: 1.96 standard
    errors of the mean difference."""
    if control is None:
        return {"gain": np.nan, "gain_low": np.nan, "gain_high": np.nan}
    difference = correct.astype(float) - control
    mean, error = difference.mean(), difference.std(ddof=1) / len(difference) ** 0.5
    return {"gain": mean, "gain_low": mean - 1.959964 * error, "gain_high": mean + 1.959964 * error}


def _rows(
    name: str, features: Features, bank: Features | None, inputs: Inputs, control: bool
) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """Each tap, pooling and vote: its numbers, and which images it has right (in the order that all
    models share)."""
    own = torch.tensor([inputs.labels[i] for i in features.ids])
    theirs = own if bank is None else torch.tensor([inputs.bank_labels[i] for i in bank.ids])
    k = min(K, len(theirs) - (bank is None))
    chance = float(np.bincount(own.numpy()).max() / len(own))
    taps = {tap.name: tap for tap in features.taps}
    for tap, pooling in features.columns:
        queries = features.read(tap, pooling)
        among = queries if bank is None else bank.read(tap, pooling)
        rows, cosines = neighbours(queries, among, k, leave_one_out=bank is None)
        found = votes(
            theirs[rows], cosines, int(theirs.max()) + 1, ks=[k], temperatures=[TEMPERATURE, None]
        )[:, 0]
        for how, predicted in zip(("weighted", "majority"), found, strict=True):
            correct = predicted == own.numpy()
            low, high = wilson(int(correct.sum()), len(own))
            row = {
                "model": name,
                "control": control,
                "tap": tap,
                "kind": taps[tap].kind,
                "depth": taps[tap].depth,
                "pooling": pooling,
                "vote": how,
                "k": k,
                "accuracy": correct.mean(),
                "low": low,
                "high": high,
                "images": len(own),
                "chance": chance,
            }
            yield row, correct


def draw(table: Table) -> Figure:
    """A panel a pooling: accuracy against depth, a line a model; raw pixels as a level line."""
    frame = table.frame[table.frame.vote == "weighted"]
    poolings = [pooling for pooling in POOLINGS if (frame.pooling == pooling).any()] or ["flat"]
    top = min(1.0, float(frame.high.max()) * 1.05)
    panels = [
        Lines(
            POOLINGS.get(pooling, "raw values"),
            "relative depth",
            f"{frame.k.iloc[0]}-NN accuracy",
            tuple(_lines(frame, pooling)),
            (0.0, top),
        )
        for pooling in poolings
    ]
    return Figure("knn-depth", (tuple(panels),))


def _lines(frame: pd.DataFrame, pooling: str) -> Iterator[Line]:
    span = np.array([frame.depth[frame.pooling == pooling].min(), 1.0])
    for name, rows in frame[frame.pooling.isin((pooling, "flat"))].groupby("model", sort=False):
        blocks = rows[rows.kind == "block"].sort_values("depth")
        if len(blocks):
            x, y, low, high = (
                blocks[column].to_numpy(float) for column in ("depth", "accuracy", "low", "high")
            )
        else:
            x, (y, low, high) = (
                span,
                (np.full(2, float(rows[column].iloc[0])) for column in ("accuracy", "low", "high")),
            )
        yield Line(str(name), x, y, low, high, control=bool(rows.control.iloc[0]))


def findings(table: Table) -> tuple[str, ...]:
    """The best block and pooling of each model, and what it gains over the best control."""
    frame = table.frame[table.frame.vote == "weighted"]
    control = frame[frame.control].sort_values("accuracy", kind="stable").tail(1)
    said = []
    for name, rows in frame[~frame.control].groupby("model", sort=False):
        best = rows.sort_values("accuracy", ascending=False, kind="stable").iloc[0]
        where = f"at {best.tap}" + (
            f" with the {POOLINGS[best.pooling]}" if best.pooling in POOLINGS else ""
        )
        found = f"{best.k}-NN {_share(best)}"
        if control.empty:
            said.append(
                f"{name} separates the classes best {where}: {found}; there is no control"
                " beside it."
            )
        else:
            gain = (
                f"{100 * best.gain:+.1f} points [{100 * best.gain_low:+.1f},"
                f" {100 * best.gain_high:+.1f}]"
            )
            against = (
                f"{gain} against the best control, {control.iloc[0].model}"
                f" ({control.iloc[0].accuracy:.1%})"
            )
            side = (
                ""
                if best.gain_low > 0
                else ", which is not clearly better"
                if best.gain_high > 0
                else ", which is worse"
            )
            said.append(f"{name} separates the classes best {where}: {found}, {against}{side}.")
    return tuple(said)


def _share(row: pd.Series) -> str:
    return f"{row.accuracy:.1%} [{row.low:.1%}, {row.high:.1%}]"
