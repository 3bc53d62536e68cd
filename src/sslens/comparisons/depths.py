"""Which relative depth is nearest to another one."""

import numpy as np
from jaxtyping import Float64, Int64

#: decimal places of a distance: 2/3 − 1/2 and 1/2 − 1/3 are one distance, and differ by rounding
PLACES = 9


def measure_distances(
    wanted: Float64[np.ndarray, " point"], depths: Float64[np.ndarray, " tap"]
) -> Float64[np.ndarray, "point tap"]:
    """Compute |d − e| of relative depths, with nine decimal places, so that equal ones are equal.

    >>> measure_distances(np.array([1 / 2]), np.array([1 / 3, 2 / 3])).tolist()
    [[0.166666667, 0.166666667]]
    """
    return np.abs(wanted[:, None] - depths).round(PLACES)


def find_nearest(
    wanted: Float64[np.ndarray, " point"], depths: Float64[np.ndarray, " tap"]
) -> Int64[np.ndarray, " point"]:
    """Find the index of the nearest relative depth for each wanted one, of equally near ones the
    first, which is the one of smaller depth where depths ascend.

    >>> find_nearest(np.array([0.25, 1 / 2, 0.75]), np.array([1 / 3, 2 / 3, 1.0])).tolist()
    [0, 0, 1]
    """
    if not len(wanted):  # argmin refuses an axis without entries
        return np.zeros(0, np.int64)
    return measure_distances(wanted, depths).argmin(1)
