"""On which side of 0 most differences of several pairs of models lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from sslens.statistics.estimate import SMALLEST, Contrast, Estimate, Side


@final
@dataclass(frozen=True)
class PairChange:
    """A difference of the CKA of two models.

    Attributes:
        a: name of the first model.
        b: name of the second model.
        difference: the difference, with its interval.
        control: the name of the model that `over_control` subtracts; empty without one.
        over_control: the CKA at the end less that of a control; None without one.
        paired: whether both intervals are of the same draws of minibatches.
    """

    a: str
    b: str
    difference: Estimate
    control: str = ""
    over_control: Estimate | None = None
    paired: bool = True

    @property
    def contrast(self) -> Contrast:
        """The difference as a contrast of the two models."""
        return Contrast(self.a, self.b, self.difference, self.paired)


@final
@dataclass(frozen=True)
class Majority:
    """On which side of 0 most differences of several pairs lie.

    Attributes:
        side: the side; "undecided" unless more than half of the pairs lie on one.
        count: the pairs on that side.
        pairs: all pairs.
        strength: how clear the weakest of these is (`Estimate.measure_strength`); 0 if undecided.
        shown: this weakest one; if undecided the one with the largest difference.
        beyond: whether the raw pixels are regressed out.
    """

    side: Side
    count: int
    pairs: int
    strength: float
    shown: PairChange
    beyond: bool


def find_majority(changes: Sequence[PairChange], *, beyond: bool) -> Majority:
    """Find the side on which more than half of the pairs lie, by 0.02 of CKA or more.

    Args:
        changes: the difference of each pair, at least one.
        beyond: whether the raw pixels are regressed out of all of them.

    >>> rise, fall = (Estimate(v, v - 0.1, v + 0.1, "minibatches", 32) for v in (0.3, -0.3))
    >>> pairs = [PairChange("a", "b", rise), PairChange("a", "c", rise), PairChange("b", "c", fall)]
    >>> majority = find_majority(pairs, beyond=False)
    >>> majority.side, majority.count, round(majority.strength, 6)  # (0.3 − 0.1) / 0.02
    ('more', 2, 10.0)
    """
    smallest = SMALLEST["cka"]
    sides = [one.difference.find_side(smallest) for one in changes]
    for side in ("more", "less", "the same"):
        own = [one for one, other in zip(changes, sides, strict=True) if other == side]
        if 2 * len(own) > len(changes):
            weakest = min(own, key=lambda one: one.difference.measure_strength(smallest))
            strength = weakest.difference.measure_strength(smallest)
            return Majority(side, len(own), len(changes), strength, weakest, beyond)
    largest = max(changes, key=lambda one: abs(one.difference.value))
    return Majority("undecided", len(changes), len(changes), 0.0, largest, beyond)
