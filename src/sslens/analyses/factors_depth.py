"""What a layer knows of generated scenes: each known factor decoded from the features of every
depth."""

from typing import Any

import numpy as np
import pandas as pd
import torch

from sslens.capture import Features
from sslens.comparisons import probing as _probing
from sslens.comparisons.inputs import Inputs
from sslens.errors import InputError
from sslens.figure import Figure, Lines
from sslens.probes import factors
from sslens.table import Table

TITLE = "What does each layer know of the scene?"
CAPTION = (
    "How well a ridge probe reads each factor of the generated scenes from the features after every"
    " block and after the last layer: R² of numbers (of an angle over its sine and cosine), and of"
    " kinds the share of test images read rightly, put on one scale: 0 is what knowing nothing of"
    " an image gives, 1 is all. Probes are trained on the bank, or without one on half of the"
    " images, drawn by SHA-256 of the ids, and tested on the others. Drawn for the CLS token, or"
    " the mean where a model has none; the mean of the patch tokens is in the table. Bands are 95 %"
    " bootstrap intervals over test images; the best of many blocks, as named in the summary, was"
    " chosen on these same images and is a little optimistic. Dashed lines are controls: random"
    " initialisations, and raw pixels at 8 × 8."
)
VERSION = 1
NEEDS = ("features", "labels", "probes", "factors")
#: panels side by side, and factors named of a model
ACROSS, NAMED = 4, 3
UNITS = {
    "model": "name",
    "control": "whether it is a control",
    "tap": "where the features are read",
    "depth": "relative depth, 0 to 1",
    "pooling": (
        "cls, mean (of all tokens, or places of a CNN's map), patch (mean of patch tokens), or flat"
    ),
    "main": "whether the pooling is the CLS token, or what the model has instead",
    "last": "whether the tap is the last layer",
    **factors.UNITS,
    "decoded_low": "lower end of the interval, on the scale of `decoded`",
    "decoded_high": "upper end",
    "trained": "training images",
    "images": "test images",
}


#: what is drawn, with its interval
DECODED = ("decoded", "decoded_low", "decoded_high")


def compute(inputs: Inputs) -> Table:
    """A row a model, depth, pooling and factor; factors that never vary among these images are left
    out."""
    images = _probing.Images.of(inputs)
    known = inputs.bank_factors if inputs.bank else inputs.factors
    if known is None or inputs.factors is None:
        raise InputError(
            "The factors are known of generated scenes alone: give --images scenes:1:1000 --bank"
            " scenes:2:4000."
        )
    train, test = (
        known.loc[images.named(images.learnt)],
        inputs.factors.loc[images.named(images.test, tested=True)],
    )
    varying = [
        name for name in train.columns if train[name].nunique() > 1 and test[name].nunique() > 1
    ]
    frames = [
        _decoded(name, tap, pooling, inputs, images, train[varying], test[varying])
        for name, features in inputs.features.items()
        for pooling in _probing.poolings(features)
        for tap in _taps(features, pooling)
    ]
    return Table(pd.concat(frames, ignore_index=True)[list(UNITS)], UNITS)


def _taps(features: Features, pooling: str) -> list[int]:
    """Places of the blocks and of the last layer that have this pooling."""
    end = len(features.taps) - 1
    taps = enumerate(features.taps)
    return [
        i
        for i, tap in taps
        if (tap.kind == "block" or i == end) and (tap.name, pooling) in features.columns
    ]


def _decoded(
    name: str,
    place: int,
    pooling: str,
    inputs: Inputs,
    images: _probing.Images,
    train: pd.DataFrame,
    test: pd.DataFrame,
) -> pd.DataFrame:
    features = inputs.features[name]
    among, tap = inputs.bank.get(name, features), features.taps[place]
    learnt = _probing.read(tap.name, pooling, among)[torch.from_numpy(images.learnt)]
    asked = _probing.read(tap.name, pooling, features)[torch.from_numpy(images.test)]
    found = factors.decode(learnt, train, asked, test, seed=inputs.seed)
    kinds = found.measure == "accuracy"
    ends = {
        f"decoded_{end}": np.where(
            kinds, (found[end] - found.chance) / (1 - found.chance), found[end]
        )
        for end in ("low", "high")
    }
    return found.assign(
        model=name,
        control=name in inputs.controls,
        tap=tap.name,
        depth=tap.depth,
        pooling=pooling,
        main=pooling == _probing.main_pooling(features),
        last=place == len(features.taps) - 1,
        trained=len(train),
        images=len(test),
        **ends,
    )


def draw(table: Table) -> Figure:
    """A panel a factor: decoded against depth, a line a model; raw pixels as a level line."""
    frame = table.frame[table.frame.main]
    panels: list[Lines | None] = [
        Lines(
            str(name),
            "relative depth",
            "decoded",
            tuple(_probing.by_depth(rows, DECODED)),
            (-0.15, 1.05),
        )
        for name, rows in frame.groupby("factor", sort=False)
    ]
    across = min(ACROSS, len(panels))
    panels += [None] * (-len(panels) % across)
    return Figure(
        "factors-depth", tuple(tuple(panels[i : i + across]) for i in range(0, len(panels), across))
    )


def findings(table: Table) -> tuple[str, ...]:
    """For each model the factors that an earlier block tells clearly better than the last layer,
    beside the best control."""
    frame = table.frame[table.frame.main]
    controls = (
        frame[frame.control]
        .sort_values("decoded", kind="stable")
        .groupby("factor")
        .tail(1)
        .set_index("factor")
    )
    said = []
    for name, rows in frame[~frame.control].groupby("model", sort=False):
        where = _probing.READINGS[str(rows.pooling.iloc[0])]
        end = rows[rows["last"]].set_index("factor")
        best = rows.loc[rows.groupby("factor", sort=False).decoded.idxmax()].set_index("factor")
        lost = (best.decoded - end.decoded)[best.decoded_low > end.decoded_high].sort_values(
            ascending=False, kind="stable"
        )
        if lost.empty:
            top = end.decoded.sort_values(ascending=False, kind="stable").index[:NAMED]
            told = ", ".join(
                f"{factor} {_spelt(end.loc[factor])}{_beside(controls, factor)}" for factor in top
            )
            said.append(
                f"{name}, {where}: no block tells a factor clearly better than the last layer,"
                f" which tells best {told}."
            )
            continue
        told = "; ".join(
            f"{factor} {_spelt(best.loc[factor])} at {best.loc[factor].tap},"
            f" {_spelt(end.loc[factor])} at the end{_beside(controls, factor)}"
            for factor in lost.index[:NAMED]
        )
        more = f"; {len(lost) - NAMED} more are in the table" if len(lost) > NAMED else ""
        said.append(
            f"{name}, {where}: an earlier block tells clearly better than the last layer:"
            f" {told}{more}."
        )
    return tuple(said)


def _spelt(row: Any) -> str:
    return f"{row.decoded:.2f} [{row.decoded_low:.2f}, {row.decoded_high:.2f}]"


def _beside(controls: pd.DataFrame, factor: str) -> str:
    if factor not in controls.index:
        return ""
    row = controls.loc[factor]
    return f" (of the controls {row.model} at most {row.decoded:.2f})"
