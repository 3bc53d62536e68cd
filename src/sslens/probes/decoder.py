"""A deterministic decoder: from features to the pixels that they are features of, by least
squares."""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from sslens.errors import InputError

#: hidden units, of fixed random weights
HIDDEN = 1024
#: penalties λ that are tried, on inputs of variance 1
LAMBDAS = tuple(10.0**power for power in range(-5, 4))
#: the smallest mean squared error of a picture: half a level of 255 is 4e-6
LEAST = 1e-10
#: rows that are predicted at a time
ROWS = 8192


@final
@dataclass(frozen=True, eq=False)
class Decoder:
    """A decoder of two layers: fixed random hidden units beside the features themselves, and output
    weights at the exact minimum of the penalised squared error.

    With z the features, standardised over the training rows, and h = [z, relu(z A + a)],

        x̂ = (h − h̄) W + x̄,   W = argmin |(h − h̄) W − (x − x̄)|² / n + λ |W|²

    A and a are normal with variances 1 / dim and 1 (random features: Rahimi and Recht, 2007; Huang
    et al., 2006, Neurocomputing 70:489). There is no training that could stop too early: W is found
    in closed form, and λ on other images.

    Attributes:
        mean: of the features.
        scale: their standard deviation, infinite where a feature is constant.
        hidden: A and, in its last row, a.
        middle: the mean of h.
        weights: W.
        offset: the mean of the targets.
        penalty: λ.
        inside: whether penalties on both sides of λ were tried.
    """

    mean: Float32[Tensor, " dim"]
    scale: Float32[Tensor, " dim"]
    hidden: Float32[Tensor, "dim1 unit"]
    middle: Float32[Tensor, " input"]
    weights: Float32[Tensor, "input target"]
    offset: Float32[Tensor, " target"]
    penalty: float
    inside: bool

    @property
    def units(self) -> int:
        """The number of hidden units."""
        return self.hidden.shape[1]

    def decode(self, features: Float[Tensor, "row dim"]) -> Float32[Tensor, "row target"]:
        """Return the targets that the features say."""
        parts = [
            (_expand(part.float(), self.mean, self.scale, self.hidden) - self.middle) @ self.weights
            for part in features.split(ROWS)
        ]
        return torch.cat(parts) + self.offset


def fit_decoder(
    features: Float[Tensor, "row dim"],
    targets: Float[Tensor, "row target"],
    validation_features: Float[Tensor, "other dim"],
    validation_targets: Float[Tensor, "other target"],
    *,
    hidden: int | None = None,
    seed: int = 0,
) -> Decoder:
    """Fit a decoder, with the penalty that is best on the validation rows; it has 1,024 hidden
    units unless told.

    Raises:
        InputError: fewer than two rows, or values that are not finite.

    >>> x = torch.linspace(-1, 1, 64)[:, None]
    >>> decoder = fit_decoder(x[::2], x[::2].square(), x[1::2], x[1::2].square(), hidden=64)
    >>> bool((decoder.decode(x) - x.square()).abs().max() < 0.02)  # which no linear one can
    True
    """
    if len(features) < 2 or not len(validation_features):
        raise InputError("A decoder needs two rows or more to train on, and one to choose on.")
    for values in (features, targets, validation_features, validation_targets):
        if not torch.isfinite(values).all():
            raise InputError(
                "The features or targets hold values that are not finite: the model or its input"
                " is broken."
            )
    x, y = features.float(), targets.float()
    deviation, mean = torch.std_mean(x, 0, correction=0)
    scale = torch.where(deviation > 1e-6 * mean.abs(), deviation, torch.inf)
    generator = torch.Generator().manual_seed(seed)
    count = HIDDEN if hidden is None else hidden
    units = torch.randn(x.shape[1] + 1, count, generator=generator)
    units[:-1] /= x.shape[1] ** 0.5
    inputs = _expand(x, mean, scale, units)
    middle, offset = inputs.mean(0), y.mean(0)
    inputs = inputs - middle
    spectrum, vectors = torch.linalg.eigh((inputs.T @ inputs).double() / len(x))
    projected = vectors.T @ (inputs.T @ (y - offset)).double() / len(x)
    chosen = _expand(validation_features.float(), mean, scale, units) - middle
    turned, wanted = chosen.double() @ vectors, validation_targets.double() - offset.double()
    errors = [
        float(
            (turned @ (projected / (spectrum.clamp(min=0) + one)[:, None]) - wanted).square().mean()
        )
        for one in LAMBDAS
    ]
    best = int(np.argmin(errors))
    weights = vectors @ (projected / (spectrum.clamp(min=0) + LAMBDAS[best])[:, None])
    inside = 0 < best < len(LAMBDAS) - 1
    return Decoder(mean, scale, units, middle, weights.float(), offset, LAMBDAS[best], inside)


def measure_psnr(
    decoded: Float[Tensor, "image ..."], pictures: Float[Tensor, "image ..."]
) -> Float64[np.ndarray, " image"]:
    """Compute the peak signal-to-noise ratio of each picture, in decibels.

    PSNR = −10 log₁₀ mean((x̂ − x)²) for pixels from 0 to 1; x̂ is cut off at 0 and 1 first.

    >>> measure_psnr(torch.full((1, 4), 0.6), torch.full((1, 4), 0.5)).round(3).tolist()
    [20.0]
    """
    apart = decoded.double().clamp(0, 1) - pictures.double()
    errors = apart.square().flatten(1).mean(1).clamp(min=LEAST)
    found: Float64[np.ndarray, " image"] = (-10 * errors.log10()).numpy()
    return found


def _expand(
    x: Float32[Tensor, "row dim"],
    mean: Float32[Tensor, " dim"],
    scale: Float32[Tensor, " dim"],
    units: Float32[Tensor, "dim1 unit"],
) -> Float32[Tensor, "row input"]:
    """The standardised features, and the hidden units beside them."""
    z = (x - mean) / scale
    return torch.cat([z, torch.relu(z @ units[:-1] + units[-1])], 1)
