"""What the rows of a logistic regression are trained towards: a class each, or shares of classes
and a weight each."""

from typing import Protocol, final, runtime_checkable

import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor


@runtime_checkable
class Targets(Protocol):
    """The parts of the loss Σ_i w_i (log Σ_c exp z_ic − Σ_c q_ic z_ic) that depend on targets, for
    rows i with weights w_i (Σ w_i = 1), logits z and shares q_ic of classes (Σ_c q_ic = 1).

    Attributes:
        shares: Σ_i w_i q_ic, above 0 for every class.
        mixed: whether a row may be of several classes at once.
    """

    shares: Float64[Tensor, "class 1"]
    mixed: bool

    def compute_loss(
        self, logits: Float64[Tensor, "head class row"], total: Float64[Tensor, "head 1 row"]
    ) -> Float64[Tensor, " head"]:
        """The loss; `total` is log Σ_c exp z_ic."""

    def compute_error(
        self, probability: Float64[Tensor, "head class row"]
    ) -> Float64[Tensor, "head class row"]:
        """The derivative of the loss by the logits, w_i (p_ic − q_ic)."""

    def average(
        self, probability: Float64[Tensor, "head class row"]
    ) -> Float64[Tensor, "head class 1"]:
        """Σ_i w_i p_ic."""

    def multiply(
        self, probability: Float64[Tensor, "head class row"]
    ) -> Float64[Tensor, "head class class"]:
        """Σ_i w_i p_ic p_id."""

    def scale(
        self, x: Float32[Tensor, "head row axis_and_one"]
    ) -> Float32[Tensor, "head row axis_and_one"]:
        """√(n w_i) x_i: the mean of the outer products of these is Σ_i w_i x_i x_iᵀ."""


@final
class Classes:
    """One class for each of n rows, all of weight 1/n.

    Args:
        labels: class of each row, 0 to `classes` − 1, each with one row or more.
        classes: number of classes.
    """

    mixed = False

    def __init__(self, labels: Int64[Tensor, " row"], classes: int) -> None:
        self.labels = labels
        self._rows = torch.arange(len(labels), device=labels.device)
        counts = torch.bincount(labels, minlength=classes).double()
        self.shares: Float64[Tensor, "class 1"] = counts[:, None] / len(labels)

    def compute_loss(
        self, logits: Float64[Tensor, "head class row"], total: Float64[Tensor, "head 1 row"]
    ) -> Float64[Tensor, " head"]:
        return (total[:, 0] - logits[:, self.labels, self._rows]).mean(1)

    def compute_error(
        self, probability: Float64[Tensor, "head class row"]
    ) -> Float64[Tensor, "head class row"]:
        error = probability / len(self.labels)
        error[:, self.labels, self._rows] -= 1 / len(self.labels)
        return error

    def average(
        self, probability: Float64[Tensor, "head class row"]
    ) -> Float64[Tensor, "head class 1"]:
        return probability.mean(2, keepdim=True)

    def multiply(
        self, probability: Float64[Tensor, "head class row"]
    ) -> Float64[Tensor, "head class class"]:
        return probability @ probability.mT / probability.shape[2]

    def scale(
        self, x: Float32[Tensor, "head row axis_and_one"]
    ) -> Float32[Tensor, "head row axis_and_one"]:
        return x


@final
class Shares:
    """Shares of classes and a weight for each row.

    Args:
        shares: q, each column with the sum 1; every class has a share in some row of weight.
        weights: w, with the sum 1.
    """

    mixed = True

    def __init__(
        self, shares: Float64[Tensor, "class row"], weights: Float64[Tensor, " row"]
    ) -> None:
        self.weights = weights
        self._parts = shares * weights
        self.shares: Float64[Tensor, "class 1"] = self._parts.sum(1, keepdim=True)

    def compute_loss(
        self, logits: Float64[Tensor, "head class row"], total: Float64[Tensor, "head 1 row"]
    ) -> Float64[Tensor, " head"]:
        return ((total - logits) * self._parts).sum((1, 2))

    def compute_error(
        self, probability: Float64[Tensor, "head class row"]
    ) -> Float64[Tensor, "head class row"]:
        return probability * self.weights - self._parts

    def average(
        self, probability: Float64[Tensor, "head class row"]
    ) -> Float64[Tensor, "head class 1"]:
        return (probability @ self.weights)[..., None]

    def multiply(
        self, probability: Float64[Tensor, "head class row"]
    ) -> Float64[Tensor, "head class class"]:
        return (probability * self.weights) @ probability.mT

    def scale(
        self, x: Float32[Tensor, "head row axis_and_one"]
    ) -> Float32[Tensor, "head row axis_and_one"]:
        return x * (self.weights * len(self.weights)).sqrt().float()[:, None]
