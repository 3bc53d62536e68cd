"""R² of predictions on test images, with its interval over images."""

import numpy as np
from jaxtyping import Float64

from sslens.statistics.estimate import NAN, Estimate
from sslens.statistics.jackknife import compute_ends, compute_errors, compute_freedom


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
    if spread.sum() == 0:
        return Estimate(NAN, n=images)
    lost = errors.sum() / spread.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        # Σ(y − ȳ)² without image i is Σ(y − ȳ)² − n/(n − 1) (yᵢ − ȳ)²
        rest = spread.sum() - spread * images / (images - 1)
        left_out = np.log(errors.sum() - errors) - np.log(np.maximum(rest, 0))
        share = (errors / errors.sum() + spread / spread.sum()) / 2
    if not np.isfinite(left_out).all():
        return Estimate(float(1 - lost), n=images)
    ends = compute_ends(np.asarray(np.log(lost)), compute_errors(left_out), compute_freedom(share))
    low, high = (float(1 - np.exp(end)) for end in reversed(ends))
    return Estimate(float(1 - lost), low, high, "images", images)
