"""Features and classifiers that may be chosen of a model, which to use, and how far the first
model is ahead with them."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Bool

from sslens.comparisons.roles import PIXELS
from sslens.statistics.estimate import SMALLEST, Estimate
from sslens.statistics.gains import estimate_gains_at_once
from sslens.statistics.proportions import difference_of_shares, estimate_share

#: pairs of options of which the correlations are taken into account; of more only the number
MOST_AT_ONCE = 1_000


@final
@dataclass(frozen=True, eq=False)
class Option:
    """Features and a classifier that may be chosen.

    Attributes:
        tap: the tap, or two taps joined by "+".
        pooling: how tokens are pooled.
        validation: share of the images that decide the choice which are right.
        right: whether each of the other images is right, in one order for all models.
        features: "raw" or "standardised"; empty of probes.
        layers: layers of the probe; 0 where no probe is trained.
        k: neighbours that vote; 0 where a probe is trained.
        usual: whether it is the usual choice.
    """

    tap: str
    pooling: str
    validation: float
    right: Bool[np.ndarray, " image"]
    features: str = ""
    layers: int = 0
    k: int = 0
    usual: bool = False


@final
@dataclass(frozen=True, eq=False)
class Options:
    """The options of one model, with the usual one among them.

    Attributes:
        model: its name.
        control: whether it is a control.
        options: all that may be chosen; of several that are equally good the first is chosen, but
            the usual one comes before all others.
        chosen_on: the number of images that decide the choice.
    """

    model: str
    control: bool
    options: Sequence[Option]
    chosen_on: int = 0

    @property
    def usual(self) -> Option:
        """The usual choice."""
        return next(option for option in self.options if option.usual)

    @property
    def best(self) -> Option:
        """The option with the highest validation accuracy."""
        return max(self.options, key=lambda option: (option.validation, option.usual))

    def choose_use(self, chance: float, models: int) -> Option:
        """Choose the option to use: the best one of a control, which is to be as strong as it can
        be, and of a model under study where that is better than the usual one (`is_better`)."""
        best, usual = self.best, self.usual
        if best is usual or self.control:
            return best
        gain, accuracy = difference_of_shares(best.right, usual.right), estimate_share(best.right)
        return best if is_better(gain, accuracy, chance, models) else usual


def is_better(gain: Estimate, accuracy: Estimate, chance: float, models: int = 1) -> bool:
    """Whether what was chosen is to be used: its gain over the usual choice is half a point or more
    and decided by its interval, and it is above chance.

    Args:
        gain: accuracy less that of the usual choice.
        accuracy: the accuracy itself.
        chance: share of the most frequent class.
        models: the number of models of which this is asked; the intervals hold for all at once.

    >>> gain, accuracy = Estimate(0.1, 0.02, 0.18, "images", 99), Estimate(0.4, 0.3, 0.5, n=99)
    >>> is_better(gain, accuracy, 0.2), is_better(gain, accuracy, 0.35)  # 35 % may be chance
    (True, False)
    >>> is_better(gain, accuracy, 0.2, models=12)
    False
    """
    more = gain.hold_together(models).find_side(SMALLEST["accuracy"]) == "more"
    return more and is_above_chance(accuracy, chance, models)


def is_above_chance(accuracy: Estimate, chance: float, models: int = 1) -> bool:
    """Whether an accuracy lies above the share of the most frequent class by its interval, which
    holds at once for a number of models.

    >>> is_above_chance(Estimate(0.4, 0.3, 0.5), 0.29), is_above_chance(Estimate(0.4), 0.29)
    (True, False)
    >>> is_above_chance(Estimate(0.4, 0.3, 0.5), 0.29, models=3)
    False
    """
    return accuracy.hold_together(models).low > chance


def subtract_from_first(
    models: Sequence[Options], uses: Mapping[str, Option], first: str
) -> dict[str, Estimate]:
    """Subtract what is to be used of each other model from what is to be used of the first, with
    intervals that all hold at once with 95 %.

    The images that judge decide too which model is first, and whether its chosen features are used
    or the usual ones. So the intervals hold at once for the differences of each two models under
    study, with either features of both; and those of untrained controls for each of these and a
    control (`gains.estimate_gains_at_once`). That of raw pixels is an interval by itself.
    """
    mine = {
        one.model: [one.usual, *([] if one.best is one.usual else [one.best])] for one in models
    }
    studied = [one.model for one in models if not one.control]
    others = [one.model for one in models if one.control and one.model != PIXELS]
    ahead = {}
    if PIXELS in uses:
        ahead[PIXELS] = difference_of_shares(uses[first].right, uses[PIXELS].right)
    for pairs in (
        [*itertools.combinations(studied, 2)],
        [*itertools.product(studied, others)],
    ):
        rows = [
            (left, right)
            for a, b in pairs
            for left in mine[a]
            for right in ([uses[b]] if b in others else mine[b])
        ]
        asked = {b if a == first else a: (uses[a], uses[b]) for a, b in pairs if first in (a, b)}
        for name, estimate in _subtract_at_once(rows, asked, uses[first]).items():
            ahead[name] = estimate
    return ahead


def _subtract_at_once(
    rows: Sequence[tuple[Option, Option]],
    asked: Mapping[str, tuple[Option, Option]],
    first: Option,
) -> dict[str, Estimate]:
    """The differences of some pairs of options, the first's less the other's, with intervals that
    hold at once for all pairs."""
    if len(rows) > MOST_AT_ONCE:
        return {
            name: difference_of_shares(
                first.right, (right if left is first else left).right
            ).hold_together(len(rows))
            for name, (left, right) in asked.items()
        }
    if not rows:
        return {}
    values = np.stack([left.right.astype(float) - right.right for left, right in rows])
    value, ends = estimate_gains_at_once(values)
    found = {}
    for name, pair in asked.items():
        at = next(at for at, row in enumerate(rows) if row[0] is pair[0] and row[1] is pair[1])
        numbers = float(value[at]), float(ends.low[at]), float(ends.high[at])
        if pair[0] is not first:
            numbers = -numbers[0], -numbers[2], -numbers[1]
        found[name] = Estimate(*numbers, "images", values.shape[1])
    return found
