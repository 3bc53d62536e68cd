"""A number of several trainings held against that of others: the mean over objectives of the mean
over their runs."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit


class Difference(NamedTuple):
    """A difference of two means with its 95 % interval over runs, nan where some objective has one
    run."""

    value: float
    low: float
    high: float


def difference(
    one: Mapping[str, Sequence[float]], other: Mapping[str, Sequence[float]]
) -> Difference:
    """The mean of one side less that of the other, of runs by objective.

    Each objective counts the same, whatever the number of its runs. The interval is Welch's: with
    s² the variance of the n runs of an objective among k of its side, v = s² / (n k²) is its share
    of the variance, Σ v the whole, and (Σ v)² / Σ v² / (n − 1) the degrees of freedom of t.
    Objectives are what they are: the interval is over other runs of the same ones.

    >>> difference({"mae": [0.75, 0.25]}, {"moco-v3": [0.5, 1.0], "dino": [0.5]})
    Difference(value=-0.125, low=nan, high=nan)
    >>> [round(number, 4) for number in difference({"mae": [3.0, 5.0]}, {"dino": [1.0, 1.0, 1.0]})]  # 3 ± 12.7062, of one degree
    [3.0, -9.7062, 15.7062]
    """
    value = _mean(one) - _mean(other)
    counts = [len(runs) for side in (one, other) for runs in side.values()]
    if min(counts) < 2:
        return Difference(value, float("nan"), float("nan"))
    shares = np.array(
        [
            np.var(runs, ddof=1) / (len(runs) * len(side) ** 2)
            for side in (one, other)
            for runs in side.values()
        ]
    )
    if shares.sum() == 0:  # runs that are the same to the last digit are no sample
        return Difference(value, float("nan"), float("nan"))
    freedom = shares.sum() ** 2 / (shares**2 / (np.array(counts) - 1)).sum()
    error = float(stdtrit(freedom, 0.975) * np.sqrt(shares.sum()))
    return Difference(value, value - error, value + error)


def _mean(side: Mapping[str, Sequence[float]]) -> float:
    return float(np.mean([np.mean(runs) for runs in side.values()]))
