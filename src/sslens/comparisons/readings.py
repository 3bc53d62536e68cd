"""The choice of features for probes and k-NN: the tap, and the pooling of its tokens."""

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


def name_pooling(pooling: str, *, cnn: bool = False) -> str:
    """Name a pooling in words; of a CNN, which has no tokens, the mean is over places.

    >>> name_pooling("mean"), name_pooling("mean", cnn=True)
    ('mean of all tokens', 'mean over places')
    """
    return "mean over places" if cnn and pooling == "mean" else READINGS[pooling]


def name_pooling_in(rows: pd.DataFrame, pooling: str) -> str:
    """Name a pooling of the models in some rows of a table: where they have neither a CLS token nor
    patch tokens beside others, such as CNNs, the mean is over places.

    Args:
        rows: all rows of the models, with the columns `model` and `pooling`; controls and other
            poolings among them.
        pooling: a key of `READINGS`.

    >>> rows = pd.DataFrame({"model": ["resnet", "vit", "vit"], "pooling": ["mean", "mean", "cls"]})
    >>> name_pooling_in(rows[rows.model == "resnet"], "mean")
    'mean over places'
    >>> name_pooling_in(rows[rows.model == "vit"], "mean")
    'mean of all tokens'
    >>> name_pooling_in(rows, "mean")
    'mean of all tokens or places'
    """
    poolings = rows.groupby("model").pooling.agg(set)
    means = poolings[poolings.map(lambda own: "mean" in own)]
    without = means.map(lambda own: not own & {"cls", "patch"})
    if pooling != "mean" or not without.any():
        return READINGS[pooling]
    return name_pooling(pooling, cnn=True) if without.all() else f"{READINGS[pooling]} or places"


def find_last_tap(features: Features) -> str:
    """Return the name of the last tap, the usual choice for k-NN and probes."""
    return features.taps[-1].name


def choose_main_pooling(features: Features) -> str:
    """Return the usual pooling, the first of `READINGS` that the last tap has: "cls" if it has a
    CLS token, else "mean", and "flat" for raw pixels."""
    return next(p for p in READINGS if (find_last_tap(features), p) in features.columns)


def list_poolings(features: Features) -> tuple[str, ...]:
    """List the poolings that probes read: the usual one, and "patch" if the last tap has it."""
    beside = ("patch",) if (find_last_tap(features), "patch") in features.columns else ()
    return (choose_main_pooling(features), *beside)


def list_depths(features: Features, pooling: str) -> list[int]:
    """List the indices into `features.taps` of the block taps and the last tap that have this
    pooling."""
    end = len(features.taps) - 1
    return [
        place
        for place, tap in enumerate(features.taps)
        if (tap.kind == "block" or place == end) and (tap.name, pooling) in features.columns
    ]


def read_features(features: Features, tap: str, pooling: str) -> Float[Tensor, "image dim"]:
    """Read the features of a tap for a probe; square raw pixels are first shrunk to 8 × 8 pixels.

    Raises:
        InputError: the features have no such tap or pooling.
    """
    values = features.read(tap, pooling)
    side = round((values.shape[1] / 3) ** 0.5)
    if pooling != "flat" or side <= SIDE or 3 * side**2 != values.shape[1]:
        return values
    return F.adaptive_avg_pool2d(values.view(-1, 3, side, side), SIDE).flatten(1)


def name_reading(rows: pd.DataFrame) -> str:
    """Name the pooling of a panel in words: the pooling of the first model's rows, or of the first
    control's rows if there are only controls."""
    studied = rows[~rows.control]
    shown = studied if len(studied) else rows
    return name_pooling_in(shown, str(shown.pooling.iloc[0]))
