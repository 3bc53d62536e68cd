"""The bootstrap over minibatches or images: draws with replacement, intervals and p-values.

All intervals of this package are expanded percentile intervals (Hesterberg, 2015, The American
Statistician 69:371; `ExpandProbs` of his R package resample). The plain percentile interval of n
minibatches is too narrow: the bootstrap underestimates the standard error by a factor of
√((n − 1)/n), and its tails are normal, where tails of t with n − 1 degrees of freedom are due. The
expanded interval reads the percentiles further out, at α'/2 = Φ(−√(n/(n − 1)) · t), with t the
1 − α/2 quantile of n − 1 degrees of freedom.

The table gives the percentage of 95 % intervals that wrongly leave out 0, measured on 10,000 paired
differences of two CKAs whose true values are equal. A perfect interval would leave out 0 in 5 %.

| minibatches | 6 | 8 | 10 | 16 | 32 | 96 |
|---|---|---|---|---|---|---|
| unrelated models, plain | 14.4 | 11.8 | 10.8 | 8.8 | 6.8 | 5.9 |
| unrelated models, expanded | 6.8 | 6.1 | 6.0 | 5.7 | 5.5 | 5.4 |
| related models, very unequal minibatches, plain | 17.1 | 15.0 | 12.5 | 10.0 | 8.2 | 6.4 |
| related models, very unequal minibatches, expanded | 7.2 | 7.3 | 7.0 | 7.2 | 6.8 | 5.9 |
"""

import functools

import numpy as np
import torch
from jaxtyping import Float64
from scipy.special import ndtr, ndtri, stdtr, stdtrit
from torch import Tensor

from sslens.errors import InputError
from sslens.statistics.estimate import Estimate
from sslens.statistics.gains import estimate_gain


@functools.lru_cache(maxsize=4)  # all pairs of models draw the same minibatches
def bootstrap_counts(
    batches: int, replicates: int, seed: int
) -> Float64[Tensor, "batch replicate"]:
    """Count how often each bootstrap replicate draws each minibatch.

    Each replicate draws `batches` minibatches with replacement from the `batches` minibatches.

    Args:
        batches: number of minibatches.
        replicates: number of bootstrap replicates.
        seed: seed of the random draws.

    Returns:
        The counts; each column sums to `batches`.

    >>> counts = bootstrap_counts(8, 100, seed=0)
    >>> tuple(counts.shape), set(counts.sum(0).tolist())
    ((8, 100), {8.0})
    """
    counts = np.random.default_rng(seed).multinomial(
        batches, np.full(batches, 1 / batches), size=replicates
    )
    return torch.from_numpy(counts.T.astype(np.float64))


def compute_interval(
    draws: Float64[np.ndarray, "*cell replicate"], batches: int, level: float = 0.95
) -> tuple[Float64[np.ndarray, "*cell"], Float64[np.ndarray, "*cell"]]:
    """Compute the expanded percentile interval of each value.

    Args:
        draws: the bootstrap replicates of each value.
        batches: number of minibatches (or images) that the bootstrap drew from.
        level: the coverage: the share of such intervals that hold the true value.

    Returns:
        Lower and upper ends. They are nan where a replicate is nan, and everywhere if `batches`
        is 1.

    Raises:
        InputError: the level is not between 0 and 1.

    >>> draws = np.array([[5.0, 1, 2, 4, 3]])
    >>> low, high = compute_interval(draws, batches=6)  # at 0.01 and 3.99 of ranks 0 to 4
    >>> [low.tolist(), high.tolist()]
    [[1.0097...], [4.9902...]]
    """
    outer = expand_level(batches, level)
    if batches < 2:
        return np.full(draws.shape[:-1], np.nan), np.full(draws.shape[:-1], np.nan)
    return compute_percentiles(draws, outer)


def mean_estimate(values: Float64[np.ndarray, " image"], seed: int = 0) -> Estimate:
    """The mean gain over images with its 95 % interval, as `gains.estimate_gain` computes it.

    >>> estimate = mean_estimate(np.array([1.0] * 50 + [0.0] * 50))
    >>> estimate.value, estimate.over, estimate.n
    (0.5, 'images', 100)
    """
    return estimate_gain(values, 2.0 if np.abs(values).max() > 1 + 1e-9 else 1.0)


