"""Decoding of the known factors of generated scenes from the features of every depth."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch

from sslens.comparisons.depth_lines import lines_by_depth
from sslens.comparisons.inputs import Factors, FeatureSets, Labels, Models, ProbeSettings
from sslens.comparisons.probe_split import Split
from sslens.comparisons.readings import (
    choose_main_pooling,
    list_depths,
    list_poolings,
    read_features,
)
from sslens.errors import InputError
from sslens.figure import Figure, Lines
from sslens.probes import factors as factor_probes
from sslens.table import Results, Table

TITLE = "What does each layer know of the scene?"
CAPTION = (
    "How well a ridge probe reads each factor of the generated scenes from the features after every"
    " block and after the last layer: R² of numbers (of an angle over its sine and cosine), and of"
    " kinds the share of test images read rightly, put on one scale: 0 is what knowing nothing of"
    " an image gives, 1 is all. Probes are trained on the bank, or without one on half of the"
    " images, drawn by SHA-256 of the ids, and tested on the others. Drawn for the CLS token, or"
    " the mean where a model has none; the mean of the patch tokens is in the table. Bands are 95 %"
    " intervals over test images; the best of many blocks, as named in the summary, was"
    " chosen on these same images and is a little optimistic. Dashed lines are controls: random"
    " initialisations, and raw pixels at 8 × 8."
)
#: panels side by side
ACROSS = 4
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
    **factor_probes.UNITS,
    "decoded_low": "lower end of the interval, on the scale of `decoded`",
    "decoded_high": "upper end",
    "trained": "training images",
    "images": "test images",
}
#: what is drawn, with its interval
DECODED = ("decoded", "decoded_low", "decoded_high")


def compute(
    models: Models,
    *,
    factors: Factors,  # before labels: what is asked for first mends both
    features: FeatureSets,
    labels: Labels,
    probes: ProbeSettings,
    seed: int = 0,
) -> Results:
    """Decode every factor from every depth and pooling of each model and control.

    The table is `factors`. A factor is left out if it does not vary among the training images or
    among the test images, and the table's provenance names it, as "constant". `probes` is a need
    only because it makes sure that the images can be split: the ridge probes used here read none
    of its settings.

    Raises:
        InputError: the factors of the bank are not known, or no factor varies.
    """
    split = Split.of(features, labels, seed)
    learnt_factors = factors.bank if features.bank else factors.images
    if learnt_factors is None:
        raise InputError(
            "The factors are known of generated scenes alone",
            mend="give {images=scenes:1:1000} and {bank=scenes:2:4000}",
        )
    train, test = learnt_factors.loc[split.learnt_ids], factors.images.loc[split.test_ids]
    varying = [
        name for name in train.columns if train[name].nunique() > 1 and test[name].nunique() > 1
    ]
    constant = [str(name) for name in train.columns if name not in varying]
    if not varying:
        raise InputError(
            f"None of the factors {', '.join(constant)} varies among the images",
            mend="give other {images}",
        )
    frames = _decode(models, features, split, (train[varying], test[varying]))
    frame = pd.concat(list(frames), ignore_index=True)[list(UNITS)]
    return Results({"factors": Table(frame, UNITS, {"constant": constant} if constant else {})})


def _decode(
    models: Models,
    features: FeatureSets,
    split: Split,
    factors: tuple[pd.DataFrame, pd.DataFrame],
) -> Iterator[pd.DataFrame]:
    """The rows of each model, pooling and depth.

    Args:
        models: the models and the controls.
        features: of all of them.
        split: which images train and test.
        factors: of the training images and of the test images, in the order of the split.
    """
    train, test = factors
    for name, own in features.images.items():
        bank = features.bank.get(name, own)
        for pooling in list_poolings(own):
            for place in list_depths(own, pooling):
                tap = own.taps[place]
                learnt = read_features(bank, tap.name, pooling)[torch.from_numpy(split.learnt)]
                asked = read_features(own, tap.name, pooling)[torch.from_numpy(split.test)]
                decoded = factor_probes.decode(learnt, train, asked, test)
                yield decoded.assign(
                    model=name,
                    control=models.is_control(name),
                    tap=tap.name,
                    depth=tap.depth,
                    pooling=pooling,
                    main=pooling == choose_main_pooling(own),
                    last=place == len(own.taps) - 1,
                    trained=len(train),
                    images=len(test),
                    decoded_low=_rescale(decoded, "low"),
                    decoded_high=_rescale(decoded, "high"),
                )


def _rescale(decoded: pd.DataFrame, end: str) -> np.ndarray:
    """An end of the interval on the scale of `decoded`: 0 is chance, 1 is all."""
    accuracies = decoded.measure == "accuracy"
    share = (decoded[end] - decoded.chance) / (1 - decoded.chance)
    return np.where(accuracies, share, decoded[end])


def draw(results: Results) -> Figure:
    """Draw a panel for each factor: how well it is decoded against depth, with one curve per model.
    Raw pixels are a horizontal line."""
    frame = results["factors"]
    panels: list[Lines | None] = [
        Lines(
            str(name),
            "relative depth",
            "decoded",
            tuple(lines_by_depth(rows, DECODED)),
            (-0.15, 1.05),
            facets={"factor": str(name)},
        )
        for name, rows in frame[frame.main].groupby("factor", sort=False)
    ]
    across = min(ACROSS, len(panels))
    panels += [None] * (-len(panels) % across)
    grid = (tuple(panels[i : i + across]) for i in range(0, len(panels), across))
    return Figure("factors-depth", tuple(grid))
