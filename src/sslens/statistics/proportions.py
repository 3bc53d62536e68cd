"""Intervals of shares of images, and of the difference of two shares on the same images."""

import numpy as np
from jaxtyping import Bool

from sslens.statistics.estimate import Estimate

#: the 97.5 % quantile of the normal distribution
Z = 1.959964


def wilson(correct: int, count: int, z: float = Z) -> tuple[float, float]:
    """The 95 % interval of a share of images, by Wilson's score.

    With p = correct / count and n = count, the ends are (p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) /
    (1 + z²/n) (Wilson, 1927, J. Am. Stat. Assoc. 22:209). Unlike p ± z √(p(1 − p)/n), they lie
    between 0 and 1, and hold near these and for few images.

    Args:
        correct: number of images that are right.
        count: number of images.
        z: the quantile of the normal distribution; 1.96 for a level of 95 %.

    Returns:
        The lower and the upper end.

    >>> [round(end, 4) for end in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    share = correct / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = (
        z / (1 + z * z / count) * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    )
    return middle - half, middle + half


def estimate_share(right: Bool[np.ndarray, " image"]) -> Estimate:
    """Compute the share of correctly classified images, with its 95 % Wilson interval.

    Args:
        right: whether each image is classified correctly.

    >>> estimate = estimate_share(np.array([True] * 8 + [False] * 2))
    >>> estimate.value, round(estimate.low, 4), round(estimate.high, 4)
    (0.8, 0.4902, 0.9433)
    """
    return Estimate(
        float(right.mean()), *wilson(int(right.sum()), len(right)), "images", len(right)
    )


def difference_of_shares(
    right: Bool[np.ndarray, " image"], other: Bool[np.ndarray, " image"]
) -> Estimate:
    """Subtract the shares of images that two models classify correctly, with a paired interval.

    The difference on an image is 1 if only the first model is right, −1 if only the other one is,
    else 0. With d the mean and s the standard deviation of these differences over n images, the
    95 % interval is d ± 1.96 s/√n.

    Args:
        right: whether the first model classifies each image correctly.
        other: whether the other model does, for the same images in the same order.

    >>> right, other = np.array([True, True, True, False]), np.array([True, False, False, False])
    >>> estimate = difference_of_shares(right, other)  # 0.5 ± 1.96 · √(1/3) / √4
    >>> estimate.value, round(estimate.low, 4), round(estimate.high, 4)
    (0.5, -0.0658, 1.0658)
    """
    difference = right.astype(float) - other
    mean, error = difference.mean(), difference.std(ddof=1) / len(difference) ** 0.5
    ends = float(mean - Z * error), float(mean + Z * error)
    return Estimate(float(mean), *ends, "images", len(difference))