def expand_level(batches: int, level: float = 0.95) -> float:
    """Compute the level at which plain percentiles give an interval with coverage `level`.

    The result is 1 − 2Φ(−√(n/(n − 1)) · t), where n is the number of minibatches and t is the
    (1 + level)/2 quantile of Student's t distribution with n − 1 degrees of freedom.

    Args:
        batches: number n of minibatches (or images) that the bootstrap drew from.
        level: the coverage that the interval should have.

    Returns:
        A level between `level` and 1, for `compute_percentiles`; nan if `batches` is 1.

    Raises:
        InputError: the level is not between 0 and 1.

    >>> [round(expand_level(n), 4) for n in (6, 32, 10_000)]
    [0.9951, 0.9617, 0.95]
    """
    if not 0 < level < 1:
        raise InputError(
            f"An interval's level lies between 0 and 1, and {level:g} does not. Give 0.95 for 95 %."
        )
    return float(1 - 2 * ndtr(-widen_errors(float(ndtri((1 + level) / 2)), batches)))


def widen_errors(errors: float, batches: int) -> float:
    """Widen an interval's half-width, in standard errors, for a small number of minibatches.

    An interval of ± `errors` standard errors has the right coverage if the estimate is normal and
    its standard error is known. With a bootstrap standard error over n minibatches the same
    coverage needs ± √(n/(n − 1)) · t standard errors, where Student's t distribution with n − 1
    degrees of freedom has the same share beyond t as the normal distribution beyond `errors`.

    Args:
        errors: half-width of the normal interval, in standard errors.
        batches: number n of minibatches that the bootstrap drew from.

    Returns:
        The half-width in bootstrap standard errors; nan if `batches` is 1.

    >>> round(widen_errors(1.959964, batches=10), 3)  # √(10/9) · 2.262
    2.385
    """
    if batches < 2:
        return float("nan")
    # beyond 37 standard errors the normal's share is 0 in float64, and the quantile is infinite,
    # of either sign
    return float((batches / (batches - 1)) ** 0.5 * abs(stdtrit(batches - 1, ndtr(-abs(errors)))))


def p_value(share: Float64[np.ndarray, "*cell"], batches: int) -> Float64[np.ndarray, "*cell"]:
    """Compute the two-sided p-value of the hypothesis that the true value is a given number.

    The expanded interval of level 1 − p ends exactly at the given number:
    p = min(1, 2T(√((n − 1)/n) · Φ⁻¹(share))), where T is the distribution function of Student's t
    with n − 1 degrees of freedom.

    Args:
        share: share of the bootstrap replicates that lie beyond the given number, on the side
            where fewer replicates lie.
        batches: number n of minibatches that the bootstrap drew from.

    Returns:
        p-values between 0 and 1; nan if `batches` is 1.

    >>> share = (1 - expand_level(6, 0.95)) / 2
    >>> p_value(np.array([share, 0.5, 0.9]), batches=6).round(9).tolist()
    [0.05, 1.0, 1.0]
    """
    if batches < 2:
        return np.full(share.shape, np.nan)
    return np.asarray(
        np.minimum(1, 2 * stdtr(batches - 1, ((batches - 1) / batches) ** 0.5 * ndtri(share)))
    )


def compute_percentiles(
    draws: Float64[np.ndarray, "*cell replicate"], level: float
) -> tuple[Float64[np.ndarray, "*cell"], Float64[np.ndarray, "*cell"]]:
    """Compute the two percentiles between which the middle `level` of the replicates lies.

    The percentiles are interpolated linearly between neighbouring replicates, as `numpy.quantile`
    does by default. The function sorts all replicates, because a vectorised sort is no slower than
    a selection of the few replicates about each end.

    Args:
        draws: the bootstrap replicates of each value.
        level: the share of the replicates between the ends.

    Returns:
        Lower and upper ends; nan where a replicate is nan.

    >>> draws = np.array([[5.0, 1, 2, 4, 3]])
    >>> low, high = compute_percentiles(draws, level=0.75)  # at 0.5 and 3.5 of ranks 0 to 4
    >>> [low.tolist(), high.tolist()]
    [[1.5], [4.5]]
    """
    ordered = np.sort(draws, axis=-1)
    last = draws.shape[-1] - 1
    ends = []
    for share in ((1 - level) / 2, (1 + level) / 2):
        below = int(share * last)
        low, high = ordered[..., below], ordered[..., min(below + 1, last)]
        # nan is sorted to the end, so that the last value is nan where any is
        end = np.where(
            np.isnan(ordered[..., -1]), np.nan, low + (share * last - below) * (high - low)
        )
        ends.append(np.asarray(end))
    return ends[0], ends[1]
