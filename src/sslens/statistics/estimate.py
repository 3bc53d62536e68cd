"""An estimate with its interval, the contrast of two things, and the verdict on a claim."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

from sslens.errors import InputError

#: the fewest minibatches, images or trainings that an interval must rest on before its sign counts:
#: five minibatches all have the same sign by chance in 2 · 2⁻⁵ = 6 % of cases
FEWEST = {"minibatches": 6, "images": 20, "trainings": 2}
#: the smallest difference that matters, by kind of number; CKA goes from 0 to 1
SMALLEST = {"cka": 0.02}
NAN = float("nan")
Answer = Literal["holds", "contradicted", "undecided", "not run"]


@final
@dataclass(frozen=True)
class Estimate:
    """A number with the ends of its 95 % interval.

    Attributes:
        value: nan where the number is undefined.
        low: lower end of the interval; nan where there is none.
        high: upper end.
        over: what was resampled for the interval: "minibatches", "images" or "trainings".
        n: number of minibatches, images or trainings that were resampled; 0 if it is not known.

    Raises:
        InputError: `over` is none of these three words.

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
            over: what was resampled: "minibatches", "images" or "trainings".
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

    @property
    def sign(self) -> int | None:
        """1 if the interval lies above 0, -1 if the interval lies below 0, 0 if it holds 0.

        The sign is None if the value is nan, if there is no interval, or if the interval rests on
        too few minibatches (under 6), images (under 20) or trainings (under 2); see `FEWEST`. An
        interval from 0 to 0 has the sign 0.
        """
        if math.isnan(self.value) or math.isnan(self.low) or self.n < FEWEST[self.over]:
            return None
        return 1 if self.low > 0 else -1 if self.high < 0 else 0

    @property
    def defined(self) -> bool:
        """Whether the value is a number and not nan."""
        return not math.isnan(self.value)


def subtract_unpaired(one: Estimate, other: Estimate) -> Estimate:
    """Subtract an estimate from another when the two have no replicates in common.

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


@final
@dataclass(frozen=True)
class Verdict:
    """The verdict of a study's results on a claim of the papers.

    Attributes:
        claim: the claim's name, e.g. "c1".
        outcome: "holds", "contradicted", "undecided" or "not run".
        contrast: the difference that the claim is about; None if the outcome is "not run".
        others: further differences that the claim is about; the claim holds only if all of them
            agree with `contrast`.
        controls: the same difference, or a level to compare with, measured on control models.
        why: the reason for the outcome, or what is missing, as the end of a sentence.
        members: names of the models that took part, by group.
        tokens: the tokens that the verdict is about, "all", "cls" or "patch"; empty if the claim
            is not about tokens.
    """

    claim: str
    outcome: Answer
    contrast: Contrast | None = None
    others: tuple[Contrast, ...] = ()
    controls: tuple[Contrast, ...] = ()
    why: str = ""
    members: Mapping[str, tuple[str, ...]] | None = None
    tokens: str = ""


def decide(contrast: Contrast, expected: Literal[1, -1] = 1, smallest: float = 0.0) -> Answer:
    """Decide whether a contrast confirms a claim that expects a sign; only this function decides.

    The claim "holds" if the interval lies on the expected side of 0 and |difference| ≥ `smallest`.
    It is "contradicted" if the interval lies on the other side of 0 and |difference| ≥ `smallest`.
    In all other cases, also where the sign is None, it is "undecided".

    Args:
        contrast: the difference.
        expected: the sign that the claim expects.
        smallest: the smallest difference that matters, in the units of the difference.

    >>> decide(Contrast("JE", "REC", Estimate(0.3, 0.1, 0.5, "minibatches", 32)))
    'holds'
    >>> decide(Contrast("JE", "REC", Estimate(0.3, 0.1, 0.5, "minibatches", 32)), expected=-1)
    'contradicted'
    >>> decide(Contrast("JE", "REC", Estimate(0.01, 0.005, 0.02, "minibatches", 32)), smallest=0.02)
    'undecided'
    """
    sign = contrast.sign
    if not sign or abs(contrast.difference.value) < smallest:
        return "undecided"
    return "holds" if sign == expected else "contradicted"


def unite(answers: Sequence[Answer]) -> Answer:
    """Combine the answers of several contrasts: their common answer, or "undecided" if they differ.

    >>> unite(["holds", "holds"]), unite(["holds", "undecided"])
    ('holds', 'undecided')
    """
    return answers[0] if len(set(answers)) == 1 else "undecided"


def explain(contrast: Contrast, smallest: float = 0.0) -> str:
    """Explain the answer of `decide` as the end of a sentence, without the contrast's numbers.

    >>> explain(Contrast("JE", "REC", Estimate(0.3, 0.1, 0.5, "minibatches", 32)))
    'the interval lies above 0'
    >>> explain(Contrast("JE", "REC", Estimate(0.3, 0.1, 0.5, "minibatches", 5)))
    'there are too few minibatches'
    >>> explain(Contrast("JE", "REC", Estimate(0.01, 0.005, 0.02, "minibatches", 32)), 0.02)
    'the difference is smaller than 0.02'
    """
    difference = contrast.difference
    if not difference.defined:
        return "the difference is undefined"
    if contrast.sign is None:
        return f"there are too few {difference.over}"
    if contrast.sign == 0:
        return "the interval holds 0"
    if abs(difference.value) < smallest:
        return f"the difference is smaller than {smallest:g}"
    return f"the interval lies {'above' if contrast.sign > 0 else 'below'} 0"
