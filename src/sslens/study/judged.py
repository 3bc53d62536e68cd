"""What became of a claim, as a verdict or a file of verdicts has it."""

from dataclasses import dataclass
from typing import final

from sslens.statistics.estimate import Contrast, Estimate, explain
from sslens.statistics.verdicts import Verdict


@final
@dataclass(frozen=True)
class Effect:
    """A difference that a claim is about.

    Attributes:
        label: what the difference is of.
        a: the name of the first quantity.
        b: the name of the quantity that is subtracted.
        difference: a − b, with the interval that decides.
        smallest: the smallest difference worth a word.
        kind: what it is a difference of, such as "accuracy"; empty where that is not known.
        answer: what it says of the claim, one of `Answer`; empty where that is not known.
    """

    label: str
    a: str
    b: str
    difference: Estimate
    smallest: float = 0.0
    kind: str = ""
    answer: str = ""

    @property
    def why(self) -> str:
        """What the interval says, as a clause."""
        return explain(Contrast(self.a, self.b, self.difference), self.smallest)

    @property
    def is_open(self) -> bool:
        """Whether the interval decides nothing."""
        return self.difference.find_side(self.smallest) in ("undecided", "too few")

    @property
    def words(self) -> str:
        """What is subtracted from what.

        >>> Effect("accuracy,", "mine", "dino", Estimate(0.1)).words
        'accuracy, mine less dino'
        """
        label = self.label.rstrip(",: ")
        return f"{label}{', ' if label else ''}{self.a} less {self.b}"

    @property
    def numbers(self) -> dict[str, object]:
        """The difference for a machine; a number that is not there is None."""
        one = self.difference
        return {
            "part": self.label.rstrip(",: "),
            "a": self.a,
            "b": self.b,
            "effect": make_json_number(one.value),
            "low": make_json_number(one.low),
            "high": make_json_number(one.high),
            "over": one.over,
            "n": one.n,
            "smallest": self.smallest,
            "kind": self.kind,
            "why": self.why,
        }


@final
@dataclass(frozen=True)
class Judged:
    """The outcome of a claim for one choice of tokens, as a verdict or a file of verdicts has it.

    Attributes:
        claim: the claim's name.
        tokens: the choice of tokens; empty if the claim is not about tokens.
        outcome: one of `Answer`.
        scope: "in these models", "of these objectives", or empty.
        why: what decided, or what is missing.
        effects: the differences that the claim is about, the most important one first.
        caveats: what speaks against the outcome and is none of the differences, as clauses.
    """

    claim: str
    tokens: str
    outcome: str
    scope: str
    why: str
    effects: tuple[Effect, ...] = ()
    caveats: tuple[str, ...] = ()

    @classmethod
    def of(cls, verdict: Verdict) -> "Judged":
        """Take what a condition reads of a verdict."""
        effects = []
        for part in verdict.parts:
            one, answer = part.choose_contrast(verdict.scope), part.choose_answer(verdict.scope)
            numbers = one.difference, part.smallest, part.kind
            effects.append(Effect(part.label, one.a, one.b, *numbers, answer))
        return cls(
            verdict.claim,
            verdict.tokens,
            verdict.outcome,
            verdict.scope,
            verdict.why,
            tuple(effects),
            verdict.caveats,
        )

    @property
    def phrase(self) -> str:
        """The outcome with its scope, and the tokens where the claim is about them."""
        tokens = f"tokens {self.tokens}: " if self.tokens else ""
        return f"{tokens}{self.outcome} {self.scope}".strip()

    @property
    def numbers(self) -> dict[str, object]:
        """The outcome and all differences for a machine."""
        own = {key: value for key, value in vars(self).items() if key != "effects"}
        return {**own, "effects": [one.numbers for one in self.effects]}

    def choose_effect(self) -> Effect | None:
        """The difference that tells why: of an undecided claim the first that is open, of one that
        holds in part the first that does not hold, else the first with the answer of the claim;
        None without any.

        >>> value = Estimate(0.1, 0.05, 0.15, "images", 90)
        >>> seen = (Effect("", "a", "b", value, answer=one) for one in ("holds", "the same"))
        >>> Judged("c9", "", "in part", "in these models", "", tuple(seen)).choose_effect().answer
        'the same'
        """
        shown = [one for one in self.effects if one.is_open == (self.outcome == "undecided")]
        against = ("contradicted", "the same")
        why = against if self.outcome == "in part" else (self.outcome,)
        telling = [one for one in shown if one.answer in why]
        return next(iter([*telling, *shown, *self.effects]), None)


def make_json_number(number: float) -> float | None:
    """Return a number, or None for nan, which JSON does not have.

    >>> make_json_number(0.5), make_json_number(float("nan"))
    (0.5, None)
    """
    return None if number != number else number
