"""Comparisons of two groups of trainings by one number that is measured on each training.

Each group holds trainings of one or more objectives. Every objective has the same weight in the
mean of its group, however many trainings the objective has.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import scipy  # a part of scipy is loaded when it is first used

from sslens.statistics.estimate import NAN, Estimate

#: the number of each training, by objective
ByObjective = Mapping[str, Sequence[float]]


def mean_of_objectives(numbers: ByObjective) -> float:
    """Average over the trainings of each objective, then over objectives.

    >>> mean_of_objectives({"moco-v3": [0.5, 1.0], "dino": [0.25]})
    0.5
    """
    return float(np.mean([np.mean(trainings) for trainings in numbers.values()]))


def difference_of_means(one: ByObjective, other: ByObjective) -> Estimate:
    """Subtract the mean of one group of trainings from another's, with Welch's 95 % interval.

    An objective with n trainings of variance s², in a group of k objectives, adds v = s² / (n k²)
    to the variance of the difference. The interval is the difference ± t √(Σ v), where t is the
    97.5 % quantile of Student's t with (Σ v)² / Σ (v² / (n − 1)) degrees of freedom (Welch, 1947,
    Biometrika 34:28). The interval covers other trainings of the same objectives, and not other
    objectives.

    Args:
        one: the measured numbers of the first group's trainings, by objective.
        other: the measured numbers of the second group's trainings, by objective.

    Returns:
        The difference; its `n` is the smallest number of trainings of any objective. There is no
        interval if an objective has only one training, or if all variances are 0.

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
    error = float(scipy.special.stdtrit(freedom, 0.975) * np.sqrt(shares.sum()))
    return Estimate(value, value - error, value + error, "trainings", min(counts))
