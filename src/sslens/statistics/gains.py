"""Intervals of a mean gain over images: a score interval that holds with few different images.

The gain on an image is the difference of two models, probes or families on this image, such as 1
where only the first is right, −1 where only the second is right, and else 0. Where most gains are
0, intervals of the form mean ± 1.96 standard errors and bootstrap intervals are too narrow, and
have no width at all where no image differs. `runs/coverage.py` measures how often each covers.
"""

import math
from typing import NamedTuple

import numpy as np
import scipy  # a part of scipy is loaded when it is first used
from jaxtyping import Float64

from sslens.errors import InputError
from sslens.statistics.estimate import Estimate

#: up to so many images with a gain other than 0 the exact test is run too; with more the two agree
EXACT = 200
#: gains are taken as multiples of 1/g with g up to this number; others are rounded to it
FINEST = 60
#: halvings of the bracket of an end, which is 2 wide: 2 · 2⁻⁴⁰ is left
HALVINGS = 40


class Ends(NamedTuple):
    """Lower and upper ends of intervals."""

    low: Float64[np.ndarray, " row"]
    high: Float64[np.ndarray, " row"]


def estimate_gain(values: Float64[np.ndarray, " image"], bound: float = 1.0) -> Estimate:
    """Compute the mean gain over images with its 95 % interval.

    The interval is of `compute_score_ends`, and `hold_zero` widens it where few images differ.

    Args:
        values: the gain on each image.
        bound: the largest gain that is possible on an image.

    Raises:
        InputError: a gain is beyond ± bound, or there is none.

    >>> estimate = estimate_gain(np.array([1.0] * 12 + [-1.0] * 2 + [0.0] * 36))
    >>> round(estimate.value, 4), round(estimate.low, 4), round(estimate.high, 4)
    (0.2, 0.0611, 0.3447)
    >>> estimate_gain(np.array([1.0] * 5 + [0.0] * 95)).sign  # five wins and no loss: p = 2 · 2⁻⁵
    0
    """
    return estimate_gains(values[None], bound)[0]


def estimate_gains(values: Float64[np.ndarray, "row image"], bound: float = 1.0) -> list[Estimate]:
    """Compute the mean gain of each row as `estimate_gain` does, all rows at once.

    Args:
        values: the gain on each image.
        bound: the largest gain that is possible on an image.

    Raises:
        InputError: a gain is beyond ± bound, or there is none.

    >>> [estimate.value for estimate in estimate_gains(np.array([[1.0, 0.0], [-1.0, 0.0]]))]
    [0.5, -0.5]
    """
    ends = compute_score_ends(values, bound=bound)
    estimates = []
    for row, low, high in zip(values, ends.low.tolist(), ends.high.tolist(), strict=True):
        estimates.append(
            Estimate(float(row.mean()), *hold_zero(row, low, high), "images", len(row))
        )
    return estimates


def compute_score_ends(
    values: Float64[np.ndarray, "row image"],
    errors: Float64[np.ndarray, " row"] | float = 1.959964,
    bound: float = 1.0,
) -> Ends:
    """Compute the score interval of the mean of each row.

    The interval holds each mean d for which |x̄ − d| ≤ z √(σ²(d) / n), where x̄ is the mean of n
    gains and σ²(d) is the variance of the most likely distribution with the mean d: it gives the
    observed values v_j, seen c_j times, the probabilities p_j ∝ c_j / (1 + r v_j), and where r
    reaches ±1 / bound the remaining probability to the value ∓bound, seen or not. For gains of −1,
    0 and 1 this is Tango's interval of a difference of paired proportions (Tango, 1998, Statistics
    in Medicine 17:891); p_j is Owen's empirical likelihood (1988, Biometrika 75:237).

    Args:
        values: the gain on each image.
        errors: z, the quantile of the normal distribution; 1.96 for a level of 95 %.
        bound: the largest gain that is possible on an image.

    Returns:
        The ends, between −bound and bound. They are never equal.

    Raises:
        InputError: a gain is beyond ± bound, or there is none.

    >>> # 7 wins, 1 loss and 13 ties: Tango's interval in Fagerland et al. (2014, BMC Medical
    >>> # Research Methodology 14:18) is 0.026 to 0.517
    >>> ends = compute_score_ends(np.array([[1.0] * 7 + [-1.0] + [0.0] * 13]))
    >>> round(float(ends.low[0]), 3), round(float(ends.high[0]), 3)
    (0.026, 0.517)
    """
    if values.size == 0:
        raise InputError("The mean gain of no images is not defined.")
    if np.abs(values).max() > bound + 1e-9:
        raise InputError(f"A gain of {np.abs(values).max():g} is beyond the largest, {bound:g}.")
    levels = np.unique(values)
    counts = np.stack([(values == level).sum(1) for level in levels], 1).astype(float)
    return compute_ends_of_counts(counts, levels, errors, bound)


