"""Advice: which block, pooling and probe to use for these images, and what is gained over the usual
choice."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sslens.comparisons.probing import READINGS, points, share
from sslens.table import Table

#: share of images under which a gain is worth no change, however sure
WORTH = 0.005
READ = [
    "model",
    "tap",
    "pooling",
    "layers",
    "usual",
    "validation",
    "accuracy",
    "low",
    "high",
    "over",
    "over_low",
    "over_high",
    "images",
]


def advice(tables: Mapping[str, Table]) -> tuple[str, ...]:
    """A sentence a model, and how they came about, from the tables of probe-depth and probe-layers;
    none without either.

    Of all probes of a model the one with most validation images right is held against the usual
    choice, a linear probe of the last layer's CLS token, on the test images, which had no part in
    the choice. Of equals the usual and the simpler are taken.
    """
    frames = [tables[name].frame for name in ("probe-depth", "probe-layers") if name in tables]
    if not frames:
        return ()
    frame = pd.concat(
        [each.loc[(each.row == "probe") & ~each.control, READ] for each in frames],
        ignore_index=True,
    )
    frame = frame.drop_duplicates(["model", "tap", "pooling", "layers"])
    frame = frame.assign(two=frame.tap.str.contains(" + ", regex=False))
    knn = tables["knn-depth"].frame if "knn-depth" in tables else None
    how = (
        f"Each choice was made on validation images, and is judged on {frame.images.iloc[0]:.0f}"
        " test images that had no part in it; gains are paired, with 95 % bootstrap intervals over"
        " these images. Of other trainings of a model they say nothing."
    )
    return (*(_of(rows, knn) for _, rows in frame.groupby("model", sort=False)), how)


def _of(rows: pd.DataFrame, knn: pd.DataFrame | None) -> str:
    """What to use of one model."""
    order = rows.sort_values(
        ["validation", "usual", "layers", "two"],
        ascending=[False, False, True, True],
        kind="stable",
    )
    usual, best = rows[rows.usual].iloc[0], order.iloc[0]
    known = f"the usual choice, {_named(usual)}"
    after = _neighbours(knn, usual if best.two else best)
    if best.usual:
        others = (
            f"no other of {len(rows)} probes does better on the validation images"
            if len(rows) > 1
            else "there is no other"
        )
        return f"{usual.model}: keep {known}: {share(usual)}; {others}{after}."
    if best.over_low > 0 and best.over >= WORTH:
        return (
            f"{usual.model}: use {_named(best)}: {share(best)}, {points(best, 'over')} over {known}"
            f" ({share(usual)}){after}."
        )
    why = (
        "which these images cannot tell from nothing"
        if best.over_low <= 0 <= best.over_high
        else "which is a loss"
        if best.over_high < 0
        else "which is hardly worth a change"
    )
    return (
        f"{usual.model}: keep {known}: {share(usual)}. The best of {len(rows)} probes on the"
        f" validation images, {_named(best)}, has {points(best, 'over')} on the test images,"
        f" {why}{after}."
    )


def _named(row: Any) -> str:
    probe = "a linear probe" if row.layers == 1 else f"a probe of {row.layers:.0f} layers"
    return f"{probe} of the {READINGS[row.pooling]} at {row.tap.replace(' + ', ' and ')}"


def _neighbours(knn: pd.DataFrame | None, place: Any) -> str:
    """What k-NN, which trains nothing, has at the same place."""
    if knn is None:
        return ""
    rows = knn[
        (knn.model == place.model)
        & (knn.tap == place.tap)
        & (knn.pooling == place.pooling)
        & (knn.vote == "weighted")
    ]
    if rows.empty:
        return ""
    row = rows.iloc[0]
    return f"; {row.k}-NN, which trains nothing, has {share(row)} at {row.tap}"
