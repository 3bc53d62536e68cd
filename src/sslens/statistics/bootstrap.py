"""The mean gain over images, under an older name; see `sslens.statistics.gains`."""

import numpy as np
from jaxtyping import Float64

from sslens.statistics.estimate import Estimate
from sslens.statistics.gains import estimate_gain


def mean_estimate(values: Float64[np.ndarray, " image"], seed: int = 0) -> Estimate:
    """The mean gain over images with its 95 % interval, as `gains.estimate_gain` computes it.

    >>> estimate = mean_estimate(np.array([1.0] * 50 + [0.0] * 50))
    >>> estimate.value, estimate.over, estimate.n
    (0.5, 'images', 100)
    """
    return estimate_gain(values, 2.0 if np.abs(values).max() > 1 + 1e-9 else 1.0)
