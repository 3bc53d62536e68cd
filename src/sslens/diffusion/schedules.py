"""Schedules: how much noise each step of a diffusion adds."""

import math

import numpy as np
from jaxtyping import Float64

from sslens.errors import InputError, nearest

#: what no step's variance exceeds on the cosine schedule (Nichol and Dhariwal, 2021)
MOST = 0.999


def make_linear(times: int) -> Float64[np.ndarray, " time"]:
    """Return variances β that rise linearly from 0.1 / T to 20 / T over T times (Ho et al., 2020,
    arXiv:2006.11239, for T = 1000; Nichol and Dhariwal, 2021, for others).

    >>> make_linear(1000)[[0, 999]].tolist(), make_linear(2000).sum().round(9).item()
    ([0.0001, 0.02], 10.05)
    """
    return np.linspace(0.1 / times, 20 / times, times, dtype=np.float64)


def make_cosine(times: int) -> Float64[np.ndarray, " time"]:
    """Return variances β of the cosine schedule (Nichol and Dhariwal, 2021, arXiv:2102.09672,
    equation 17): β_t = min(1 − f((t + 1) / T) / f(t / T), 0.999) for t = 0 … T − 1 with
    f(u) = cos²(π / 2 · (u + 0.008) / 1.008).

    >>> make_cosine(1000)[[0, 500, 999]].round(9).tolist()
    [4.1284e-05, 0.003155691, 0.999]
    """
    places = np.arange(times + 1) / times
    shares = np.cos((places + 0.008) / 1.008 * math.pi / 2) ** 2
    return np.minimum(1 - shares[1:] / shares[:-1], MOST)


#: the schedules by name
SCHEDULES = {"linear": make_linear, "cosine": make_cosine}


def make_schedule(name: str, times: int) -> Float64[np.ndarray, " time"]:
    """Return the variances of a schedule, one for each time.

    Raises:
        InputError: there is no schedule of this name, or the times are so few that a variance
            would be 1 or more.
    """
    if name not in SCHEDULES:
        raise InputError(f'There is no schedule "{name}": {nearest(name, SCHEDULES)}')
    fewest = 21 if name == "linear" else 2
    if times < fewest:
        raise InputError(
            f"A {name} schedule has {fewest} times or more, not {times}", mend="give more {times}"
        )
    return SCHEDULES[name](times)
