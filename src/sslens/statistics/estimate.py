"""An estimate with its interval, the contrast of two things, and what a contrast decides."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, Literal, final

from sslens.errors import InputError

#: the fewest minibatches, images or trainings that an interval must rest on before its sign counts:
#: five minibatches all have the same sign by chance in 2 · 2⁻⁵ = 6 % of cases; of the 70 ways to
#: divide eight trainings into four and four, the two most extreme ones are 2.9 %, and of the 20
#: ways to divide six into three and three 10 %
FEWEST = {
    "minibatches": 6,
    "images": 20,
    "trainings": 4,
    "minibatches and trainings": 4,
    "images and trainings": 4,
}
#: the smallest difference worth a word, by kind of number: of CKA, of R², of Kendall's tau (and of
#: F1 and error consistency, on the same scale), of straightness, of sensitivity to a transform; and
#: of accuracy and average precision half a point
SMALLEST = {
    "cka": 0.02,
    "r2": 0.02,
    "tau": 0.02,
    "straightness": 0.02,
    "sensitivity": 0.02,
    "accuracy": 0.005,
    "ap": 0.005,
}
#: the largest difference that there can be, by kind of number; R² and sensitivities have none
LARGEST = {"cka": 1.0, "tau": 2.0, "straightness": 1.0, "accuracy": 1.0, "ap": 1.0}
#: an interval that is narrower has no width but for rounding
NARROWEST = 1e-12
NAN = float("nan")
Side = Literal["more", "less", "the same", "undecided", "too few"]
Answer = Literal["holds", "contradicted", "the same", "in part", "undecided", "not run"]


@final
@dataclass(frozen=True)
class Estimate:
    """A number with the ends of its 95 % interval.

    Attributes:
        value: nan where the number is undefined.
        low: lower end of the interval; nan where there is none.
        high: upper end.
        over: what the interval is over: "minibatches" (of images), "images", "trainings",
            "minibatches and trainings" or "images and trainings".
        n: number of minibatches, images or trainings that were resampled; 0 if it is not known. If
            the interval is over trainings too, it is the number of trainings of the side that has
            the fewest.

    Raises:
        InputError: `over` is none of these five.

    >>> Estimate(0.5, 0.4, 0.6, "images", 100).sign
    1
    >>> Estimate(0.5, 0.4, 0.6, "images", 10).sign is None  # too few images to decide
    True
    >>> Estimate(0.5).n  # a number alone
    0
    """

    value: float
    low: float = NAN
    high: float = NAN
    over: str = "images"
    n: int = 0

    def __post_init__(self) -> None:
        if self.over not in FEWEST:
            raise InputError(
                f'An interval over "{self.over}" is not known: expected {", ".join(FEWEST)}'
            )

    @classmethod
    def from_row(
        cls, row: Any, column: str, over: str, n: str | int, *, ends: Sequence[str] | None = None
    ) -> "Estimate":
        """Read an estimate from a row of a table.

        Args:
            row: a mapping from column to value, or a pandas Series.
            column: the column that holds the value.
            over: what the interval is over, as in `Estimate.over`.
            n: the number of resampled things, or the column that holds this number.
            ends: the columns of the lower and the upper end; `column`_low and `column`_high
                unless given.

        >>> row = {"cka": 0.5, "low": 0.4, "high": 0.6, "minibatches": 8}
        >>> Estimate.from_row(row, "cka", "minibatches", "minibatches", ends=("low", "high")).n
        8
        """
        low, high = ends or (f"{column}_low", f"{column}_high")
        count = row[n] if isinstance(n, str) else n
        number = 0 if count is None or count != count else int(count)
        return cls(float(row[column]), float(row[low]), float(row[high]), over, number)

    def columns(self, name: str, ends: Sequence[str] | None = None) -> dict[str, float]:
        """Return the estimate as columns of a row of a table; `from_row` reads them back.

        Args:
            name: the column that takes the value.
            ends: the columns that take the lower and the upper end; `name`_low and `name`_high
                unless given.

        >>> Estimate(0.5, 0.4, 0.6, "images", 100).columns("gain")
        {'gain': 0.5, 'gain_low': 0.4, 'gain_high': 0.6}
        """
        low, high = ends or (f"{name}_low", f"{name}_high")
        return {name: self.value, low: self.low, high: self.high}

    def hold_together(self, count: int) -> "Estimate":
        """Return the estimate with an interval that holds at once with those of `count` − 1 others.

        Its arms are longer by z(1 − 0.025 / count) / z(0.975), of the quantiles z of the normal
        distribution (Bonferroni): where one of several is picked for what it says, its own interval
        says too much.

        >>> together = Estimate(0.5, 0.4, 0.6, "images", 100).hold_together(10)
        >>> round(together.low, 3), round(together.high, 3)  # z is 2.807 and 1.960
        (0.357, 0.643)
        """
        quantile = NormalDist().inv_cdf
        longer = quantile(1 - 0.025 / max(1, count)) / quantile(0.975)
        return replace(
            self,
            low=self.value - longer * (self.value - self.low),
            high=self.value + longer * (self.high - self.value),
        )

    def cut_to_possible(self, kind: str) -> "Estimate":
        """Return the estimate with its interval cut to the differences that are possible, as t's
        interval over a few trainings may go far beyond: no true difference is lost.

        Args:
            kind: the kind of number of which this is a difference, a key of `SMALLEST`.

        >>> wide = Estimate(0.04, -1.46, 1.69, "images and trainings", 2)
        >>> cut = wide.cut_to_possible("cka")
        >>> cut.low, cut.high
        (-1.0, 1.0)
        """
        largest = LARGEST.get(kind, math.inf)
        return replace(self, low=max(self.low, -largest), high=min(self.high, largest))

    @property
    def sign(self) -> int | None:
        """1 if the interval lies above 0, -1 if the interval lies below 0, 0 if it holds 0.

        The sign is None if the value is nan, if there is no interval, or if the interval rests on
        too few minibatches (under 6), images (under 20) or trainings (under 4); see `FEWEST`. An
        interval of no width has the sign 0, wherever it lies: it tells nothing of other draws.

        >>> Estimate(0.5, 0.5, 0.5, "images", 100).sign
        0
        """
        if math.isnan(self.value) or math.isnan(self.low) or self.n < FEWEST[self.over]:
            return None
        if self.high - self.low < NARROWEST:
            return 0
        return 1 if self.low > 0 else -1 if self.high < 0 else 0

    def find_side(self, smallest: float = 0.0) -> Side:
        """Decide on which side of 0 a difference lies, if it is worth a word.

        It is "more" or "less" if the interval leaves out 0 and |value| ≥ `smallest`; "the same" if
        the whole interval lies within ± `smallest`; "too few" if the sign is None; and else
        "undecided".

        Args:
            smallest: the smallest difference worth a word (`SMALLEST`), in the same units.

        >>> Estimate(0.3, 0.1, 0.5, "images", 100).find_side(0.02)
        'more'
        >>> Estimate(0.01, 0.005, 0.015, "images", 100).find_side(0.02)
        'the same'
        >>> Estimate(0.01, 0.005, 0.1, "images", 100).find_side(0.02)  # it may be 0.1
        'undecided'
        """
        sign = self.sign
        if sign is None:
            return "too few"
        if self.high - self.low < NARROWEST:
            return "undecided"
        if -smallest <= self.low and self.high <= smallest:
            return "the same"
        if not sign or abs(self.value) < smallest:
            return "undecided"
        return "more" if sign > 0 else "less"

    def measure_strength(self, smallest: float) -> float:
        """Measure how far from 0 a difference is for sure, in smallest differences worth a word.

        It is min(|low|, |high|) / `smallest` where the difference is "more" or "less"
        (`find_side`); 1 − max(|low|, |high|) / `smallest`, between 0 and 1, where it is "the same";
        and else 0. So differences of CKA and of accuracies can be put in one order.

        Args:
            smallest: the smallest difference worth a word (`SMALLEST`), above 0.

        >>> Estimate(0.3, 0.1, 0.5, "images", 100).measure_strength(0.02)
        5.0
        >>> Estimate(0.0, -0.005, 0.01, "images", 100).measure_strength(0.02)
        0.5
        >>> Estimate(0.3, -0.1, 0.5, "images", 100).measure_strength(0.02)
        0.0
        """
        side, ends = self.find_side(smallest), (abs(self.low), abs(self.high))
        if side == "the same":
            return 1 - max(ends) / smallest
        return min(ends) / smallest if side in ("more", "less") else 0.0

    @property
    def defined(self) -> bool:
        """Whether the value is a number and not nan."""
        return not math.isnan(self.value)


def subtract_unpaired(one: Estimate, other: Estimate) -> Estimate:
    """Subtract an estimate from another when the two have no images or minibatches in common.

    Use it where the two numbers were not resampled together, or where their replicates are not
    kept. The interval is [one.low − other.high, one.high − other.low]. It is wider than necessary:
    it leaves out 0 only if the two intervals do not overlap. The result's `n` is the smaller one.

    >>> subtract_unpaired(Estimate(0.75, 0.5, 1.0, n=64), Estimate(0.25, 0.125, 0.375, n=64))
    Estimate(value=0.5, low=0.125, high=0.875, over='images', n=64)

    Raises:
        InputError: one interval is over images, say, and the other over minibatches.
    """
    if one.over != other.over:
        raise InputError(f"Intervals over {one.over} and over {other.over} are not subtracted.")
    value, low, high = (
        one.value - other.value,
        one.low - other.high,
        one.high - other.low,
    )
    return Estimate(value, low, high, one.over, min(one.n, other.n))


@final
@dataclass(frozen=True)
class Contrast:
    """The difference of two named quantities, a − b.

    Attributes:
        a: name of the first quantity.
        b: name of the quantity that is subtracted.
        difference: a − b, with its interval.
        paired: whether both quantities were measured on the same draws of images, minibatches or
            trainings, so that variation common to both cancels in the difference.
        together: number of differences that all lie in their intervals at once with 95 %
            probability; 1 for an ordinary interval, more for a simultaneous one.
    """

    a: str
    b: str
    difference: Estimate
    paired: bool = True
    together: int = 1

    @property
    def sign(self) -> int | None:
        """The sign of the difference (`Estimate.sign`): 1, -1, 0, or None if it is undecided."""
        return self.difference.sign


def decide(contrast: Contrast, expected: Literal[1, 0, -1] = 1, smallest: float = 0.0) -> Answer:
    """Decide whether a contrast confirms a claim that expects a sign; only this function decides.

    The claim "holds" if the interval lies on the expected side of 0 and |difference| ≥ `smallest`.
    It is "contradicted" if the interval lies on the other side of 0 and |difference| ≥ `smallest`,
    and the two are "the same" if the whole interval lies within ± `smallest`. In all other cases,
    also where the sign is None, it is "undecided". A claim that expects no gain (`expected` 0)
    holds if the two are the same or a is less than b, and is contradicted if a is more than b.

    Args:
        contrast: the difference.
        expected: the sign that the claim expects; 0 if it expects no gain.
        smallest: the smallest difference that matters, in the units of the difference.

    >>> decide(Contrast("JE", "REC", Estimate(0.3, 0.1, 0.5, "minibatches", 32)))
    'holds'
    >>> decide(Contrast("JE", "REC", Estimate(0.3, 0.1, 0.5, "minibatches", 32)), expected=-1)
    'contradicted'
    >>> decide(Contrast("JE", "REC", Estimate(0.01, 0.005, 0.02, "minibatches", 32)), smallest=0.02)
    'the same'
    >>> decide(Contrast("3", "1", Estimate(0.001, -0.003, 0.004, "images", 900)), 0, smallest=0.005)
    'holds'
    """
    side = contrast.difference.find_side(smallest)
    if side in ("undecided", "too few"):
        return "undecided"
    if expected == 0:
        return "contradicted" if side == "more" else "holds"
    if side == "the same":
        return "the same"
    return "holds" if (side == "more") == (expected == 1) else "contradicted"


def unite(answers: Sequence[Answer]) -> Answer:
    """Combine the answers to all parts of a claim.

    The result is their common answer. If they differ, it is "undecided" where a part is undecided;
    "in part" where some parts hold and others do not; else "contradicted".

    >>> unite(["holds", "holds"]), unite(["holds", "undecided"])
    ('holds', 'undecided')
    >>> unite(["holds", "contradicted"]), unite(["the same", "contradicted"])
    ('in part', 'contradicted')
    """
    if len(set(answers)) == 1:
        return answers[0]
    if "undecided" in answers:
        return "undecided"
    return "in part" if "holds" in answers or "in part" in answers else "contradicted"


def explain(contrast: Contrast, smallest: float = 0.0) -> str:
    """Explain the answer of `decide` as the end of a sentence, without the contrast's numbers.

    >>> explain(Contrast("JE", "REC", Estimate(0.3, 0.1, 0.5, "minibatches", 32)))
    'the interval lies above 0'
    >>> explain(Contrast("JE", "REC", Estimate(0.3, 0.1, 0.5, "minibatches", 5)))
    'there are too few minibatches'
    >>> explain(Contrast("JE", "REC", Estimate(0.01, 0.005, 0.02, "minibatches", 32)), 0.02)
    'the two are the same within 0.02'
    """
    difference = contrast.difference
    if not difference.defined:
        return "the difference is undefined"
    if difference.sign is None:
        over = "trainings" if "trainings" in difference.over else difference.over
        return f"there are too few {over}"
    if difference.high - difference.low < NARROWEST:
        return "the interval has no width"
    side = difference.find_side(smallest)
    if side == "the same":
        return f"the two are the same within {smallest:g}"
    if side == "undecided":
        return "the interval holds 0" if not difference.sign else "it may be too small for a word"
    return f"the interval lies {'above' if side == 'more' else 'below'} 0"
