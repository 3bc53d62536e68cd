"""A published number and the number that was found in its place."""

import math
from typing import Literal

from sslens.errors import InputError
from sslens.statistics.estimate import Estimate

Agreement = Literal["the same", "differs", "undecided"]


def hold_against(found: Estimate, published: float, tolerance: float) -> Agreement:
    """Decide whether a number was reproduced.

    With the found value v, its interval [l, h] and the band b = published ± tolerance, it is "the
    same" if v lies in b, it "differs" if [l, h] has no point in common with b (or v lies outside
    and there is no interval), and else it is "undecided": other images might have brought it into
    the band.

    Args:
        found: the number found, for the same weights and images.
        published: the number printed.
        tolerance: how far from it counts as the same.

    Raises:
        InputError: the tolerance is below 0.

    >>> hold_against(Estimate(0.761, 0.757, 0.765, "images", 50000), 0.76, 0.003)
    'the same'
    >>> hold_against(Estimate(0.75, 0.746, 0.754, "images", 50000), 0.76, 0.003)
    'differs'
    >>> hold_against(Estimate(0.75, 0.70, 0.80, "images", 300), 0.76, 0.003)
    'undecided'
    """
    if tolerance < 0:
        raise InputError(f"A tolerance of {tolerance} cannot be: give 0 or more.")
    low, high = published - tolerance, published + tolerance
    rounding = 1e-9
    if low - rounding <= found.value <= high + rounding:
        return "the same"
    if math.isnan(found.value):
        return "undecided"
    ends = (found.low, found.high) if not math.isnan(found.low) else (found.value, found.value)
    return "differs" if ends[1] < low or ends[0] > high else "undecided"
