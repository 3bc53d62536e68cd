"""Intervals of shares of images, and of the difference of two shares on the same images."""

import numpy as np
from jaxtyping import Bool

from sslens.statistics.estimate import Estimate

#: the 97.5 % quantile of the normal distribution
Z = 1.959964


def wilson(correct: int, count: int, z: float = Z) -> tuple[float, float]:
    """The 95 % interval of a share by Wilson's score (1927), which holds near 0 and 1 and for few
    images.

    Args:
        correct: images of the share.
        count: all images.
        z: the normal's quantile that the level asks for.

    >>> [round(end, 4) for end in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    share = correct / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = (
        z / (1 + z * z / count) * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    )
    return middle - half, middle + half


def share(right: Bool[np.ndarray, " image"]) -> Estimate:
    """The share of images that are right, with its 95 % Wilson interval.

    >>> estimate = share(np.array([True] * 8 + [False] * 2))
    >>> estimate.value, round(estimate.low, 4), round(estimate.high, 4)
    (0.8, 0.4902, 0.9433)
    """
    return Estimate(
        float(right.mean()), *wilson(int(right.sum()), len(right)), "images", len(right)
    )


def difference_of_shares(
    right: Bool[np.ndarray, " image"], other: Bool[np.ndarray, " image"]
) -> Estimate:
    """The share that is right less the share of another on the same images, paired.

    The 95 % interval is d ± 1.96 s/√n, with d the mean over n images of the difference (1, 0 or −1)
    and s its standard deviation.

    >>> right, other = np.array([True, True, True, False]), np.array([True, False, False, False])
    >>> estimate = difference_of_shares(right, other)  # 0.5 ± 1.96 · √(1/3) / √4
    >>> estimate.value, round(estimate.low, 4), round(estimate.high, 4)
    (0.5, -0.0658, 1.0658)
    """
    difference = right.astype(float) - other
    mean, error = difference.mean(), difference.std(ddof=1) / len(difference) ** 0.5
    ends = float(mean - Z * error), float(mean + Z * error)
    return Estimate(float(mean), *ends, "images", len(difference))
