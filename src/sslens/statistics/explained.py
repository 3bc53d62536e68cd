"""R² of predictions on test images, and the share by which one loss of them is below another, with
their intervals over images."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from sslens.statistics.estimate import NAN, Estimate
from sslens.statistics.jackknife import compute_ends, compute_errors, compute_freedom


class R2(NamedTuple):
    """R², or another 1 less a ratio of sums, with the ends of its interval."""

    value: Float64[np.ndarray, "*cell"]
    low: Float64[np.ndarray, "*cell"]
    high: Float64[np.ndarray, "*cell"]


def compute_r2(
    errors: Float64[np.ndarray, "*cell image"], spread: Float64[np.ndarray, "*cell image"]
) -> R2:
    """Compute R² and its 95 % interval from squared errors and squared distances from the mean.

    See `estimate_r2`.

    Args:
        errors: |yᵢ − ŷᵢ|² of each image.
        spread: |yᵢ − ȳ|² of each image.

    Returns:
        R², nan where the target is constant; ends are nan where they are undefined.

    >>> found = compute_r2(np.full(40, 1.0), (np.arange(40) - 19.5) ** 2)  # 1 − 40 / 5330
    >>> [round(float(number), 5) for number in found]
    [0.9925, 0.98984, 0.99445]
    """
    images = errors.shape[-1]
    # Σ(y − ȳ)² without image i is Σ(y − ȳ)² − n/(n − 1) (yᵢ − ȳ)²
    return _subtract_ratio(errors, spread, spread * images / (images - 1))


def estimate_saving(
    own: Float64[np.ndarray, " image"], other: Float64[np.ndarray, " image"]
) -> Estimate:
    """Compute 1 − Σᵢ ownᵢ / Σᵢ otherᵢ of two losses of the same images, with its 95 % interval over
    images: the jackknife's of the logarithm of the ratio.

    Args:
        own, other: the losses of each image, above 0.

    >>> one = estimate_saving(np.full(40, 3.0), np.full(40, 4.0) + np.tile([1.0, -1.0], 20))
    >>> round(one.value, 5), round(one.low, 3), round(one.high, 3)  # 1 − 0.75 exp(± 2.02 · 0.04)
    (0.25, 0.187, 0.308)
    """
    value, low, high = (float(number) for number in _subtract_ratio(own, other, other))
    return Estimate(value, low, high, "images", len(own))


def _subtract_ratio(
    errors: Float64[np.ndarray, "*cell image"],
    spread: Float64[np.ndarray, "*cell image"],
    taken: Float64[np.ndarray, "*cell image"],
) -> R2:
    """1 − Σ errors / Σ spread; without an image the second sum is less by what it has `taken`."""
    lost, all_spread = (part.sum(-1, keepdims=True) for part in (errors, spread))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (lost / all_spread)[..., 0]
        left_out = np.log(lost - errors) - np.log(np.maximum(all_spread - taken, 0))
        share = (errors / lost + spread / all_spread) / 2
        deviations = compute_errors(left_out)
        ends = compute_ends(np.asarray(np.log(ratio)), deviations, compute_freedom(share))
    fine = np.isfinite(left_out).all(-1)
    low, high = (np.where(fine, 1 - np.exp(end), np.nan) for end in reversed(ends))
    return R2(np.where(all_spread[..., 0] > 0, 1 - ratio, np.nan), low, high)


def estimate_r2(
    target: Float64[np.ndarray, "image part"], predicted: Float64[np.ndarray, "image part"]
) -> Estimate:
    """Compute R² = 1 − Σᵢ |yᵢ − ŷᵢ|² / Σᵢ |yᵢ − ȳ|² with its 95 % interval over images.

    The interval is the jackknife's of log(1 − R²), the logarithm of a ratio of two sums over
    images, so that it holds near R² = 1 too. It covers other test images, and not another training
    of the probe. A factor of several parts, such as an angle's sine and cosine, has one R².

    Args:
        target: the true values.
        predicted: the predictions.

    Returns:
        R²; nan if the target is constant. There is no interval where R² is 1 or undefined without
        some image.

    >>> y, error = np.arange(40.0)[:, None], np.tile([[1.0], [-1.0]], (20, 1))
    >>> estimate = estimate_r2(y, y + error)  # 1 − 40 / 5330
    >>> round(estimate.value, 5), round(estimate.low, 5), round(estimate.high, 5)
    (0.9925, 0.98984, 0.99445)
    """
    images = len(target)
    errors = ((target - predicted) ** 2).sum(1)
    spread = ((target - target.mean(0)) ** 2).sum(1)
    if (target == target[:1]).all():  # the mean of equal numbers may be off by rounding
        return Estimate(NAN, n=images)
    value, low, high = (float(number) for number in compute_r2(errors, spread))
    return Estimate(value, low, high, "images", images)
