"""The choice of features for probes and k-NN: the tap, and the pooling of its tokens."""

from collections.abc import Mapping

import pandas as pd
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sslens.capture import Column, Features
from sslens.capture.pooling import choose_pooling as choose_pooling
from sslens.table import Results

#: the side in pixels to which raw pixels are shrunk before they are probed: probes are as wide as
#: their features, and 32 px are 3,072 values
SIDE = 8
#: the usual pooling of several models, in words
USUAL = "CLS token (the mean where there is none)"
#: models that are named where they are read in another way
NAMED = 4
#: how features are pooled, in words
READINGS: Mapping[str, str] = {
    "cls": "CLS token",
    "mean": "mean of all tokens",
    "patch": "mean of patch tokens",
    "flat": "raw values",
}


def name_pooling(pooling: str, *, places: bool = False) -> str:
    """Name a pooling in words.

    Args:
        pooling: a key of `READINGS`.
        places: whether the mean is over places: of a CNN's map, or of patch tokens that have no
            other tokens beside them (`find_over_places`).

    >>> name_pooling("mean"), name_pooling("mean", places=True)
    ('mean of all tokens', 'mean over places')
    """
    return "mean over places" if places and pooling == "mean" else READINGS[pooling]


def find_over_places(results: Mapping[str, Results]) -> frozenset[str]:
    """Find the models of which the mean is the only pooling, so that it is over places: CNNs, and
    networks of patch tokens alone.

    Args:
        results: of all analyses that ran, by name; tables without the columns `model` and
            `pooling` say nothing.

    >>> from sslens.table import Table
    >>> rows = pd.DataFrame({"model": ["mixer", "vit", "vit"], "pooling": ["mean", "mean", "cls"]})
    >>> table = Table(rows, {"model": "name", "pooling": "how tokens are pooled"})
    >>> sorted(find_over_places({"knn-depth": Results({"accuracies": table})}))
    ['mixer']
    """
    rows = [
        table.frame[["model", "pooling"]]
        for one in results.values()
        for table in one.tables.values()
        if {"model", "pooling"} <= set(table.frame.columns)
    ]
    if not rows:
        return frozenset()
    means = _find_means(pd.concat(rows).drop_duplicates())
    return frozenset(str(name) for name in means[means].index)


def _find_means(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Tell of each model with a mean, by its name, whether this is over places."""
    poolings = rows.groupby("model").pooling.agg(set)
    means = poolings[poolings.map(lambda own: "mean" in own)]
    return means.map(lambda own: not own & {"cls", "patch"}).astype(bool)


def name_features(features: str) -> str:
    """Name the kind of features of k-NN as the end of a clause, where they are not as they come.

    >>> name_features("standardised"), name_features("raw"), name_features("")  # "": of a probe
    (', standardised', '', '')
    """
    return ", standardised" if features == "standardised" else ""


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
    without = _find_means(rows)
    if pooling != "mean" or not without.any():
        return READINGS[pooling]
    return name_pooling(pooling, places=True) if without.all() else f"{READINGS[pooling]} or places"


def find_last_tap(features: Features) -> str:
    """Return the name of the last tap, the usual choice for k-NN and probes."""
    return features.taps[-1].name


def choose_main_pooling(features: Features) -> str:
    """Return the usual pooling of the last tap (`choose_pooling`)."""
    return choose_pooling(_list_last(features), features.read_pooling)


def find_usual(features: Features) -> Column:
    """Return the usual choice: the last tap, with its usual pooling."""
    return find_last_tap(features), choose_main_pooling(features)


def choose_shared_pooling(a: Features, b: Features) -> tuple[str, str]:
    """Choose how two models are read that are held against each other: both as the one of them that
    was tuned, where both have this pooling; else each as usual. So a model before and after
    fine-tuning, or two copies of it, differ by their weights and not by how they are read."""
    for one in (b, a):
        read = one.read_pooling
        if read is not None and all(read in _list_last(own) for own in (a, b)):
            return read, read
    return choose_main_pooling(a), choose_main_pooling(b)


def list_poolings(features: Features) -> tuple[str, ...]:
    """List the poolings that probes read: the usual one, then "patch" if the last tap has it, and
    the CLS token where that is not the usual one."""
    there, main = _list_last(features), choose_main_pooling(features)
    return (main, *(p for p in ("patch", "cls") if p in there and p != main))


def list_sides(features: Features, pooling: str) -> tuple[str, ...]:
    """List the groups of models in which those with one pooling are compared: "main", of each model
    its usual one, and "patch", of all models the mean of the patch tokens; "cls" of the models that
    are usually read otherwise."""
    if pooling != choose_main_pooling(features):
        return (pooling,)
    return ("main", "patch") if pooling == "patch" else ("main",)


def _list_last(features: Features) -> tuple[str, ...]:
    """The poolings of the last tap."""
    last = find_last_tap(features)
    return tuple(pooling for tap, pooling in features.columns if tap == last)


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
    """Name the pooling of a panel in words: the pooling of the models' rows, or of the first
    control's rows if there are only controls. Several poolings, each usual of its models, are named
    together.

    >>> rows = {"model": ["a", "b"], "control": [False, False], "pooling": ["cls", "patch"]}
    >>> name_reading(pd.DataFrame(rows))
    'CLS token, or as its classifier reads'
    """
    studied = rows[~rows.control]
    shown = studied if len(studied) else rows
    poolings = [str(pooling) for pooling in dict.fromkeys(shown.pooling)]
    if "patch" in poolings and len(poolings) > 1:
        other = next(one for one in poolings if one != "patch")
        return f"{READINGS[other]}, or as its classifier reads"
    return name_pooling_in(shown, poolings[0])


def split_panels(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """Split the rows of probes into those of two panels: of each model its usual pooling, and of
    all models the mean of the patch tokens, where that is not the same."""
    usual, patch = rows[rows.main], rows[rows.pooling == "patch"]
    return [usual] if patch.main.all() else [usual, patch]


def name_usual(rows: pd.DataFrame) -> str:
    """Name the usual pooling of several models in words, with the models that are read otherwise,
    as their classifier was.

    Args:
        rows: with the columns `model`, `pooling` and `main`.

    >>> rows = {"model": ["a", "b"], "pooling": ["cls", "patch"], "main": [True, True]}
    >>> name_usual(pd.DataFrame(rows))
    'CLS token (the mean where there is none; of b the mean of patch tokens, as its classifier)'
    """
    own = rows[rows.main & (rows.pooling == "patch")]
    names = [str(name) for name in dict.fromkeys(own.model)]
    if not names:
        return USUAL
    named = f"{', '.join(names[:NAMED])}{f' and {len(names) - NAMED} more' * (len(names) > NAMED)}"
    whose = "its classifier" if len(names) == 1 else "their classifiers"
    return f"{USUAL[:-1]}; of {named} the {READINGS['patch']}, as {whose})"
