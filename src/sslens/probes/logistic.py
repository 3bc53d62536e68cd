"""The linear probe: multinomial logistic regression at its optimum, of many features at once, with
the penalty chosen on held-out images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor

from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.probes._axes import Axes, Labelled, find_right, place_labels
from sslens.probes._path import GAP, Trial, Walk

#: penalties λ that are always tried, on features of variance 1, from the strongest
PENALTIES = tuple(10.0**-power for power in range(7))
#: bytes of the heads that are fitted together: what a processor's cache or a GPU holds
TOGETHER = {"cpu": 1 << 24, "cuda": 1 << 33}


@final
@dataclass(frozen=True, eq=False)
class LogisticProbe:
    """The regression at the penalty that was chosen, and the path of all that were tried.

    Attributes:
        classes: the classes that have training images; others are never predicted.
        weights: of the features as they come.
        intercept: of each class.
        path: all regressions that were tried, from the strongest penalty.
        chosen: the row of the path that was chosen.
        varies: whether any feature varies over the training images.
    """

    classes: Int64[Tensor, " class"]
    weights: Float64[Tensor, "dim class"]
    intercept: Float64[Tensor, " class"]
    path: tuple[Trial, ...]
    chosen: int
    varies: bool = True

    @property
    def penalty(self) -> float:
        """The penalty that was chosen."""
        return self.path[self.chosen].penalty

    @property
    def gap(self) -> float:
        """The certificate at that penalty: the largest part of its loss that it is above the
        minimum."""
        return self.path[self.chosen].gap

    @property
    def validation(self) -> float:
        """Share of validation images that are right."""
        return self.path[self.chosen].validation

    @property
    def converged(self) -> bool:
        """Whether the certificate is at most `GAP`."""
        return self.gap <= GAP

    @property
    def inside(self) -> bool:
        """Whether penalties on both sides of the chosen one were tried, or none matters."""
        return not self.varies or 0 < self.chosen < len(self.path) - 1

    @property
    def why(self) -> str:
        """What is wrong with the probe, as a clause; empty if it has converged inside its path."""
        if not self.converged:
            return f"the loss may lie {self.gap:.2%} of itself above its minimum"
        if not self.inside:
            end = "strongest" if self.chosen == 0 else "weakest"
            return f"the penalty chosen, {self.penalty:g}, is the {end} that was tried"
        return ""

    def logits(self, features: Float[Tensor, "image dim"]) -> Float32[Tensor, "image class"]:
        """Compute the logits of `classes`, in float64, and round them."""
        return (features.double() @ self.weights + self.intercept).float()

    def predict(self, features: Float[Tensor, "image dim"]) -> Int64[Tensor, " image"]:
        """Predict the class of each image, as a number of the labels; of equal ones the first."""
        return self.classes[self.logits(features).argmax(1)]

    def right(
        self,
        features: Float[Tensor, "image dim"],
        labels: Int64[Tensor, " image"],
        top: int = 1,
    ) -> Bool[Tensor, " image"]:
        """Return which images are right: the label is among the `top` highest logits; of equal ones
        the first class comes first."""
        logits = self.logits(features)
        return find_right(logits.T[None], place_labels(labels, self.classes), top)[0]


def fit_logistic(
    train: Sequence[Float[Tensor, "_ _"]],
    labels: Int64[Tensor, " image"],
    validation: Sequence[Float[Tensor, "_ _"]],
    validation_labels: Int64[Tensor, " validated"],
    *,
    penalties: Sequence[float] = PENALTIES,
    widen: bool = True,
    top: int = 1,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> list[LogisticProbe]:
    """Fit a logistic regression to each of several features of some images, at its best penalty.

    Minimises, for features X of mean 0 and variance 1 over the training images (as by a BatchNorm
    without affine part; a feature without variance stays 0),

        f(W, b) = −(1/n) Σ_i log softmax(x_i W + b)_{y_i} + λ/2 ‖W‖²

    where b is not penalised; scikit-learn's `C` is 1 / (n λ). All heads go on in batched products,
    and those that have converged leave the batch. f, minimised over b, is λ-strongly convex in W,
    so that ‖∂f/∂W‖² / (2λ) bounds what it lies above its minimum (Boyd & Vandenberghe, 2004, eq.
    9.9): a head has converged when this is at most `GAP` of f, computed in float64.

    The penalty with most validation images right is chosen, of equal ones one inside the path, with
    the least cross-entropy. While the choice is at an end, the path goes on there, up to
    `STRONGEST` and `WEAKEST`; where these are reached, `inside` is False and `why` says so.

    Args:
        train: features of the training images: one array a head, of any widths.
        labels: class of each training image, as a number.
        validation: features of the images on which the penalty is chosen, by head.
        validation_labels: class of each of these.
        penalties: λ that are always tried.
        widen: whether the path goes on where the choice is at its end.
        top: an image is right when its class is among so many highest logits.
        device: where the products are computed.
        progress: called with heads done and heads in all.

    Raises:
        InputError: images, classes, features or penalties of which no probe can be trained.

    >>> x, y = torch.tensor([[-1.0], [1.0], [-1.0], [1.0]]), torch.tensor([0, 1, 1, 0])
    >>> probe, = fit_logistic([x], y, [x], y, penalties=[1.0], widen=False)
    >>> probe.path[0].loss  # the classes know nothing of x: log 2
    0.6931...
    >>> probe.weights.abs().max().item() < 1e-6
    True
    """
    _require(train, labels, penalties)
    _require_validation(train, validation, validation_labels)
    data, probes = Labelled.of(labels, validation_labels, top, device), list[LogisticProbe]()
    pairs = list(zip(train, validation, strict=True))
    while len(probes) < len(train):
        group = _take_group(pairs[len(probes) :], data, device)
        for choice in Walk(group, data).choose(penalties, widen=widen):
            probes.append(LogisticProbe(data.classes, *choice))
        if progress:
            progress(len(probes), len(train))
    return probes


def _take_group(pairs: Sequence[tuple[Tensor, Tensor]], data: Labelled, device: str) -> list[Axes]:
    """The first heads that are together at most `TOGETHER` bytes, padded to one width, or one."""
    room = TOGETHER[torch.device(device).type]
    group: list[Axes] = []
    width = 0
    for train, validation in pairs:
        width = max(width, min(train.shape))
        images, classes = len(data.labels), len(data.classes)
        # float64 and float32 features; logits, probabilities and what is between; weights and steps
        size = 12 * images * width + 40 * images * classes + 80 * classes * width
        if group and size * (len(group) + 1) > room:
            break
        group.append(Axes.of(train.to(device), validation.to(device)))
    return group


def _require(
    features: Sequence[Float[Tensor, "_ _"]],
    labels: Int64[Tensor, " image"],
    penalties: Sequence[float],
) -> None:
    """Refuse data of which no probe can be trained."""
    if len(labels) < 2:
        raise InputError("A probe needs two images or more.")
    if not penalties or not all(0 < penalty < float("inf") for penalty in penalties):
        raise InputError(f"The penalties are {list(penalties)}: give numbers above 0.")
    if len(labels.unique()) < 2:
        raise InputError(
            f"All {len(labels):,} images are of one class: a probe needs two classes or more."
        )
    for x in features:
        if len(x) != len(labels):
            raise InputError(
                f"There are features of {spell_count(len(x), 'image')} and"
                f" {spell_count(len(labels), 'label')}."
            )
        if not torch.isfinite(x).all():
            raise InputError(
                "The features hold values that are not finite: the model or its input is broken."
            )


def _require_validation(
    train: Sequence[Float[Tensor, "_ _"]],
    validation: Sequence[Float[Tensor, "_ _"]],
    labels: Int64[Tensor, " validated"],
) -> None:
    """Refuse validation images that are none, or not of the same heads."""
    if not len(labels):
        raise InputError("There are no images to choose the penalty on: hold some out.")
    if len(train) != len(validation):
        raise InputError(
            f"There are {len(train)} features to train on and {len(validation)} to choose on: give"
            " one of each a head."
        )
    for x, asked in zip(train, validation, strict=True):
        if asked.shape != (len(labels), x.shape[1]):
            raise InputError(
                f"The validation features are {tuple(asked.shape)}: expected"
                f" {(len(labels), x.shape[1])}, as the labels and the training features are."
            )
        if not torch.isfinite(asked).all():
            raise InputError(
                "The features hold values that are not finite: the model or its input is broken."
            )