def compute_ends_of_counts(
    counts: Float64[np.ndarray, "row level"],
    levels: Float64[np.ndarray, " level"],
    errors: Float64[np.ndarray, " row"] | float = 1.959964,
    bound: float = 1.0,
) -> Ends:
    """Compute `compute_score_ends` from the number of images with each gain.

    Args:
        counts: the number of images with each gain.
        levels: the gains.
        errors: z, the quantile of the normal distribution; 1.96 for a level of 95 %.
        bound: the largest gain that is possible on an image.

    >>> counts, levels = np.array([[1.0, 13.0, 7.0]]), np.array([-1.0, 0.0, 1.0])
    >>> [end.round(3).tolist() for end in compute_ends_of_counts(counts, levels)]
    [[0.026], [0.517]]
    """
    z = np.broadcast_to(np.asarray(errors, float), len(counts))
    # the lower end is the upper end of the gains with the other sign
    ends = _upper_ends(
        np.concatenate([counts, counts]),
        np.repeat([levels, -levels], len(counts), axis=0),
        np.concatenate([z, z]),
        bound,
    )
    return Ends(-ends[len(counts) :], ends[: len(counts)])


def _upper_ends(
    counts: Float64[np.ndarray, "row level"],
    levels: Float64[np.ndarray, "row level"],
    z: Float64[np.ndarray, " row"],
    bound: float,
) -> Float64[np.ndarray, " row"]:
    """The largest mean that the score test does not reject, by bisection of the path of tilts.

    The path has two parts: from 0 to 1 the tilt −r · bound, from 1 to 2 the share that the largest
    value takes.
    """
    n = counts.sum(1)
    mean = (counts * levels).sum(1) / n
    inside, outside = np.zeros(len(counts)), np.full(len(counts), 2.0)
    for _ in range(HALVINGS):
        middle = (inside + outside) / 2
        d, variance = _tilt(counts, levels, middle, bound)
        near = (d - mean) ** 2 * n <= z**2 * variance
        inside, outside = np.where(near, middle, inside), np.where(near, outside, middle)
    return _tilt(counts, levels, inside, bound)[0]


def _tilt(
    counts: Float64[np.ndarray, "row level"],
    levels: Float64[np.ndarray, "row level"],
    place: Float64[np.ndarray, " row"],
    bound: float,
) -> tuple[Float64[np.ndarray, " row"], Float64[np.ndarray, " row"]]:
    """Mean and variance of the most likely distribution at a place of the path."""
    tilt, share = np.minimum(place, 1)[:, None], np.maximum(place - 1, 0)
    # an observed largest value takes all probability at the end of the first part
    weights = counts / np.maximum(1 - tilt * levels / bound, 1e-300)
    weights = weights * levels / weights.sum(1, keepdims=True)
    first = (1 - share) * weights.sum(1) + share * bound
    second = (1 - share) * (weights * levels).sum(1) + share * bound**2
    return first, np.maximum(second - first**2, 0)


def hold_zero(
    values: Float64[np.ndarray, " image"], low: float, high: float, level: float = 0.95
) -> tuple[float, float]:
    """Widen an interval up to 0 unless the exact test rejects a mean of 0 too.

    With few images that differ the score interval can leave out 0 where an exact test does not:
    five wins and no loss have the exact p-value 2 · 2⁻⁵ = 0.06. With more than `EXACT` images that
    differ both agree, and the interval is returned as it is.

    >>> hold_zero(np.array([1.0] * 5 + [0.0] * 95), 0.011, 0.112)
    (0.0, 0.112)
    >>> hold_zero(np.array([1.0] * 6 + [0.0] * 94), 0.021, 0.125)  # p = 2 · 2⁻⁶ = 0.03
    (0.021, 0.125)
    """
    decided = low > 0 or high < 0
    if decided and np.count_nonzero(values) <= EXACT and compute_sign_flip_p(values) > 1 - level:
        return min(low, 0.0), max(high, 0.0)
    return low, high


