"""A number of several trainings held against the same number of others.

Trainings are grouped by objective, and every objective counts the same, whatever the number of its
trainings.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import stdtrit

from sslens.statistics.estimate import NAN, Estimate

#: the number of each training, by objective
ByObjective = Mapping[str, Sequence[float]]


def mean_of_objectives(numbers: ByObjective) -> float:
    """The mean over objectives of the mean over trainings.

    >>> mean_of_objectives({"moco-v3": [0.5, 1.0], "dino": [0.25]})
    0.5
    """
    return float(np.mean([np.mean(trainings) for trainings in numbers.values()]))


def difference_of_means(one: ByObjective, other: ByObjective) -> Estimate:
    """The mean of one side less the mean of the other, with Welch's 95 % interval over trainings.

    With s² the variance of the n trainings of an objective, among k objectives of its side,
    v = s² / (n k²) is its share of the variance of the difference. The variance of the difference
    is Σ v, and t has (Σ v)² / Σ (v² / (n − 1)) degrees of freedom (Welch, 1947, Biometrika 34:28).
    Objectives are not resampled: the interval is over other trainings of the same objectives.

    Args:
        one: the number of each training of one side, by objective.
        other: the number of each training of the other side, by objective.

    Returns:
        The difference, with `n` the smallest number of trainings of an objective. It has no
        interval where an objective has one training, or where no two trainings differ.

    >>> je = {"moco-v3": [0.5, 1.0], "dino": [0.5]}
    >>> estimate = difference_of_means({"mae": [0.75, 0.25]}, je)
    >>> estimate.value, estimate.low, estimate.n
    (-0.125, nan, 1)
    >>> # 3 ± 12.7062, of one degree of freedom
    >>> estimate = difference_of_means({"mae": [3.0, 5.0]}, {"dino": [1.0, 1.0, 1.0]})
    >>> estimate.value, round(estimate.low, 4), round(estimate.high, 4), estimate.n
    (3.0, -9.7062, 15.7062, 2)
    """
    value = mean_of_objectives(one) - mean_of_objectives(other)
    counts = [len(trainings) for side in (one, other) for trainings in side.values()]
    if min(counts) < 2:
        return Estimate(value, over="trainings", n=min(counts))
    shares = np.array(
        [
            np.var(trainings, ddof=1) / (len(trainings) * len(side) ** 2)
            for side in (one, other)
            for trainings in side.values()
        ]
    )
    if shares.sum() == 0:  # trainings that are the same to the last digit are no sample
        return Estimate(value, NAN, NAN, "trainings", min(counts))
    freedom = shares.sum() ** 2 / (shares**2 / (np.array(counts) - 1)).sum()
    error = float(stdtrit(freedom, 0.975) * np.sqrt(shares.sum()))
    return Estimate(value, value - error, value + error, "trainings", min(counts))
