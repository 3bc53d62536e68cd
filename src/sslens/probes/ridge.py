"""The ridge probe: a linear probe in closed form, for all strengths of its penalty at once. It
serves as an instant preview."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from sslens.errors import InputError

#: penalties λ that are tried, on features of variance 1
LAMBDAS = tuple(10.0**power for power in range(-6, 3))


@final
@dataclass(frozen=True, eq=False)
class RidgePath:
    """Ridge regressions on the same images, one for each penalty.

    Attributes:
        lambdas: the penalties.
        weights: the weights for features that are not normalised.
        intercept: the intercept of each target.
    """

    lambdas: tuple[float, ...]
    weights: Float64[Tensor, "lambda dim target"]
    intercept: Float64[Tensor, "lambda target"]
    _targets: Float64[Tensor, "image target"]
    _basis: Float64[Tensor, "image rank"]
    _spectrum: Float64[Tensor, " rank"]

    def predict(self, features: Float[Tensor, "test dim"]) -> Float64[Tensor, "lambda test target"]:
        """Predict the targets of features by each regression."""
        return features.double() @ self.weights + self.intercept[:, None]

    @cached_property
    def left_out(self) -> Float64[Tensor, "lambda image target"]:
        """The prediction for each image by the regression on all other images: y − (y − ŷ) / (1 −
        h).

        h is the image's diagonal entry of the hat matrix, 1/n + Σ_j u_j² s_j / (s_j + λ) (Allen,
        1974). The prediction is exact, except that the features are scaled by their variance over
        all images.
        """
        mean = self._targets.mean(0)
        centred = self._targets - mean
        projected = self._basis.T @ centred
        said = []
        for penalty in self.lambdas:
            kept = self._spectrum / (self._spectrum + penalty)
            hat = 1 / len(centred) + self._basis.square() @ kept
            fitted = self._basis @ (kept[:, None] * projected)
            said.append(self._targets - (centred - fitted) / (1 - hat)[:, None])
        return torch.stack(said)


def ridge(
    features: Float[Tensor, "image dim"],
    targets: Float[Tensor, "image target"],
    lambdas: Sequence[float] = LAMBDAS,
) -> RidgePath:
    """Fit ridge regressions of targets on features, for all penalties by one eigendecomposition, in
    float64.

    Minimises |X W + b − Y|² / n + λ |W|² for features X scaled to mean 0 and variance 1 (a constant
    feature stays 0); b is not penalised. With XᵀX / n = V s Vᵀ, or XXᵀ / n = U s Uᵀ where there are
    more features than images, W = V (s + λ)⁻¹ VᵀXᵀY / n = XᵀU (s + λ)⁻¹ UᵀY / n (Hoerl and Kennard,
    1970).

    Raises:
        InputError: fewer than two images, values that are not finite, or a penalty that is not
            above 0.

    >>> x, y = torch.tensor([[-1.0], [1.0]]), torch.tensor([[-1.0], [3.0]])
    >>> path = ridge(x, y, [1.0])  # XᵀX / n = 1, XᵀY / n = 2: w = 2 / (1 + 1), b = 1
    >>> path.weights.item(), path.intercept.item()
    (1.0, 1.0)
    >>> path.left_out.flatten().round(decimals=9).tolist()  # from the other image alone, w = 0
    [3.0, -1.0]
    """
    if len(features) < 2:
        raise InputError("A ridge probe needs two images or more.")
    if not lambdas or not all(0 < penalty < float("inf") for penalty in lambdas):
        raise InputError(f"The penalties are {list(lambdas)}: give numbers above 0.")
    for name, values in (("features", features), ("targets", targets)):
        if not torch.isfinite(values).all():
            raise InputError(
                f"The {name} hold values that are not finite: the model or its input is broken."
            )
    x, y = features.double(), targets.double()
    mean, middle = x.mean(0), y.mean(0)
    x = x - mean
    scale = x.square().mean(0).sqrt()
    # what rounding leaves of a constant feature is no feature
    scale = torch.where(scale > 1e-7 * mean.abs(), scale, torch.inf)
    x = x / scale
    n, dim = x.shape
    spectrum, vectors = torch.linalg.eigh(x.T @ x / n if n > dim else x @ x.T / n)
    large = spectrum > spectrum[-1] * 1e-12
    spectrum, vectors = spectrum[large], vectors[:, large]
    if n > dim:
        basis = (x @ vectors) / (n * spectrum).sqrt()
    else:
        basis, vectors = vectors, x.T @ vectors / (n * spectrum).sqrt()
    # X = U √(n s) Vᵀ with U the basis: Vᵀ XᵀY / n = √(s / n) UᵀY
    projected = basis.T @ (y - middle) * (spectrum / n).sqrt()[:, None]
    weights = torch.stack(
        [vectors @ (projected / (spectrum + penalty)[:, None]) for penalty in lambdas]
    )
    weights = weights / scale[:, None]
    return RidgePath(tuple(lambdas), weights, middle - mean @ weights, y, basis, spectrum)


def classify(
    features: Float[Tensor, "image dim"],
    labels: Int64[Tensor, " image"],
    test: Float[Tensor, "test dim"],
    lambdas: Sequence[float] = LAMBDAS,
) -> tuple[Int64[Tensor, " test"], float]:
    """Predict the class of each test image by ridge regression onto the classes (target 1 for an
    image's own class, else 0); returns the classes and the chosen penalty.

    The class with the largest prediction is taken. The chosen penalty is the one with which most
    training images are right when they are left out; of equal ones the largest.

    Raises:
        InputError: the labels are of one class, or for the same reasons as `ridge`.

    >>> x = torch.tensor([[0.0], [1.0], [9.0], [10.0]])
    >>> classify(x, torch.tensor([0, 0, 1, 1]), torch.tensor([[2.0], [8.0]]))[0].tolist()
    [0, 1]
    """
    if len(torch.unique(labels)) < 2:
        raise InputError(
            f"All {len(labels):,} images are of one class: a probe needs two classes or more."
        )
    path = ridge(features, torch.nn.functional.one_hot(labels).double(), lambdas)
    right = (path.left_out.argmax(2) == labels).double().mean(1)
    best = max(range(len(path.lambdas)), key=lambda row: (float(right[row]), path.lambdas[row]))
    return path.predict(test)[best].argmax(1), path.lambdas[best]
