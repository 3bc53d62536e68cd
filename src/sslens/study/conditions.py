"""Conditions on results: that a claim has an outcome, or that a number lies beyond a bound."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, final, get_args

from sslens.comparisons.lookup import (
    Place,
    TableNumber,
    Where,
    decide_bound,
    describe,
    require_analysis,
)
from sslens.comparisons.own_claims import OwnClaim, require_where
from sslens.errors import InputError, do_all, nearest
from sslens.find import names, plugin
from sslens.statistics.estimate import Answer, Estimate
from sslens.study.judged import Judged, make_json_number
from sslens.table import Results

Outcome = Literal["holds", "does not hold", "undecided"]
#: what may be asked of a claim
OUTCOMES = tuple(outcome for outcome in get_args(Answer) if outcome not in ("undecided", "not run"))
#: whether a claim must be decided for the models under study, or for their objectives
SCOPES = {"models": "in these models", "objectives": "of these objectives"}
SIDES: Mapping[str, Literal["at least", "at most"]] = {
    "at_least": "at least",
    "at_most": "at most",
}
CLAIM_KEYS = ("claim", "outcome", "tokens", "of")
BOUND_KEYS = ("column", "where", *SIDES)
#: columns that are shares of images, or differences of such, whatever the table
SHARES = ("accuracy", "usual_accuracy", "knn", "chance", "validation", "gain", "gap")


@final
@dataclass(frozen=True)
class Evidence:
    """What conditions are held against.

    Attributes:
        results: the results of the analyses that ran, by the analysis' name.
        judged: the verdicts that were reached.
        spell: formats a number with its interval.
        spell_effect: formats a difference of a kind (accuracies in points) with its interval, and
            says what that is over.
    """

    results: Mapping[str, Results]
    judged: Sequence[Judged]
    spell: Callable[[TableNumber], str]
    spell_effect: Callable[[Estimate, str], str]


@final
@dataclass(frozen=True)
class Checked:
    """What became of a condition.

    Attributes:
        condition: the condition in words.
        outcome: "holds", "does not hold" or "undecided".
        found: what was found, in words.
        numbers: what was found, for a machine.
    """

    condition: str
    outcome: Outcome
    found: str
    numbers: Mapping[str, object] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """The condition and its outcome in one line.

        >>> Checked("c1 holds", "undecided", "c1 is undecided over all tokens").line
        'undecided      c1 holds: c1 is undecided over all tokens'
        """
        return f"{self.outcome:<14} {self.condition}: {self.found}"


@final
@dataclass(frozen=True)
class ClaimCondition:
    """The condition that a claim has an outcome, for every choice of tokens unless one is named.

    Attributes:
        claim: the name of a claim of the papers, or of a claim of the study.
        outcome: what it must be, one of `OUTCOMES`.
        tokens: the choice of tokens that is meant; all of them unless given.
        of: "models" if the outcome may be about the models under study, or "objectives" if it must
            be about their objectives.

    Raises:
        InputError: a value is none of its options.
    """

    claim: str
    outcome: str = "holds"
    tokens: str = ""
    of: str = "models"

    def __post_init__(self) -> None:
        if self.claim.lower() in names("claims"):  # reports write the papers' claims as "C9"
            object.__setattr__(self, "claim", self.claim.lower())
        words = {"outcome": OUTCOMES, "tokens": ("", "all", "cls", "patch"), "of": tuple(SCOPES)}

        def require(key: str) -> None:
            value, shown = getattr(self, key), [option for option in words[key] if option]
            if value not in words[key]:
                raise InputError(
                    f'The condition on {self.claim} says {key} "{value}": {nearest(value, shown)}'
                )

        do_all(require, words)

    @property
    def words(self) -> str:
        """The condition in words, such as "c1 holds (tokens cls)"."""
        about = [f"tokens {self.tokens}"] if self.tokens else []
        about += ["of objectives"] if self.of == "objectives" else []
        outcome = self.outcome if self.outcome.startswith("holds") else f"is {self.outcome}"
        return f"{self.claim} {outcome}" + (f" ({', '.join(about)})" if about else "")

    def list_analyses(self, claims: Sequence[OwnClaim]) -> tuple[str, ...]:
        """Return the analyses that the claim reads; without the first it is not judged.

        Args:
            claims: the claims of the study.

        Raises:
            InputError: there is no claim of this name; the nearest is offered.
        """
        own = {claim.name: claim for claim in claims}
        if self.claim in own:
            return (own[self.claim].table.partition("/")[0],)
        papers = [name for name in names("claims") if name != "advice"]
        if self.claim not in papers:
            raise InputError(
                f'There is no claim "{self.claim}": {nearest(self.claim, [*own, *papers])}'
            )
        return tuple(plugin("claims", self.claim).READS)

    def check(self, evidence: Evidence) -> Checked:
        """Hold the condition against what was judged.

        It holds if every verdict on the claim has the outcome, and does not hold if one has another
        outcome; it is undecided if one is undecided, and no other contradicts it.

        Raises:
            InputError: the claim was not judged, or not for these tokens; or what it needs is
                missing, so that it was not run.
        """
        own = [one for one in evidence.judged if one.claim == self.claim]
        if not own:
            if self.claim in names("claims"):
                reads = " or ".join(plugin("claims", self.claim).READS)
                raise InputError(
                    f"{self.claim} was not judged: the report has no results of {reads}, from which"
                    f" it is judged. Make it again with {reads} among its analyses."
                )
            there = dict.fromkeys(one.claim for one in evidence.judged)
            raise InputError(f'No claim "{self.claim}" was judged: {nearest(self.claim, there)}')
        chosen = [one for one in own if self.tokens in ("", one.tokens)]
        missing = [one for one in own if one.outcome == "not run"]
        if missing:
            raise InputError(
                f"{self.claim} cannot be checked, as it was not run: {missing[0].why}."
            )
        if not chosen:
            there = dict.fromkeys(one.tokens or "none" for one in own)
            raise InputError(
                f"{self.claim} was not judged for tokens {self.tokens}: there are"
                f" {', '.join(there)}."
            )
        answers = {self._answer(one) for one in chosen}
        order: tuple[Outcome, ...] = ("does not hold", "undecided", "holds")
        outcome = next(answer for answer in order if answer in answers)
        found = "; ".join(self._describe(one, evidence) for one in chosen)
        return Checked(self.words, outcome, found, {"verdicts": [one.numbers for one in chosen]})

    def _describe(self, one: Judged, evidence: Evidence) -> str:
        """The outcome for one choice of tokens, the difference that tells why, and the reason."""
        effect = one.choose_effect()
        if effect is None:
            return f"{one.phrase}, {one.why}"
        spelt = evidence.spell_effect(effect.difference, effect.kind)
        told = f"{one.phrase}, {effect.words} {spelt}"
        reasons = [effect.why]
        if one.outcome == self.outcome and self._answer(one) == "undecided":
            reasons.append("other trainings may differ, and the condition is on objectives")
        if len(one.effects) > 1:
            reasons.append(f"1 of {len(one.effects)} differences")
        reasons += one.caveats
        return f"{told} ({'; '.join(reasons)})"

    def _answer(self, one: Judged) -> Outcome:
        if one.outcome == "undecided":
            return "undecided"
        if one.outcome != self.outcome:
            return "does not hold"
        far_enough = self.of == "models" or one.scope == SCOPES["objectives"]
        return "holds" if far_enough else "undecided"

    def to_yaml(self) -> object:
        """Return the condition as an entry of a study file."""
        usual = ClaimCondition(self.claim)
        values = {key: value for key, value in vars(self).items() if value != getattr(usual, key)}
        return {"claim": self.claim, **values} if values else self.claim


@final
@dataclass(frozen=True)
class BoundCondition:
    """The condition that a number of a table lies beyond a bound.

    Attributes:
        place: where the number stands.
        at_least: a lower bound, in the units of the column; None without one.
        at_most: an upper bound; None without one.
    """

    place: Place
    at_least: float | None = None
    at_most: float | None = None

    @property
    def words(self) -> str:
        """The condition in words."""
        bounds = [
            f"{side} {getattr(self, key):g}"
            for key, side in SIDES.items()
            if getattr(self, key) is not None
        ]
        row = f" ({describe(self.place.where)})" if self.place.where else ""
        return f"{self.place.address} {self.place.column}{row} {' and '.join(bounds)}"

    def list_analyses(self, claims: Sequence[OwnClaim]) -> tuple[str, ...]:
        """Return the analysis that has the number."""
        return (self.place.analysis,)

    def check(self, evidence: Evidence) -> Checked:
        """Hold the number against its bounds; the condition holds if it holds for both.

        Raises:
            InputError: the number is not there, and the nearest spelling is offered; or several
                rows fit.
        """
        number = self.place.find(evidence.results)
        answers = [
            decide_bound(number, bound, side)
            for key, side in SIDES.items()
            if (bound := getattr(self, key)) is not None
        ]
        order: tuple[Outcome, ...] = ("does not hold", "undecided", "holds")
        outcome = next(answer for answer in order if answer in answers)
        supposed = f", {describe(number.supposed)} by default" if number.supposed else ""
        why = self._explain(number, outcome)
        found = f"{evidence.spell(number)}{supposed}{f' ({why})' if why else ''}"
        value = number.value
        numbers: dict[str, object] = {
            "analysis": self.place.analysis,
            "table": number.table,
            "column": self.place.column,
            "where": {**self.place.where, **number.supposed},
            "at_least": self.at_least,
            "at_most": self.at_most,
            "value": make_json_number(value.value),
            "low": make_json_number(value.low),
            "high": make_json_number(value.high),
            "over": value.over if number.interval else None,
            "n": value.n if number.interval else None,
            "why": why,
        }
        return Checked(self.words, outcome, found, numbers)

    def _explain(self, number: TableNumber, outcome: Outcome) -> str:
        """Why a number decides nothing; empty where it decides, or where its text says why."""
        value = number.value
        if outcome != "undecided" or not value.defined or value.low != value.low:
            return ""
        held = [
            bound
            for key in SIDES
            if (bound := getattr(self, key)) is not None and value.low <= bound <= value.high
        ]
        return f"the interval holds {held[0]:g}" if held else ""

    def to_yaml(self) -> object:
        """Return the condition as an entry of a study file."""
        bounds = {key: getattr(self, key) for key in SIDES if getattr(self, key) is not None}
        where = {"where": dict(self.place.where)} if self.place.where else {}
        return {self.place.address: {**where, "column": self.place.column, **bounds}}


Condition = ClaimCondition | BoundCondition


def parse_condition(value: object) -> Condition:
    """Read a condition from an entry of a study file.

    Args:
        value: the name of a claim, which then must hold; a mapping with the key `claim`; or a
            mapping from an analysis (with a table, as in "knn-depth/accuracies") to `column`,
            `where`, and `at_least` or `at_most`.

    Raises:
        InputError: it is none of these; or a key is unknown, and the nearest is offered.

    >>> parse_condition("c1").words
    'c1 holds'
    >>> bound = {"where": {"model": "mine"}, "column": "accuracy", "at_least": 0.7}
    >>> parse_condition({"knn-depth": bound}).words
    'knn-depth accuracy (model mine) at least 0.7'
    >>> parse_condition({"knn-depht": bound})
    Traceback (most recent call last):
    sslens.errors.InputError: There is no analysis "knn-depht": did you mean knn-depth?
    """
    if isinstance(value, str):
        return ClaimCondition(value)
    if not isinstance(value, Mapping) or not value:
        raise InputError(
            f"A condition is {value!r}: expected the name of a claim, or an analysis with a column"
            " and a bound."
        )
    if "claim" in value:
        _require_keys(value, CLAIM_KEYS, "condition on a claim")
        for key, text in value.items():
            if not isinstance(text, str):
                raise InputError(f"{key} of a condition on a claim is {text!r}: expected text.")
        return ClaimCondition(**value)
    if len(value) != 1:
        raise InputError(
            f"A condition has {len(value)} keys ({', '.join(map(str, value))}): expected one, an"
            " analysis, or the key claim."
        )
    ((address, body),) = value.items()
    return _parse_bound(str(address), body)


def _parse_bound(address: str, body: object) -> BoundCondition:
    what = f"condition on {address}"
    if not isinstance(body, Mapping):
        raise InputError(f"The {what} is {body!r}: expected column, where and a bound.")
    analysis = partial(require_analysis, address.partition("/")[0])
    keys = partial(_require_keys, body, BOUND_KEYS, what)
    do_all(lambda require: require(), (analysis, keys))
    if not isinstance(body.get("column"), str):
        raise InputError(f"The {what} does not say its column.")
    bounds: dict[str, float] = {}
    for key in SIDES:
        bound: Any = body.get(key)
        if bound is None:
            continue
        if isinstance(bound, bool) or not isinstance(bound, int | float) or bound != bound:
            raise InputError(f"{key} of the {what} is {bound!r}: expected a number.")
        bounds[key] = float(bound)
    if not bounds:
        raise InputError(f"The {what} has no bound: give at_least or at_most.")
    if len(bounds) == 2 and bounds["at_least"] > bounds["at_most"]:
        raise InputError(f"The {what} asks for more than its at_most: it can never hold.")
    for key, bound in bounds.items():
        if body["column"] in SHARES and abs(bound) > 1:
            raise InputError(
                f"{key} of the {what} is {bound:g}, and {body['column']} is a share of 1",
                mend=f"give {bound / 100:g} for {bound:g} %",
            )
    where: Where = require_where(body["where"], f"where of the {what}") if "where" in body else {}
    return BoundCondition(Place.parse(address, body["column"], where), **bounds)


def _require_keys(value: Mapping[Any, Any], known: Sequence[str], what: str) -> None:
    def require(key: object) -> None:
        if key not in known:
            raise InputError(f'The {what} has a key "{key}": {nearest(str(key), known)}')

    do_all(require, value)
