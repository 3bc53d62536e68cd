"""Predicted classes of images, from a logistic probe of each model's last layer."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sslens.capture import Column, Features
from sslens.comparisons.inputs import FeatureSets, Labels
from sslens.comparisons.probe_split import Split, explain_unfit_sets
from sslens.comparisons.readings import read_features
from sslens.errors import InputError
from sslens.probes.agreement import Predicted
from sslens.probes.logistic import fit_logistic

#: rankings of classes are compared over the k classes at the top, for each of these k
KS = (5, 10, 100)
#: parts that images without a bank are dealt out to, so that every image is predicted by a probe of
#: others
FOLDS = 5


def list_readings(features: Mapping[str, Features]) -> tuple[str, ...]:
    """List the poolings to predict from: "cls" and "patch", as far as any model has them; if no
    model has either, "mean"."""
    present = {pooling for one in features.values() for pooling in one.poolings}
    return tuple(pooling for pooling in ("cls", "patch") if pooling in present) or ("mean",)


def find_last_column(features: Features, reading: str) -> Column:
    """Return the last tap with this pooling, as a column (name of the tap, pooling).

    If the model's last tap does not have this pooling, the column has the pooling "mean", or "flat"
    for raw pixels.
    """
    columns = [(features.taps[-1].name, pooling) for pooling in (reading, "mean", "flat")]
    return next(column for column in columns if column in features.columns)


@final
@dataclass(frozen=True, eq=False)
class Predictions:
    """The predicted classes of all models.

    Attributes:
        by_model: the predictions by the model's name.
        classes: the number of classes that can be predicted.
        why: what is wrong with a model's probes, as a clause, by the model's name; only of models
            that have a probe which has not converged inside its path of penalties.
        folds: the number of probes of a model, each of which predicts its own part of the images;
            0 where one probe of a bank predicts all.
    """

    by_model: Mapping[str, Predicted]
    classes: int
    why: Mapping[str, str]
    folds: int


def predict_classes(
    features: FeatureSets, labels: Labels, reading: str, seed: int = 0
) -> Predictions:
    """Predict the class of each image with a logistic probe of each model
    (`sslens.probes.logistic`).

    With a bank it is the probe of the exhibits of probes: a part of the bank trains it and the
    rest chooses its penalty, as `probe_split.Split` divides them. Without a bank those exhibits
    test on half of the images; here the images are dealt out to five folds, class by class: the
    probe that predicts a fold has its penalty chosen on the next one and is trained on the other
    three. Only classes with at least one training image can be predicted.

    Args:
        features: the features of all models.
        labels: the class of each image.
        reading: the pooling of the features: "cls", "patch" or "mean".
        seed: seed of the split of a bank.

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
    parts = _split_bank(features, labels, seed) if features.bank else None
    logits: dict[str, Tensor] = {}
    why: dict[str, str] = {}
    for model, own in features.images.items():
        if own.ids != ids:
            raise InputError(
                f"The features of {model} are of other images than those of the first model."
            )
        column, bank = find_last_column(own, reading), features.bank.get(model)
        x = read_features(own, *column)
        if bank is None or parts is None:
            logits[model], why[model] = _predict_folds(x, numbers, ids, len(classes))
        else:
            rows = np.concatenate(parts)
            banked = np.array([place[labels.bank[bank.ids[row]]] for row in rows])
            logits[model], why[model] = compute_probe_logits(
                read_features(bank, *column)[torch.from_numpy(rows)],
                banked,
                np.arange(len(rows)) >= len(parts[0]),
                x,
                len(classes),
            )
    top = min(max(KS), len(classes))
    return Predictions(
        {model: Predicted.of(values, numbers, top) for model, values in logits.items()},
        len(classes),
        {model: clause for model, clause in why.items() if clause},
        0 if features.bank else FOLDS,
    )


def _split_bank(
    features: FeatureSets, labels: Labels, seed: int
) -> tuple[Int64[np.ndarray, " train"], Int64[np.ndarray, " validation"]]:
    """Divide the rows of the bank into those that train and those that choose the penalty: as of
    the exhibits of probes, or by the folds where the bank has too few images for these."""
    if explain_unfit_sets(features, labels) is None:
        split = Split.of(features, labels, seed)
        return split.train, split.validation
    ids = next(iter(features.bank.values())).ids
    fold = deal_out(np.array([labels.bank[name] for name in ids]), ids)
    return np.flatnonzero(fold != 0), np.flatnonzero(fold == 0)


def _predict_folds(
    x: Float[Tensor, "image dim"],
    labels: Int64[np.ndarray, " image"],
    ids: Sequence[str],
    classes: int,
) -> tuple[Float[Tensor, "image class"], str]:
    """Logits of every image from a probe that was trained on other images, and what is wrong with
    the probes."""
    fold = deal_out(labels, ids)
    logits = torch.empty(len(x), classes)
    clauses = []
    for number in range(FOLDS):
        asked, rest = fold == number, np.flatnonzero(fold != number)
        if asked.any():
            chosen_on = fold[rest] == (number + 1) % FOLDS
            logits[asked], clause = compute_probe_logits(
                x[rest], labels[rest], chosen_on, x[asked], classes
            )
            clauses.append(clause)
    return logits, next(filter(None, clauses), "")


def deal_out(
    labels: Int64[np.ndarray, " image"], ids: Sequence[str]
) -> Int64[np.ndarray, " image"]:
    """Deal the images of each class out to five folds in turn, in the order of the SHA-256 of their
    ids; a class with few images is in few folds.

    >>> np.bincount(deal_out(np.array([0] * 6 + [1] * 4), list("abcdefghij"))).tolist()
    [2, 2, 2, 2, 2]
    """
    order = sorted(range(len(ids)), key=lambda row: hashlib.sha256(ids[row].encode()).digest())
    by_class = sorted(order, key=lambda row: int(labels[row]))  # a stable sort
    fold = np.empty(len(ids), np.int64)
    fold[by_class] = np.arange(len(ids)) % FOLDS
    return fold


def compute_probe_logits(
    features: Float[Tensor, "image dim"],
    labels: Int64[np.ndarray, " image"],
    held: Bool[np.ndarray, " image"],
    asked: Float[Tensor, "asked dim"],
    classes: int,
) -> tuple[Float[Tensor, "asked class"], str]:
    """Train a logistic probe, and return the logits of other images and what is wrong with the
    probe.

    Args:
        features: features of the labelled images.
        labels: class of each of these, an index below `classes`.
        held: the images on which the penalty is chosen; the others train.
        asked: features of the images to predict.
        classes: number of classes; one without a training image comes after all others.
    """
    numbers, kept = torch.from_numpy(labels), ~held
    (probe,) = fit_logistic([features[kept]], numbers[kept], [features[held]], numbers[held])
    values = probe.logits(asked)
    logits = values.min(1, keepdim=True).values.expand(-1, classes) - 1
    return logits.scatter(1, probe.classes.expand(len(asked), -1), values), probe.why
