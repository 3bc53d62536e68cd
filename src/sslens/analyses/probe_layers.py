"""Linear probes of every depth, and of the last with an intermediate one (figures 2b, 2c, 5 of
Shekhar et al., 2023; claim C8)."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from sslens.capture import Features
from sslens.comparisons import probing as _probing
from sslens.comparisons import untyped as _tuned
from sslens.comparisons.inputs import Inputs
from sslens.comparisons.probing import READINGS, UNITS, gaining, points, share, verdict
from sslens.figure import Figure, Lines
from sslens.probes.linear.training import Head
from sslens.table import Table

TITLE = "Do intermediate layers know what the last one does not?"
CAPTION = (
    "Accuracy of linear probes (a BatchNorm without affine part, then a linear layer) on the"
    " features after every block and after the last layer: of one depth alone at the top, and"
    " below what an intermediate block adds when it is concatenated with the last layer, paired on"
    " the same images. Pooled as the CLS token, or the mean where a model has none, and as the"
    f" mean of the patch tokens. {_probing.SPLIT}. Bands are 95 % intervals: Wilson's of an"
    " accuracy, by bootstrap over test images of a gain. Which intermediate block is spoken of was"
    " chosen on the validation images. Dashed lines are controls: random initialisations, and raw"
    " pixels at 8 × 8."
)
VERSION = 2
#: sentences at most
SAID = 8
NEEDS = ("features", "labels", "probes")


def compute(inputs: Inputs) -> Table:
    """Each model's and control's probes, and what the last layer gains by an intermediate one, by
    family and by fine-tuning."""
    images = _probing.Images.of(inputs)
    rows: list[dict[str, Any]] = []
    gains: dict[str, dict[str, np.ndarray]] = {}
    for name, features in inputs.features.items():
        found = _probing.probe(inputs, images, name, heads_of(features), label="probes by layer")
        usual = _probing.usual_head(features)
        for pooling in _probing.poolings(features):
            last = Head(((_probing.last(features), pooling),))
            heads = [head for head in found.outcomes if head.columns[0][1] == pooling]
            singles, pairs = (
                [head for head in heads if len(head.columns) == count] for count in (1, 2)
            )
            chosen = [found.best(side) for side in (singles, pairs) if side]
            if pairs:
                reading = "main" if pooling == usual.columns[0][1] else pooling
                gains.setdefault(reading, {})[name] = found.gain(found.best(pairs), last)
            for head in heads:
                row = found.rows[head] | {"chosen": head in chosen}
                if head != last:
                    row |= {"less": "the last layer"} | gaining(
                        "gain", found.gain(head, last), inputs.seed
                    )
                rows.append(
                    row
                    | (
                        {}
                        if head == usual
                        else gaining("over", found.gain(head, usual), inputs.seed)
                    )
                )
    for reading, by_model in gains.items():
        known = {
            "main": reading == "main",
            "pooling": "" if reading == "main" else reading,
            "less": "the last layer",
        }
        known |= {"layers": 1}
        rows += _probing.families(inputs, by_model, known)
        rows += _changes(inputs, by_model, known)
    return Table(_probing.framed(rows), UNITS)


def heads_of(features: Features) -> list[Head]:
    """Linear heads by pooling: each block and the last layer, and each block before its end with
    the last layer."""
    end = features.taps[-1]
    heads = []
    for pooling in _probing.poolings(features):
        taps = [
            tap
            for tap in features.taps
            if (tap.kind == "block" or tap is end) and (tap.name, pooling) in features.columns
        ]
        heads += [Head(((tap.name, pooling),)) for tap in taps]
        heads += [
            Head(((tap.name, pooling), (end.name, pooling)))
            for tap in taps
            if tap.depth < end.depth
        ]
    return heads


def _changes(
    inputs: Inputs, gains: Mapping[str, np.ndarray], known: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """The gain of a fine-tuned model, less that of the model before; of the control too."""
    for tuned, first in _tuned.matched(inputs.about, [*inputs.models, *inputs.controls]).items():
        if tuned in gains and first in gains:
            row = dict(known) | {
                "row": "fine-tuned",
                "model": tuned,
                "members": f"{tuned} from {first}",
                "against": first,
            }
            row["control"] = _tuned.is_control(inputs.about[tuned])
            row |= gaining("gain", gains[tuned], inputs.seed)
            yield row | gaining("difference", gains[tuned] - gains[first], inputs.seed)


def draw(table: Table) -> Figure:
    """A column a pooling: accuracy by depth at the top, what an intermediate block adds to the last
    layer below."""
    frame = table.frame[table.frame.row == "probe"]
    two = frame.tap.str.contains(" + ", regex=False)
    sides = [rows for rows in (frame[frame.main], frame[~frame.main]) if len(rows)]
    top = [
        Lines(
            _title(side),
            "relative depth",
            "test accuracy",
            tuple(_probing.by_depth(side[~two[side.index]], ("accuracy", "low", "high"))),
            None,
        )
        for side in sides
    ]
    below = [
        Lines(
            f"last + one: {_title(side)}",
            "relative depth of the intermediate block",
            "gain in accuracy",
            tuple(_probing.by_depth(side[two[side.index]], ("gain", "gain_low", "gain_high"))),
            None,
        )
        for side in sides
    ]
    return Figure("probe-layers", (tuple(top), tuple(below)) if two.any() else (tuple(top),))


def _title(rows: pd.DataFrame) -> str:
    return READINGS[
        str(rows.pooling[~rows.control].iloc[0] if (~rows.control).any() else rows.pooling.iloc[0])
    ]


def findings(table: Table) -> tuple[str, ...]:
    """Claim C8 by pooling where models have families; otherwise what an intermediate block adds to
    each model's last layer."""
    frame = table.frame
    said = []
    for main, rows in frame[frame.row == "family"].groupby("main", sort=False):
        where = "CLS token (the mean where there is none)" if main else "mean of patch tokens"
        sentence = _probing.claimed(
            rows, f"An intermediate block beside the last layer, both as {where}, gains"
        )
        said += [sentence] if sentence else []
    changes = frame[frame.row == "fine-tuned"].sort_values(
        ["control", "main"], ascending=[True, False], kind="stable"
    )
    said += [_changed(row, frame) for row in changes.itertuples()]
    return tuple(said[:SAID]) or tuple(_alone(frame))


