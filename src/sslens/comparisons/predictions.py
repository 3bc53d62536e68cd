"""Predicted classes of images, from a ridge-regression probe of each model's last layer."""

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

#: rankings of classes are compared over the k classes at the top, for each of these k
KS = (5, 10, 100)


def list_readings(features: Mapping[str, Features]) -> tuple[str, ...]:
    """List the poolings to predict from: "cls" and "patch", as far as any model has them; if no
    model has either, "mean"."""
    present = {pooling for one in features.values() for pooling in one.poolings}
    return tuple(pooling for pooling in ("cls", "patch") if pooling in present) or ("mean",)


def last_column(features: Features, reading: str) -> Column:
    """Return the last tap with this pooling, as a column (name of the tap, pooling).

    If the model's last tap does not have this pooling, the column has the pooling "mean", or "flat"
    for raw pixels.
    """
    columns = [(features.taps[-1].name, pooling) for pooling in (reading, "mean", "flat")]
    return next(column for column in columns if column in features.columns)


def predict_classes(
    features: FeatureSets, labels: Labels, reading: str
) -> tuple[dict[str, Predicted], int]:
    """Predict the class of each image with a ridge probe of each model.

    The bank trains the probe. Without a bank, all images but one train it and predict that one, for
    each image. Only classes with at least one training image can be predicted.

    Args:
        features: the features of all models.
        labels: the class of each image.
        reading: the pooling of the features: "cls", "patch" or "mean".

    Returns:
        The predictions by the model's name, and the number of classes that can be predicted.

    Raises:
        InputError: two models' features are of different images, or all training images are of one
            class.
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
    """Train a ridge regression onto one-hot classes, and return its predictions as logits.

    The penalty is the one with the least squared leave-one-out error on the training images.

    Args:
        features: features of the training images.
        labels: class of each training image, an index below `classes`.
        classes: number of classes.
        asked: features of the images to predict. If None, each training image is predicted by a
            regression that is trained on all other training images.
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