def compute_sign_flip_p(values: Float64[np.ndarray, " image"]) -> float:
    """Compute the exact two-sided p-value of a mean of 0 by flipping the signs of the gains.

    p is the share of the 2ᵐ choices of signs, of the m gains other than 0, with which the sum is at
    least as far from 0 as the observed sum. For gains of −1 and 1 it is the exact test of McNemar,
    the binomial test of the wins among the images that differ. The distribution of the sum is the
    convolution of one binomial distribution for each size of gain. Gains that are no multiples of
    1/60 or of a larger fraction are rounded to 1/60, or to 1/60 of the largest where that is below
    1; those that are rounded to 0 decide nothing.

    >>> compute_sign_flip_p(np.array([1.0] * 5))
    0.0625
    >>> compute_sign_flip_p(np.array([1.0] * 6 + [-1.0, 0.0]))  # 16 of 128
    0.125
    >>> compute_sign_flip_p(np.array([1.0, 0.5, 0.5]))  # two of eight sums are 2 or −2
    0.25
    """
    sizes = np.abs(values[values != 0])
    steps = np.round(sizes * _fraction(sizes)).astype(int)
    total = abs(int((np.sign(values[values != 0]) * steps).sum()))
    chances = np.ones(1)
    for step, count in zip(*np.unique(steps[steps > 0], return_counts=True), strict=True):
        # the sum of `count` signs is 2 k − count for k successes, in steps of 2 `step`
        spread = np.zeros(int(count * step) + 1)
        spread[:: int(step)] = _halves(int(count))
        chances = np.convolve(chances, spread)
    sums = 2 * np.arange(len(chances)) - (len(chances) - 1)
    return float(min(1.0, chances[np.abs(sums) >= total].sum()))


def _halves(count: int) -> Float64[np.ndarray, " successes"]:
    """Probabilities of 0 to `count` successes of a fair coin."""
    return np.array([math.comb(count, k) / 2**count for k in range(count + 1)])


def _fraction(sizes: Float64[np.ndarray, " gain"]) -> float:
    """The smallest g up to `FINEST` such that all gains are multiples of 1/g; if there is none,
    `FINEST` over the largest gain, or over 1 where that is larger."""
    most = float(sizes.max(initial=0))
    for g in range(1, FINEST + 1):
        if np.abs(sizes * g - np.round(sizes * g)).max(initial=0) < 1e-6 and most * g > 0.5:
            return float(g)
    return FINEST / min(1.0, most) if most > 0 else 1.0


def estimate_gains_at_once(
    values: Float64[np.ndarray, "row image"],
    *,
    level: float = 0.95,
    bound: float = 1.0,
    seed: int = 0,
    draws: int = 4000,
) -> tuple[Float64[np.ndarray, " row"], Ends]:
    """Compute the mean gain of each row with simultaneous intervals.

    All rows lie in their intervals at once with probability `level`. The intervals are of
    `compute_score_ends` with a larger z: the `level` quantile of the largest |Z| of normal numbers
    Z that are correlated as the rows are over images (single-step max-t; Hothorn, Bretz & Westfall,
    2008, Biometrical Journal 50:346).

    Args:
        values: the gain of each row on each image.
        level: the probability that all intervals hold.
        bound: the largest gain that is possible on an image.
        seed: seed of the normal numbers.
        draws: how many normal vectors are drawn.

    Returns:
        The means and the ends of the intervals.

    >>> rows = np.array([[1.0] * 12 + [-1.0] * 2 + [0.0] * 36] * 3)
    >>> value, ends = estimate_gains_at_once(rows)  # one row, three times
    >>> value.tolist(), [round(float(end), 2) for end in ends.low]
    ([0.2, 0.2, 0.2], [0.06, 0.06, 0.06])
    """
    centred = values - values.mean(1, keepdims=True)
    size = np.sqrt((centred**2).sum(1))
    varies = size > 0
    z = float(scipy.special.ndtri((1 + level) / 2))
    if varies.sum() > 1:
        unit = centred[varies] / size[varies, None]
        spectrum, vectors = np.linalg.eigh(unit @ unit.T)
        root = vectors * np.sqrt(np.maximum(spectrum, 0))
        normal = root @ np.random.default_rng(seed).standard_normal((len(root), draws))
        z = max(z, float(np.quantile(np.abs(normal).max(0), level)))
    ends = compute_score_ends(values, z, bound)
    alone = float(2 * scipy.special.ndtr(z) - 1)  # the level of each interval by itself
    held = [
        hold_zero(row, low, high, alone)
        for row, low, high in zip(values, ends.low.tolist(), ends.high.tolist(), strict=True)
    ]
    return values.mean(1), Ends(*(np.array(side) for side in zip(*held, strict=True)))
