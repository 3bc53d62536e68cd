"""Intervals over images and trainings, of statistics such as the mean CKA of two families.

The trainings of one objective are a sample of all trainings of this objective, and the trainings of
different objectives are independent samples. The statistic may depend on pairs of trainings, as the
CKA of two models does, as long as no pair has two trainings of one objective.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import scipy  # a part of scipy is loaded when it is first used

from sslens.statistics.estimate import NAN, Estimate

#: the statistic with one objective represented by each of its trainings in turn, by objective, for
#: each side of a comparison
Alone = Mapping[str, Mapping[str, Sequence[float]]]


def estimate_over_trainings(images: Estimate, alone: Alone, together: int = 1) -> Estimate:
    """Widen an interval over images to one over images and trainings.

    Let T be the statistic over all n_o trainings of each objective o, where every objective has the
    same weight, and a_oi the same statistic with o represented by its training i alone. Then s²_o,
    the variance of a_oi over i, adds v_o = s²_o / n_o to the variance of T: the jackknife of a
    statistic of several samples (Arvesen, 1969, Ann. Math. Stat. 40:2076), which is a little too
    wide if T depends on pairs of trainings. The images add v, from the interval over images. The
    interval is

        T ± t √(v + Σ v_o),

    where t is the 1 − 0.025 / `together` quantile of Student's t with
    (v + Σ v_o)² / (v² / (n − 1) + Σ v_o² / (n_o − 1)) degrees of freedom (Satterthwaite, 1946,
    Biometrics 2:110). It covers other images and other trainings of the same objectives, and not
    other objectives.

    The interval decides only from four trainings a side (`estimate.FEWEST`): a permutation of four
    against four trainings can reach 2/70 = 2.9 %, of three against three 10 %, of two against two
    33 %.

    Args:
        images: T with its interval over images or minibatches.
        alone: the numbers a_oi by side of the comparison (such as JE and REC) and by objective.
        together: number of intervals that shall hold at once (Bonferroni).

    Returns:
        T; its `n` is the number of trainings of the side with the fewest. There is no interval if
        an objective has one training, if there is no interval over images, or if all trainings
        have the same numbers.

    >>> alone = {"REC": {"mae": [4.0, 2.0]}, "JE": {"dino": [3.0, 3.0, 3.0]}}
    >>> sure = Estimate(3.0, 3.0 - 1e-9, 3.0 + 1e-9, "images", 1000)
    >>> # 3 ± 12.7062, of one degree of freedom: as `runs.difference_of_means` has it
    >>> estimate = estimate_over_trainings(sure, alone)
    >>> round(estimate.low, 4), round(estimate.high, 4), estimate.over, estimate.n
    (-9.7062, 15.7062, 'images and trainings', 2)
    """
    over = f"{images.over} and trainings"
    fewest = min(sum(len(values) for values in side.values()) for side in alone.values())
    samples = [np.asarray(values, float) for side in alone.values() for values in side.values()]
    counts = np.array([len(values) for values in samples])
    if counts.min() < 2 or not np.isfinite([images.low, images.high]).all() or images.n < 2:
        return Estimate(images.value, NAN, NAN, over, fewest)
    shares = np.array([values.var(ddof=1) for values in samples]) / counts
    if not np.isfinite(shares).all() or shares.sum() == 0:
        return Estimate(images.value, NAN, NAN, over, fewest)
    error = (images.high - images.low) / (2 * scipy.special.stdtrit(images.n - 1, 0.975))
    shares, freedoms = np.append(shares, error**2), np.append(counts - 1, images.n - 1)
    freedom = shares.sum() ** 2 / (shares**2 / freedoms).sum()
    half = float(scipy.special.stdtrit(freedom, 1 - 0.025 / together) * np.sqrt(shares.sum()))
    return Estimate(images.value, images.value - half, images.value + half, over, fewest)
