"""Whether models part early or late: their CKA in the last third of the depths less that in the
first third."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import pandas as pd

from sslens.comparisons.pairs import read_contrast
from sslens.comparisons.panels import list_tokens_in
from sslens.statistics.estimate import SMALLEST, Estimate, Side
from sslens.table import Results


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
    """

    a: str
    b: str
    difference: Estimate
    control: str = ""
    over_control: Estimate | None = None


@final
@dataclass(frozen=True)
class Majority:
    """On which side of 0 most differences of several pairs lie.

    Attributes:
        side: the side; "undecided" unless more than half of the pairs lie on one.
        count: the pairs on that side.
        strength: how clear the weakest of these is (`Estimate.measure_strength`); 0 if undecided.
        shown: this weakest one; if undecided the one with the largest difference.
    """

    side: Side
    count: int
    strength: float
    shown: PairChange


def find_majority(changes: Sequence[PairChange], smallest: float = SMALLEST["cka"]) -> Majority:
    """Find the side on which more than half of the pairs lie.

    >>> rise, fall = (Estimate(v, v - 0.1, v + 0.1, "minibatches", 32) for v in (0.3, -0.3))
    >>> pairs = [PairChange("a", "b", rise), PairChange("a", "c", rise), PairChange("b", "c", fall)]
    >>> majority = find_majority(pairs)
    >>> majority.side, majority.count, round(majority.strength, 6)  # (0.3 − 0.1) / 0.02
    ('more', 2, 10.0)
    """
    sides = [one.difference.find_side(smallest) for one in changes]
    for side in ("more", "less", "the same"):
        own = [one for one, other in zip(changes, sides, strict=True) if other == side]
        if 2 * len(own) > len(changes):
            weakest = min(own, key=lambda one: one.difference.measure_strength(smallest))
            strength = weakest.difference.measure_strength(smallest)
            return Majority(side, len(own), strength, weakest)
    largest = max(changes, key=lambda one: abs(one.difference.value))
    return Majority("undecided", len(changes), 0.0, largest)


@final
@dataclass(frozen=True)
class Partings:
    """Where the models of a study part, over all pairs of them.

    Attributes:
        side: "less" if most are less alike in the last third of the depths than in the first.
        count: the pairs of which that is so.
        pairs: all pairs.
        strength: how clear it is.
        shown: the pair that is shown.
        beyond: whether the raw pixels are regressed out.
    """

    side: Side
    count: int
    pairs: int
    strength: float
    shown: PairChange
    beyond: bool


def read_partings(blocks: Results) -> Partings | None:
    """Read the table `late` of cka-blocks, for the first choice of tokens; None where no two models
    have three depths."""
    if "late" not in blocks:
        return None
    rows = blocks["late"]
    tokens = list_tokens_in(rows)
    rows = rows[(rows.tokens == tokens[0]) & rows.difference.notna()] if tokens else rows[:0]
    if rows.empty:
        return None
    beyond = bool(rows.deconfounded_difference.notna().all())
    of = "deconfounded" if beyond else "cka"
    changes = [
        PairChange(str(row["model_a"]), str(row["model_b"]), read_contrast(row, of).difference)
        for row in rows.to_dict("records")
        if pd.notna(row["difference"])
    ]
    found = find_majority(changes)
    return Partings(found.side, found.count, len(changes), found.strength, found.shown, beyond)