def _changed(row: Any, frame: pd.DataFrame) -> str:
    """Whether what an intermediate block adds vanishes with fine-tuning."""
    pairs = frame[
        (frame.row == "probe") & frame.chosen & frame.tap.str.contains(" + ", regex=False)
    ]
    (before,) = pairs[(pairs.model == row.against) & (pairs.main == row.main)].to_dict("records")
    after = row._asdict()
    said = (
        f"{row.members}: an intermediate block beside the last layer, both as"
        f" {READINGS[before['pooling']]}, gained {points(before)} before fine-tuning and gains"
        f" {points(after)} after, a difference of {points(after, 'difference')}"
    )
    if row.difference_low > 0:
        return f"{said}: the gain grew."
    if before["gain_low"] <= 0:
        return f"{said}: there was no sure gain that could vanish."
    if row.difference_high >= 0:
        return f"{said}: whether the gain shrinks is not decided."
    return f"{said}: the gain {'shrinks' if row.gain_low > 0 else 'vanishes'}."


def _alone(frame: pd.DataFrame) -> Iterator[str]:
    probes = frame[(frame.row == "probe") & frame.main]
    pairs = probes[probes.chosen & probes.tap.str.contains(" + ", regex=False)]
    control = pairs[pairs.control].sort_values("gain", kind="stable").tail(1)
    beside = (
        ""
        if control.empty
        else f" (of the controls {control.iloc[0].model} most: {points(control.iloc[0])})"
    )
    for name in probes.model[~probes.control].unique():
        own, pair = (
            probes[(probes.model == name) & probes.usual].iloc[0],
            pairs[pairs.model == name],
        )
        said = f"{name}: a linear probe of the last {READINGS[own.pooling]} has {share(own)}"
        if len(pair):
            row = pair.iloc[0]
            said += (
                f"; with {row.tap.split(' + ')[0]} beside it {share(row)},"
                f" {points(row)}{verdict(row)}{beside}"
            )
        yield said + "."
