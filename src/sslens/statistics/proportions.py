"""Intervals of shares of images, and of the difference of two shares on the same images."""

from typing import NamedTuple

import numpy as np
import scipy  # a part of scipy is loaded when it is first used
from jaxtyping import Bool, Int64

from sslens.statistics.estimate import Estimate
from sslens.statistics.gains import estimate_gain

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
    >>> wilson(0, 29)[0], wilson(29, 29)[1]
    (0.0, 1.0)
    """
    share = correct / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = (
        z / (1 + z * z / count) * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    )
    # rounding may not leave out a share of 0 or 1, nor pass it
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


class Counts(NamedTuple):
    """A share of images, of which a number about two models is a function.

    The share is binomial, given how many images it is of. So its exact interval (Clopper & Pearson,
    1934, Biometrika 26:404) holds also where no image is left out of it, in which case nothing can
    be resampled; Wilson's, which is narrower, holds the truth in 92 % of cases if 1 image of 200 is
    expected to differ.

    Attributes:
        hits: the images on which the models agree.
        images: the images that the share is of: all; or for F1 of being right those that at least
            one model has right.
        f1: whether the number is F1 = 2 J / (1 + J) of the share J, and not the share itself.

    >>> [round(end, 4) for end in Counts(100, 100).interval()]  # the 100th root of 0.025
    [0.9638, 1.0]
    >>> [round(end, 4) for end in Counts(100, 100, f1=True).interval()]  # 2 · 0.9638 / 1.9638
    [0.9816, 1.0]
    """

    hits: int
    images: int
    f1: bool = False

    def interval(self) -> tuple[float, float]:
        """Compute the exact 95 % interval; nan without an image."""
        if self.images == 0:
            return np.nan, np.nan
        hits, misses = self.hits, self.images - self.hits
        low = float(scipy.special.betaincinv(hits, misses + 1, 0.025)) if hits else 0.0
        high = float(scipy.special.betaincinv(hits + 1, misses, 0.975)) if misses else 1.0
        return (2 * low / (1 + low), 2 * high / (1 + high)) if self.f1 else (low, high)


def find_chance(labels: Int64[np.ndarray, " image"]) -> float:
    """Return the accuracy of who always says the most frequent class; nan without images.

    Args:
        labels: the class of each image, from 0 on.

    >>> find_chance(np.array([0, 1, 1, 1]))
    0.75
    """
    return float(np.bincount(labels).max() / len(labels)) if len(labels) else float("nan")


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
    else 0. The 95 % interval is Tango's, widened up to 0 unless the exact test of McNemar rejects
    equal shares too (`gains.estimate_gain`).

    Args:
        right: whether the first model classifies each image correctly.
        other: whether the other model does, for the same images in the same order.

    >>> right, other = np.array([True, True, True, False]), np.array([True, False, False, False])
    >>> estimate = difference_of_shares(right, other)  # 2 wins, no loss, 2 ties
    >>> estimate.value, round(estimate.low, 4), round(estimate.high, 4)
    (0.5, -0.2348, 0.85)
    """
    return estimate_gain(right.astype(float) - other)


def estimate_shares(right: Bool[np.ndarray, "row image"]) -> list[Estimate]:
    """Compute the share of correctly classified images of each row, with its Wilson interval.

    >>> [estimate.value for estimate in estimate_shares(np.array([[True, False], [True, True]]))]
    [0.5, 1.0]
    """
    return [estimate_share(row) for row in right]
