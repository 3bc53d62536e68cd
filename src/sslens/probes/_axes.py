"""Features and classes as logistic regressions take them: in the axes of their covariance, and as
numbers of the classes that have training images."""

from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from sslens.probes._targets import Classes

#: rows that are turned at a time, where they are many
ROWS = 1 << 13


@final
@dataclass(frozen=True, eq=False)
class Labelled:
    """The classes of training and validation images, as numbers of the trained classes.

    Attributes:
        classes: the numbers as they are given.
        labels: of the training images.
        asked: of the validation images; −1 for a class without training images.
        top: an image is right when its class is among so many highest logits.
    """

    classes: Int64[Tensor, " class"]
    labels: Int64[Tensor, " image"]
    asked: Int64[Tensor, " validated"]
    top: int

    @classmethod
    def of(cls, labels: Tensor, asked: Tensor, top: int, device: str) -> "Labelled":
        classes, numbers = labels.unique(return_inverse=True)
        return cls(classes, numbers.to(device), place_labels(asked, classes).to(device), top)

    @cached_property
    def targets(self) -> Classes:
        """The class of each training image."""
        return Classes(self.labels, len(self.classes))

    def score(
        self, logits: Float64[Tensor, "head class validated"]
    ) -> tuple[Float64[Tensor, " head"], Float64[Tensor, " head"], Int64[Tensor, "head validated"]]:
        """Share of validation images right, their cross-entropy, and the classes predicted."""
        known = self.asked >= 0
        own = logits.gather(1, self.asked.clamp_min(0).expand(len(logits), 1, -1))
        right = find_right(logits, self.asked, self.top).double().mean(1)
        losses = (logits.logsumexp(1) - own[:, 0])[:, known]
        losses = losses.mean(1) if known.any() else torch.zeros_like(right)
        return right, losses, self.classes[logits.argmax(1).cpu()]


@final
@dataclass(frozen=True, eq=False)
class Axes:
    """Features in the axes of their covariance.

    Attributes:
        values: coordinates of the training images, of mean 0.
        asked: of the validation images.
        turn: from the features as they come (less `mean`) to the coordinates.
        mean: of the features.
        varies: whether any feature varies.
    """

    values: Float64[Tensor, "image axis"]
    asked: Float64[Tensor, "validated axis"]
    turn: Float64[Tensor, "dim axis"]
    mean: Float64[Tensor, " dim"]
    varies: bool

    @classmethod
    def of(
        cls, features: Float[Tensor, "image dim"], asked: Float[Tensor, "validated dim"]
    ) -> "Axes":
        """Standardise features, and turn them into the axes of their covariance."""
        x = features.double()
        mean = x.mean(0)
        x = x - mean
        scale = x.square().mean(0).sqrt()
        # what rounding leaves of a constant feature is no feature
        varying = scale > 1e-7 * mean.abs()
        scale = torch.where(varying, scale, torch.inf)
        x = x / scale
        n, dim = x.shape
        if n > dim:
            turn = torch.linalg.eigh(x.T @ x / n).eigenvectors
        else:
            # the weights at the optimum lie in the span of the images
            spectrum, vectors = torch.linalg.eigh(x @ x.T / n)
            large = spectrum > spectrum[-1] * n * torch.finfo(torch.float64).eps
            turn = x.T @ vectors[:, large] / (n * spectrum[large]).sqrt()
        if not varying.any():
            turn = x.new_zeros(dim, 1)
        turned = turn / scale[:, None]
        return cls(x @ turn, (asked.double() - mean) @ turned, turned, mean, bool(varying.any()))

    @classmethod
    def of_weighted(
        cls,
        features: Float[Tensor, "row dim"],
        asked: Float[Tensor, "validated dim"],
        weights: Float64[Tensor, " row"],
    ) -> "Axes":
        """Do the same for rows of unequal weights, with the sum 1, which may be many: features in
        float64 are made of some rows at a time."""
        parts = list(zip(features.split(ROWS), weights.split(ROWS), strict=True))
        mean = sum((w @ x.double() for x, w in parts), weights.new_zeros(features.shape[1]))
        variance = sum((w @ (x.double() - mean).square() for x, w in parts), torch.zeros_like(mean))
        scale = variance.sqrt()
        varying = scale > 1e-7 * mean.abs()
        scale = torch.where(varying, scale, torch.inf)
        n, dim = features.shape
        if not varying.any():
            turn = mean.new_zeros(dim, 1)
        elif n > dim:
            covariance = mean.new_zeros(dim, dim)
            for x, w in parts:
                rows = (x.double() - mean) * (w.sqrt()[:, None] / scale)
                covariance.addmm_(rows.T, rows)
            turn = torch.linalg.eigh(covariance).eigenvectors
        else:
            rows = (features.double() - mean) * (weights.sqrt()[:, None] / scale)
            spectrum, vectors = torch.linalg.eigh(rows @ rows.T)
            large = spectrum > spectrum[-1] * n * torch.finfo(torch.float64).eps
            turn = rows.T @ vectors[:, large] / spectrum[large].sqrt()
        turned = turn / scale[:, None]
        values = mean.new_empty(n, turn.shape[1])
        for x, into in zip(features.split(ROWS), values.split(ROWS), strict=True):
            torch.mm(x.double() - mean, turned, out=into)
        return cls(values, (asked.double() - mean) @ turned, turned, mean, bool(varying.any()))


def place_labels(
    labels: Int64[Tensor, " image"], classes: Int64[Tensor, " class"]
) -> Int64[Tensor, " image"]:
    """Return the place of each label in the sorted classes; −1 where it is none of them."""
    place = torch.searchsorted(classes, labels).clamp_max(len(classes) - 1)
    return torch.where(classes[place] == labels, place, -1)


def find_right(
    logits: Float[Tensor, "head class image"], labels: Int64[Tensor, " image"], top: int
) -> Bool[Tensor, "head image"]:
    """Return which images have their class among the `top` highest logits, of equal ones the first
    classes; an image of class −1 is never right, nor is one whose logits are nan."""
    own = logits.gather(1, labels.clamp_min(0).expand(len(logits), 1, -1))
    before = torch.arange(logits.shape[1], device=logits.device)[:, None] < labels
    ahead = ((logits > own) | ((logits == own) & before)).sum(1)
    return (ahead < top) & (labels >= 0) & ~own[:, 0].isnan()
