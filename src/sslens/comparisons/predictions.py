"""What the models of a study predict of the images: a ridge probe of each model's last features."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from sslens.capture import Column, Features
from sslens.comparisons.inputs import FeatureSets, Labels
from sslens.errors import InputError
from sslens.probes.agreement import Predicted
from sslens.probes.ridge import ridge

#: what rankings of classes are compared over: the top k of these
KS = (5, 10, 100)


def list_readings(features: Mapping[str, Features]) -> tuple[str, ...]:
    """The poolings that any model has, of CLS and patches; where there are neither the mean."""
    present = {pooling for one in features.values() for pooling in one.poolings}
    return tuple(pooling for pooling in ("cls", "patch") if pooling in present) or ("mean",)


def last_column(features: Features, reading: str) -> Column:
    """The features after the last layer that have this pooling, or what the model has instead."""
    columns = [(features.taps[-1].name, pooling) for pooling in (reading, "mean", "flat")]
    return next(column for column in columns if column in features.columns)


def predict_classes(
    features: FeatureSets, labels: Labels, reading: str
) -> tuple[dict[str, Predicted], int]:
    """What the probe of each model says of the images, and of how many classes.

    The classes are those that a training image has: others cannot be ranked.

    Args:
        features: of all models.
        labels: the class of each image.
        reading: the pooling of the features.

    Raises:
        InputError: the models' features are of other images, or all images are of one class.
    """
    ids = next(iter(features.images.values())).ids
    learnt = labels.bank if features.bank else labels.images
    classes = np.unique(list(learnt.values()))
    if len(classes) < 2:
        raise InputError(
            "All labelled images are of one class: predictions of classes need two or more."
        )
    place = {int(label): number for number, label in enumerate(classes)}
    numbers = np.array([place.get(labels.images[name], -1) for name in ids])
    predicted = {}
    for name, own in features.images.items():
        if own.ids != ids:
            raise InputError(
                f"The features of {name} are of other images than those of the first model."
            )
        column, bank = last_column(own, reading), features.bank.get(name)
        if bank is None:
            logits = probe_logits(own.read(*column), numbers, len(classes))
        else:
            banked = np.array([place[labels.bank[i]] for i in bank.ids])
            logits = probe_logits(bank.read(*column), banked, len(classes), own.read(*column))
        predicted[name] = Predicted.of(logits, numbers, min(max(KS), len(classes)))
    return predicted, len(classes)


def probe_logits(
    features: Float[Tensor, "image dim"],
    labels: Int64[np.ndarray, " image"],
    classes: int,
    asked: Float[Tensor, "asked dim"] | None = None,
) -> Float[Tensor, "asked class"]:
    """What a ridge probe says of images.

    Its penalty is the one with the least squared error on training images left out.

    Args:
        features: of the training images.
        labels: their classes.
        classes: how many there are.
        asked: features of the images asked about; without these each training image is asked about
            when it is left out of the training.
    """
    targets = F.one_hot(torch.from_numpy(labels), classes).double()
    path = ridge(features, targets)
    paths = [
        replace(
            path,
            lambdas=(penalty,),
            weights=path.weights[i : i + 1],
            intercept=path.intercept[i : i + 1],
        )
        for i, penalty in enumerate(path.lambdas)
    ]  # one penalty at a time: what all say of all images is large
    best = min(paths, key=lambda one: float((one.left_out - targets).square().mean()))
    return (best.left_out if asked is None else best.predict(asked))[0]
