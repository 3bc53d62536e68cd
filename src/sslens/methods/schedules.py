"""Schedules: values that change over a training."""

import math


def cosine(progress: float, start: float, end: float) -> float:
    """Follow half a cosine from `start` (at progress t = 0) to `end` (at 1): end + (start − end)(1
    + cos πt) / 2.

    >>> [round(cosine(t, 0.996, 1.0), 4) for t in (0.0, 0.5, 1.0)]
    [0.996, 0.998, 1.0]
    """
    return end + 0.5 * (start - end) * (1 + math.cos(math.pi * progress))


def warmup_cosine(progress: float, warmup: float, peak: float) -> float:
    """Return a learning rate that rises linearly from 0 to `peak` until the progress `warmup`, and
    then falls by half a cosine to 0 (MAE, MoCo-v3).

    >>> [round(warmup_cosine(t, warmup=0.1, peak=2.0), 3) for t in (0.0, 0.05, 0.1, 0.55, 1.0)]
    [0.0, 1.0, 2.0, 1.0, 0.0]
    """
    if progress < warmup:
        return peak * progress / warmup
    return cosine((progress - warmup) / (1 - warmup), peak, 0.0)
