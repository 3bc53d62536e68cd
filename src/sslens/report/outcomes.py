"""What became of a reproduced exhibit: its numbers beside the published ones, and its claims."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, final

from sslens.exhibits import Exhibit, Published
from sslens.statistics.estimate import Estimate
from sslens.statistics.reproduced import hold_against

#: what became of an exhibit
State = Literal["computed", "stored", "not run", "failed"]


@final
@dataclass(frozen=True)
class ComparedNumber:
    """A published number beside the number found.

    Attributes:
        published: the published number.
        found: the number found; None where there is none.
        why: why the two may not be compared; empty where they may.
    """

    published: Published
    found: Estimate | None
    why: str = ""

    @property
    def agreement(self) -> str:
        """What is said of the two, as in the column of the table."""
        if self.found is None:
            return "not found"
        if self.why:
            return "not comparable"
        return hold_against(self.found, self.published.value, self.published.tolerance)


@final
@dataclass(frozen=True)
class JudgedClaim:
    """What became of a claim.

    Attributes:
        claim: its name, "c1".
        words: the claim as a sentence.
        outcome: what became of it.
        effect: its first difference; None where it was not run.
        why: what decided, or what is missing.
        kind: the kind of number that the effect is, a key of `SMALLEST`.
        of: what the effect is of, such as "REC less JE".
        beside: the controls with their numbers, in words; empty where there is none.
    """

    claim: str
    words: str
    outcome: str
    effect: Estimate | None
    why: str
    kind: str = "cka"
    of: str = ""
    beside: str = ""


@final
@dataclass(frozen=True)
class ReproducedExhibit:
    """What became of an exhibit.

    Attributes:
        exhibit: the exhibit.
        state: what became of it.
        on: whose weights, and which images.
        models: the source of the model of each role.
        why: why it was not run or failed, or why these weights and not the authors'.
        notes: what is missing for parts of it, and what a reader must know.
        numbers: the published numbers and those found, in the exhibit's order; none where it was
            not run.
        claims: the verdicts on its claims.
        report: the path of its own report, relative to the page; None where there is none.
        tables: where there is none, the paths of its tables.
    """

    exhibit: Exhibit
    state: State
    on: str
    models: Mapping[str, str]
    why: str
    notes: tuple[str, ...] = ()
    numbers: tuple[ComparedNumber, ...] = ()
    claims: tuple[JudgedClaim, ...] = ()
    report: str | None = None
    tables: tuple[str, ...] = ()
