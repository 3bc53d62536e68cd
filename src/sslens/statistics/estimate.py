"""What a number says: an estimate with its interval, a contrast of two, a verdict on a claim."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

from sslens.errors import InputError

#: what was resampled for an interval, and how many of it are needed before a sign is believed: of
#: five minibatches all have one sign by chance in 2 · 2⁻⁵ = 6 % of cases
FEWEST = {"minibatches": 6, "images": 20, "trainings": 2}
#: the smallest difference that is worth a word, by kind of number; CKA goes from 0 to 1
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
        n: how many of these there are; 0 where nobody counted.

    Raises:
        InputError: `over` is none of the three.

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
        """The estimate that a row of a table holds.

        Args:
            row: a mapping or a Series.
            column: of the value; its ends are `column`_low and `column`_high unless `ends` says.
            over: what was resampled.
            n: the column that says how many of these there are, or the number itself.
            ends: the columns of the ends.

        >>> row = {"cka": 0.5, "low": 0.4, "high": 0.6, "minibatches": 8}
        >>> Estimate.from_row(row, "cka", "minibatches", "minibatches", ends=("low", "high")).n
        8
        """
        low, high = ends or (f"{column}_low", f"{column}_high")
        count = row[n] if isinstance(n, str) else n
        number = 0 if count is None or count != count else int(count)
        return cls(float(row[column]), float(row[low]), float(row[high]), over, number)

    def columns(self, name: str, ends: Sequence[str] | None = None) -> dict[str, float]:
        """The estimate as a row of a table holds it, which `from_row` reads again.

        Args:
            name: the column of the value; its ends are `name`_low and `name`_high unless `ends`
                says.
            ends: the columns of the ends.

        >>> Estimate(0.5, 0.4, 0.6, "images", 100).columns("gain")
        {'gain': 0.5, 'gain_low': 0.4, 'gain_high': 0.6}
        """
        low, high = ends or (f"{name}_low", f"{name}_high")
        return {name: self.value, low: self.low, high: self.high}

    @property
    def sign(self) -> int | None:
        """1 if the interval lies above 0, -1 if it lies below, 0 if it holds 0.

        None where nothing can be decided: the number is undefined, has no interval, or too little
        was resampled (`FEWEST`). An interval without width around 0 is 0.
        """
        if math.isnan(self.value) or math.isnan(self.low) or self.n < FEWEST[self.over]:
            return None
        return 1 if self.low > 0 else -1 if self.high < 0 else 0

    @property
    def defined(self) -> bool:
        """Whether there is a number."""
        return not math.isnan(self.value)


def subtract_unpaired(one: Estimate, other: Estimate) -> Estimate:
    """A number less another that was not resampled together with it, or of which no replicates are
    at hand.

    The interval is [low − high of the other, high − low of the other]. It is wider than need be, so
    that its sign is not 0 only where the two intervals lie apart.

    >>> subtract_unpaired(Estimate(0.75, 0.5, 1.0, n=64), Estimate(0.25, 0.125, 0.375, n=64))
    Estimate(value=0.5, low=0.125, high=0.875, over='images', n=64)

    Raises:
        InputError: the intervals are not over the same thing.
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
    """What one thing is more than another.

    Attributes:
        a: name of the first thing.
        b: name of the thing that is subtracted.
        difference: a less b, with its interval.
        paired: whether both were measured on the same draws of images, minibatches or trainings, so
            that what they share cancels.
        together: number of such differences for which the interval holds at once.
    """

    a: str
    b: str
    difference: Estimate
    paired: bool = True
    together: int = 1

    @property
    def sign(self) -> int | None:
        """The sign of the difference, as `Estimate.sign` has it."""
        return self.difference.sign


@final
@dataclass(frozen=True)
class Verdict:
    """What results say of a claim.

    Attributes:
        claim: the claim's name, e.g. "c1".
        outcome: "holds", "contradicted", "undecided" or "not run".
        contrast: the difference that the claim is about; None where it was not run.
        others: further differences that the claim is about; all must say the same.
        controls: the same difference, or the level, of controls.
        why: what decided, or what is missing, as the end of a sentence.
        members: the models that took part, by group.
        tokens: the choice of tokens that the verdict is about; empty where it is about none.
    """

    claim: str
    outcome: Answer
    contrast: Contrast | None = None
    others: tuple[Contrast, ...] = ()
    controls: tuple[Contrast, ...] = ()
    why: str = ""
    members: Mapping[str, tuple[str, ...]] | None = None
    tokens: str = ""


def judge(contrast: Contrast, expected: Literal[1, -1] = 1, smallest: float = 0.0) -> Answer:
    """What a contrast says of a claim that expects a sign: the only place that decides this.

    A claim holds where the interval lies on the expected side of 0 and the value is at least as
    large as the smallest difference worth a word; it is contradicted where the interval lies on the
    other side and the value is as large; else it is undecided.

    Args:
        contrast: the difference.
        expected: the sign that the claim expects.
        smallest: the smallest difference worth a word, in the units of the difference.

    >>> judge(Contrast("JE", "REC", Estimate(0.3, 0.1, 0.5, "minibatches", 32)))
    'holds'
    >>> judge(Contrast("JE", "REC", Estimate(0.3, 0.1, 0.5, "minibatches", 32)), expected=-1)
    'contradicted'
    >>> judge(Contrast("JE", "REC", Estimate(0.01, 0.005, 0.02, "minibatches", 32)), smallest=0.02)
    'undecided'
    """
    sign = contrast.sign
    if not sign or abs(contrast.difference.value) < smallest:
        return "undecided"
    return "holds" if sign == expected else "contradicted"


def unite(answers: Sequence[Answer]) -> Answer:
    """One answer from several contrasts of a claim: theirs where all say the same, else
    "undecided".

    >>> unite(["holds", "holds"]), unite(["holds", "undecided"])
    ('holds', 'undecided')
    """
    return answers[0] if len(set(answers)) == 1 else "undecided"


def explain(contrast: Contrast, smallest: float = 0.0) -> str:
    """Why `judge` answers as it does, without numbers of the contrast, as the end of a sentence.

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
