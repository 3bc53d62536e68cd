"""Probes of 1, 2 and 3 layers on the last features (figure 2a of Shekhar et al., 2023; claim
C7)."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from sslens.comparisons import probing as _probing
from sslens.comparisons.inputs import Inputs
from sslens.comparisons.probing import READINGS, UNITS, Probed, gaining, points, share, verdict
from sslens.figure import Figure, Line
from sslens.probes.linear.training import Head
from sslens.table import Table

TITLE = "Does a deeper probe find more?"
CAPTION = (
    "Accuracy of probes of 1, 2 and 3 layers (Linear, BatchNorm, ReLU) on the features after the"
    " last layer: the CLS token, or the mean where a model has none, and the mean of the patch"
    f" tokens. {_probing.SPLIT}. At the top the point of the grid that was best on the validation"
    " images, with its 95 % Wilson interval; below the mean and standard deviation of the five"
    " points that are best on the test images, as the papers report, a little optimistic. Gains"
    " are paired on the same images. Dashed lines are controls: random initialisations, and raw"
    " pixels at 8 × 8; a second seed of the probe is in the table."
)
VERSION = 1
NEEDS = ("features", "labels", "probes")
LAYERS = (1, 2, 3)
#: layers of the deepest probe, whose gain over the linear one is claim C7
DEEP = LAYERS[-1]


def compute(inputs: Inputs) -> Table:
    """Each model's and control's probes, a second seed of each model's, and the gain of three
    layers by family."""
    images = _probing.Images.of(inputs)
    rows: list[dict[str, Any]] = []
    gains: dict[tuple[str, int], dict[str, np.ndarray]] = {}
    for name, features in inputs.features.items():
        pooled = _probing.poolings(features)
        ladder = {
            p: [Head(((_probing.last(features), p),), layers) for layers in LAYERS] for p in pooled
        }
        found = _probing.probe(
            inputs,
            images,
            name,
            [head for heads in ladder.values() for head in heads],
            label="deeper probes",
        )
        usual = _probing.usual_head(features)
        for p, heads in ladder.items():
            best = found.best(heads)
            for head in heads:
                row = found.rows[head] | {"chosen": head == best}
                if head.layers > 1:
                    difference = found.gain(head, heads[0])
                    row |= {"less": "1 layer"} | gaining("gain", difference, inputs.seed)
                    gains.setdefault(("main" if p == pooled[0] else p, head.layers), {})[name] = (
                        difference
                    )
                rows.append(
                    row
                    | (
                        {}
                        if head == usual
                        else gaining("over", found.gain(head, usual), inputs.seed)
                    )
                )
        if name not in inputs.controls:
            again = _probing.probe(
                inputs, images, name, ladder[pooled[0]], label="second seed", seed=inputs.seed + 1
            )
            rows += _again(found, again, ladder[pooled[0]], inputs.seed)
    for (reading, layers), by_model in gains.items():
        known = {
            "layers": layers,
            "main": reading == "main",
            "pooling": "" if reading == "main" else reading,
            "less": "1 layer",
        }
        rows += _probing.families(inputs, by_model, known)
    return Table(_probing.framed(rows), UNITS)


def _again(first: Probed, second: Probed, heads: list[Head], seed: int) -> Iterator[dict[str, Any]]:
    """Probes that differ from the first in their first weights alone."""
    for head in heads:
        difference = second.outcomes[head].right.astype(float) - first.outcomes[head].right
        row = second.rows[head] | {"row": "second seed", "usual": False, "less": "the first seed"}
        yield row | gaining("gain", difference, seed)


def draw(table: Table) -> Figure:
    """A column a pooling: the honest number at the top, that of the papers below."""
    frame = table.frame[table.frame.row == "probe"]
    sides = [rows for rows in (frame[frame.main], frame[~frame.main]) if len(rows)]
    frame = frame.assign(
        below=frame.best - frame["std"].fillna(0), above=frame.best + frame["std"].fillna(0)
    )
    grids = []
    for columns, label in (
        (("accuracy", "low", "high"), "test accuracy"),
        (("best", "below", "above"), "best five points"),
    ):
        panels = [
            _probing.panel(
                _title(side), "layers of the probe", label, _lines(frame.loc[side.index], columns)
            )
            for side in sides
        ]
        grids.append(tuple(panels))
    return Figure("probe-depth", tuple(grids))


def _title(rows: pd.DataFrame) -> str:
    return READINGS[
        str(rows.pooling[~rows.control].iloc[0] if (~rows.control).any() else rows.pooling.iloc[0])
    ]


def _lines(frame: pd.DataFrame, columns: tuple[str, str, str]) -> Iterator[Line]:
    for name, rows in frame.groupby("model", sort=False):
        y, low, high = (rows[column].to_numpy(float) for column in columns)
        yield Line(
            str(name), rows.layers.to_numpy(float), y, low, high, control=bool(rows.control.iloc[0])
        )


def findings(table: Table) -> tuple[str, ...]:
    """Claim C7 by pooling where models have families; otherwise what depth gains each model, beside
    the controls."""
    frame = table.frame
    deep = frame[frame.layers == DEEP]
    said = []
    for main, rows in deep[deep.row == "family"].groupby("main", sort=False):
        where = "last CLS token (the mean where there is none)" if main else "mean of patch tokens"
        sentence = _probing.claimed(rows, f"Three layers instead of one on the {where} gain")
        said += [sentence] if sentence else []
    probes = frame[(frame.row == "probe") & frame.main]
    control = (
        probes[probes.control & (probes.layers == DEEP)].sort_values("gain", kind="stable").tail(1)
    )
    beside = (
        ""
        if control.empty
        else f" (of the controls {control.iloc[0].model} most: {points(control.iloc[0])})"
    )
    if not said:
        linear, third = (_probing.each(probes[probes.layers == layers]) for layers in (1, DEEP))
        for name in probes.model[~probes.control].unique():
            one, three = linear(name), third(name)
            said.append(
                f"{name}: a linear probe of the last {READINGS[one.pooling]} has {share(one)}, one"
                f" of three layers {share(three)}: {points(three)}{verdict(three)}{beside}."
            )
    return tuple(said)
