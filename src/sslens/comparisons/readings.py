"""Which features of a model probes and k-NN read: the tap, and how its tokens are pooled."""

from collections.abc import Mapping

import pandas as pd
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sslens.capture import Features

#: the side in pixels to which raw pixels are shrunk before they are probed: probes are as wide as
#: their features, and 32 px are 3,072 values
SIDE = 8
#: how features are pooled, in words
READINGS: Mapping[str, str] = {
    "cls": "CLS token",
    "mean": "mean of all tokens",
    "patch": "mean of patch tokens",
    "flat": "raw values",
}


def last_tap(features: Features) -> str:
    """The name of the tap whose features are usually taken, the last one."""
    return features.taps[-1].name


def main_pooling(features: Features) -> str:
    """The pooling that is usually taken: the CLS token, or where the last layer has none the mean,
    or of raw pixels their values."""
    return next(p for p in ("cls", "mean", "flat") if (last_tap(features), p) in features.columns)


def list_poolings(features: Features) -> tuple[str, ...]:
    """The poolings that are probed: the usual one, and the mean of the patch tokens if there is
    one."""
    beside = ("patch",) if (last_tap(features), "patch") in features.columns else ()
    return (main_pooling(features), *beside)


def list_depths(features: Features, pooling: str) -> list[int]:
    """The places of the taps after each block and after the last layer that have a pooling."""
    end = len(features.taps) - 1
    return [
        place
        for place, tap in enumerate(features.taps)
        if (tap.kind == "block" or place == end) and (tap.name, pooling) in features.columns
    ]


def read_features(features: Features, tap: str, pooling: str) -> Float[Tensor, "image dim"]:
    """The features of a tap as they are probed: raw pixels at 8 × 8, all others as they are.

    Raises:
        InputError: the features have no such tap or pooling.
    """
    values = features.read(tap, pooling)
    side = round((values.shape[1] / 3) ** 0.5)
    if pooling != "flat" or side <= SIDE or 3 * side**2 != values.shape[1]:
        return values
    return F.adaptive_avg_pool2d(values.view(-1, 3, side, side), SIDE).flatten(1)


def title_of(rows: pd.DataFrame) -> str:
    """The pooling of a panel, in words: that of the models, or of controls where there are no
    others."""
    studied = rows[~rows.control]
    return READINGS[str((studied if len(studied) else rows).pooling.iloc[0])]
