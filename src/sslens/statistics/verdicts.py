"""The verdict on a claim of the papers: an effect with its interval, and what the interval is over.

An interval over images alone tells of other images, and not of other trainings: a verdict that
rests on it is about the models under study. Only an interval over images and trainings tells of
objectives.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

from sslens.counts import spell_count
from sslens.statistics.estimate import FEWEST, Answer, Contrast, Estimate, decide, explain, unite
from sslens.statistics.estimate import subtract_unpaired as subtract

#: how a clause says that a difference has the other sign in places
REVERSED = "reversed at"
#: what a verdict is about: the models under study, or their objectives
Scope = Literal["", "in these models", "of these objectives"]


@final
@dataclass(frozen=True)
class Quotation:
    """What a paper says of a claim, in its own words.

    Attributes:
        words: a few words of the paper, letter by letter.
        source: the paper and the place in it, e.g. "2023, figure 2a".
        numbers: the numbers that are printed there; empty if none is.

    >>> print(Quotation("do not see any improvement", "2023, section 2.2", "MAE +1.03 %"))
    “do not see any improvement” (2023, section 2.2: MAE +1.03 %)
    """

    words: str
    source: str
    numbers: str = ""

    def __str__(self) -> str:
        numbers = f": {self.numbers}" if self.numbers else ""
        return f"“{self.words}” ({self.source}{numbers})"


@final
@dataclass(frozen=True)
class Part:
    """A difference that a claim is about.

    Attributes:
        label: what the difference is of, as the beginning of a clause, e.g. "at the same depth".
        contrast: the difference, with its interval over images or minibatches.
        smallest: the smallest difference worth a word (`estimate.SMALLEST`).
        kind: the kind of number, a key of `estimate.SMALLEST`.
        expected: the sign that the claim expects; 0 if it expects no gain.
        trainings: the same difference with an interval over images and trainings; None if an
            objective has only one training, or if trainings were not resampled.
        count: the number of trainings of the side that has the fewest; None if trainings were not
            resampled.
        published: the same difference as the papers print it, in the same units; None if they print
            none.
        controls: differences to compare with this part alone, as the verdict's controls are with
            all of them.
        decisive: whether the claim cannot hold in part without this part.
    """

    label: str
    contrast: Contrast
    smallest: float
    kind: str
    expected: Literal[1, 0, -1] = 1
    trainings: Contrast | None = None
    count: int | None = None
    published: float | None = None
    controls: tuple[Contrast, ...] = ()
    decisive: bool = False

    @property
    def answer(self) -> Answer:
        """The answer for the models under study, by the interval over images."""
        return decide(self.contrast, self.expected, self.smallest)

    @property
    def answer_of_objectives(self) -> Answer:
        """The answer for the objectives, by the interval over trainings too."""
        only = "trainings" in self.contrast.difference.over
        contrast = self.contrast if only else self.trainings
        return decide(contrast, self.expected, self.smallest) if contrast else "undecided"

    def choose_contrast(self, scope: Scope) -> Contrast:
        """Return the difference with the interval that decides for a scope: over trainings too for
        "of these objectives", else over images."""
        if scope == "of these objectives" and self.trainings is not None:
            return self.trainings
        return self.contrast

    def choose_answer(self, scope: Scope) -> Answer:
        """Return the answer for a scope."""
        return self.answer_of_objectives if scope == "of these objectives" else self.answer

    def measure_strength(self, scope: Scope = "in these models") -> float:
        """Measure how clear the answer is, in smallest differences (`Estimate.measure_strength`).

        Where no gain is expected and none is seen, it is how far the upper end lies below the
        smallest difference.

        Args:
            scope: which of the two intervals is measured.
        """
        contrast = self.choose_contrast(scope)
        difference = contrast.difference
        if self.expected == 0 and decide(contrast, 0, self.smallest) == "holds":
            return 1 - difference.high / self.smallest
        return difference.measure_strength(self.smallest)

    @property
    def why(self) -> str:
        """The reason for the answer about the models, as a clause."""
        label = self.label.rstrip(",:") or f"{self.contrast.a} less {self.contrast.b}"
        return f"{label}: {explain(self.contrast, self.smallest)}"


@final
@dataclass(frozen=True)
class Verdict:
    """The verdict of a study's results on a claim of the papers, or on a user's own claim.

    Attributes:
        claim: the claim's name, e.g. "c1".
        outcome: "holds", "contradicted", "the same" (as far as is worth a word), "in part",
            "undecided" or "not run".
        scope: whether the outcome is about the models under study or about their objectives; empty
            if the outcome is "undecided" or "not run".
        parts: the differences that the claim is about, the most important one first; empty if the
            outcome is "not run". The claim holds only if it holds in all parts.
        controls: differences or levels to compare with: of second seeds, of controls, or with the
            pixels' Gram regressed out; those of single parts come last. They have no part in the
            outcome.
        why: the reason for the outcome, or what is missing, as the end of a sentence.
        limit: why the outcome is not about objectives, as a clause; empty if it is, or if nothing
            is decided.
        members: names of the models that took part, by group.
        tokens: the tokens that the verdict is about, "all", "cls" or "patch"; empty if the claim
            is not about tokens.
        words: the claim as a sentence; empty until a judge of several claims fills it in.
        short: the claim in under 72 letters, for the first screen; empty where `words` serve.
        papers: what the papers say of the claim; empty of a user's own claim and of a user's own
            groups of models.
        noted: what speaks against the outcome and is none of the parts, such as a reversal at some
            depths or a yardstick that shows as much, each as a clause.
    """

    claim: str
    outcome: Answer
    scope: Scope = ""
    parts: tuple[Part, ...] = ()
    controls: tuple[Contrast, ...] = ()
    why: str = ""
    limit: str = ""
    members: Mapping[str, tuple[str, ...]] | None = None
    tokens: str = ""
    words: str = ""
    short: str = ""
    papers: tuple[Quotation, ...] = ()
    noted: tuple[str, ...] = ()

    def __repr__(self) -> str:
        tokens = f", tokens {self.tokens}" if self.tokens else ""
        return f"<Verdict {self.label}{tokens}: {self.phrase}>"

    @property
    def contrast(self) -> Contrast | None:
        """The most important difference, with its interval over images; None if there is none."""
        return self.parts[0].contrast if self.parts else None

    @property
    def phrase(self) -> str:
        """The outcome with its scope, such as "holds in these models"."""
        return f"{self.outcome} {self.scope}".strip()

    @property
    def label(self) -> str:
        """The claim's name for a reader: "C1" of a claim of the papers, else as the user named it.

        >>> Verdict("c1", "undecided").label, Verdict("mine", "undecided").label
        ('C1', 'mine')
        """
        return self.claim.upper() if re.fullmatch(r"c\d+", self.claim) else self.claim

    @property
    def reversed_by(self) -> Mapping[str, Contrast]:
        """The controls that are a part's own difference measured in another way, such as with the
        pixels' Gram regressed out, and lie clearly on the other side of 0; by that way.

        >>> from sslens.statistics.estimate import Estimate
        >>> seen, left = (
        ...     Estimate(value, value - 0.1, value + 0.1, "images", 90) for value in (0.3, -0.2)
        ... )
        >>> part = Part("", Contrast("JE", "REC", seen), 0.02, "cka")
        >>> control = Contrast("JE, pixels regressed out", "REC", left)
        >>> reach_verdict("c1", [part], members={}, controls=[control]).reversed_by.keys()
        dict_keys(['pixels regressed out'])
        """
        other = {"more": "less", "less": "more"}
        return {
            way: control
            for way, part, control in self._list_other_ways()
            if control.difference.find_side(part.smallest)
            == other.get(part.contrast.difference.find_side(part.smallest))
        }

    @property
    def vanished_by(self) -> Mapping[str, Contrast]:
        """The controls that are a part's own difference measured in another way, by which nothing
        is seen of it, although the part is decided: the difference is the same as 0, or holds 0 and
        lies clearly nearer to it. They are listed by that way.

        >>> from sslens.statistics.estimate import Estimate
        >>> seen, left = (
        ...     Estimate(value, value - 0.1, value + 0.1, "images", 90) for value in (0.3, 0.01)
        ... )
        >>> part = Part("", Contrast("JE", "REC", seen), 0.02, "cka")
        >>> control = Contrast("JE, pixels regressed out", "REC", left)
        >>> reach_verdict("c1", [part], members={}, controls=[control]).caveats
        ('not seen with pixels regressed out',)
        """
        return {
            way: control
            for way, part, control in self._list_other_ways()
            if _vanishes(part.contrast.difference, control.difference, part.smallest)
        }

    @property
    def caveats(self) -> tuple[str, ...]:
        """What speaks against the outcome, each as a clause: ways of measuring a difference by
        which it is reversed or not seen, and what is noted."""
        ways = {"the reverse": self.reversed_by, "not seen": self.vanished_by}
        measured = [f"{what} with {' and '.join(by)}" for what, by in ways.items() if by]
        return (*measured, *self.noted)

    @property
    def shaken(self) -> bool:
        """Whether a difference is reversed or not seen when it is measured in another way, or is
        reversed at some depths."""
        return bool(self.reversed_by or self.vanished_by) or any(
            REVERSED in clause for clause in self.noted
        )

    def _list_other_ways(self) -> Iterator[tuple[str, Part, Contrast]]:
        """The controls that are a part's own difference measured in another way, each after that
        way and the part."""
        for part, control in itertools.product(self.parts, self.controls):
            name, comma, way = control.a.rstrip(",").rpartition(", ")
            own = control in part.controls or name == part.contrast.a
            if comma and own and control.b == part.contrast.b:
                yield way, part, control

    def find_controls(self, part: Part) -> tuple[Contrast, ...]:
        """Return the controls of a part: its own, or else those of all parts.

        >>> from sslens.statistics.estimate import Estimate
        >>> two, three = (Contrast("a", "b", Estimate(value)) for value in (0.2, 0.3))
        >>> own, plain = (Part("", two, 0.02, "cka", controls=own) for own in ((three,), ()))
        >>> verdict = reach_verdict("c1", [own, plain], members={}, controls=[two])
        >>> [verdict.find_controls(part)[0].difference.value for part in verdict.parts]
        [0.3, 0.2]
        """
        owned = [control for one in self.parts for control in one.controls]
        return part.controls or tuple(one for one in self.controls if one not in owned)

    @property
    def strength(self) -> float:
        """How clear the verdict is, in smallest differences worth a word; verdicts on different
        claims are put in order by it.

        It is 0 if the outcome is "undecided" or "not run". A claim that holds, or in which the two
        are the same, is as strong as its weakest part, and a contradicted claim as its strongest
        contradicted part. If a claim holds in part, it is the lesser of two numbers: the strongest
        part that holds, and the strongest part that does not.

        >>> from sslens.statistics.estimate import Estimate
        >>> clear, weak = (
        ...     Part("", Contrast("JE", "REC", Estimate(low, low, 0.5, "images", 100)), 0.02, "cka")
        ...     for low in (0.1, 0.04)
        ... )
        >>> reach_verdict("c1", [clear, weak], members={}).strength
        2.0
        """
        if self.outcome in ("undecided", "not run"):
            return 0.0
        by_answer: dict[Answer, list[float]] = {}
        for part in self.parts:
            strengths = by_answer.setdefault(part.choose_answer(self.scope), [])
            strengths.append(part.measure_strength(self.scope))
        if self.outcome == "contradicted":
            return max(by_answer["contradicted"])
        for_it = by_answer.pop("holds", [])
        against = [strength for strengths in by_answer.values() for strength in strengths]
        if self.outcome == "in part":
            return min(max(for_it), max(against))
        return min([*for_it, *against])


def reach_verdict(
    claim: str,
    parts: Sequence[Part],
    *,
    members: Mapping[str, tuple[str, ...]],
    controls: Sequence[Contrast] = (),
    tokens: str = "",
    why: str = "",
    caveats: Sequence[str] = (),
) -> Verdict:
    """Reach a verdict from all parts of a claim.

    If the intervals over images and trainings decide all parts, the verdict is about objectives.
    Else the intervals over images decide, and the verdict is about the models under study.

    Args:
        claim: the claim's name.
        parts: the differences that the claim is about, at least one.
        members: names of the models that took part, by group.
        controls: what is shown beside all differences; the parts' own follow.
        tokens: the tokens that the verdict is about.
        why: a further reason, as a clause; it comes after the reasons of the parts.
        caveats: what else speaks against the outcome, as clauses (`Verdict.noted`); they come after
            the reasons of the parts.

    >>> from sslens.statistics.estimate import Estimate
    >>> seen = Contrast("JE", "REC", Estimate(0.3, 0.1, 0.5, "minibatches", 32))
    >>> few = Contrast("JE", "REC", Estimate(0.3, -0.4, 1.0, "minibatches and trainings", 4))
    >>> reach_verdict("c1", [Part("", seen, 0.02, "cka", 1, few)], members={}).phrase
    'holds in these models'
    """
    outcome = _unite(parts, [part.answer_of_objectives for part in parts])
    scope: Scope = "of these objectives"
    limit = ""
    if outcome == "undecided":
        outcome, scope = _unite(parts, [part.answer for part in parts]), "in these models"
        limit = _explain_limit(parts) if outcome != "undecided" else ""
    reasons = [*(part.why for part in parts), *([why] if why else []), *caveats]
    return Verdict(
        claim,
        outcome,
        "" if outcome == "undecided" else scope,
        tuple(parts),
        (*controls, *(control for part in parts for control in part.controls)),
        "; ".join(reasons),
        limit,
        members,
        tokens,
        noted=tuple(caveats),
    )


def _unite(parts: Sequence[Part], answers: Sequence[Answer]) -> Answer:
    """Combine the answers to all parts; a claim of which a decisive part does not hold does not
    hold in part."""
    outcome = unite(answers)
    against = [
        answer
        for part, answer in zip(parts, answers, strict=True)
        if part.decisive and answer != "holds"
    ]
    return against[0] if outcome == "in part" and against else outcome


def _vanishes(seen: Estimate, left: Estimate, smallest: float) -> bool:
    """Whether a difference that is decided is not seen when it is measured in another way."""
    side = seen.find_side(smallest)
    if side not in ("more", "less"):
        return False
    if left.find_side(smallest) == "the same":
        return True
    return left.sign == 0 and subtract(seen, left).find_side(smallest) == side


def _explain_limit(parts: Sequence[Part]) -> str:
    """Say why a verdict is about the models and not about their objectives."""
    over = [part.trainings for part in parts]
    known = [contrast for contrast in over if contrast is not None]
    if len(known) < len(over):
        counts = [part.count for part in parts if part.trainings is None]
        if None in counts:
            return "trainings are not resampled for this claim"
        return "an objective has one training"
    fewest = min(one.difference.n for one in known)
    if any(one.difference.sign is None for one in known):
        return (
            f"a side has {spell_count(fewest, 'training')}, and fewer than {FEWEST['trainings']}"
            " decide nothing"
        )
    return "trainings of one objective differ too much"
