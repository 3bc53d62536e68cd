"""Which analyses a study carries out, and why others are left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import final

from sslens.comparisons.own_claims import OwnClaim
from sslens.comparisons.roles import list_names
from sslens.errors import InputError
from sslens.find import names, plugin
from sslens.study.contract import load_need, needs_of
from sslens.study.situation import Lack, Situation

#: where the reasons for all analyses that are left out stand
SAID = "{dry_run=True} says why each"


class Unmet(InputError):  # noqa: N818 (as KeyboardInterrupt)
    """An analysis that was asked for by name lacks something."""


@final
@dataclass(frozen=True)
class Choice:
    """The analyses that a study carries out.

    Attributes:
        analyses: the names of the chosen analyses.
        left_out: the reason for which each other analysis cannot show anything, by its name.
        notes: sentences about the left-out analyses for a reader of the report.
    """

    analyses: tuple[str, ...]
    left_out: Mapping[str, Lack] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def choose_analyses(situation: Situation) -> Choice:
    """Choose the analyses that were asked for, or else all that apply, except the costly ones.

    Raises:
        Unmet: an analysis that was asked for by name cannot be carried out.
        InputError: none can.
    """
    asked = situation.study.analyses
    chosen: list[str] = []
    lacks: dict[str, Lack] = {}
    for name in asked or names("analyses"):
        module = plugin("analyses", name)
        if not asked and _on_request(module, situation):
            continue
        lack = _lack(name, module, situation)
        if lack is None:
            chosen.append(name)
        elif asked:
            ending = "" if lack.mend else "."
            raise Unmet(f"{name} was asked for, but {lack.reason}{ending}", mend=lack.mend)
        else:
            lacks[name] = lack
    if not chosen:
        reasons = "; ".join(f"{name}: {lack.reason}" for name, lack in lacks.items())
        raise InputError(f"There is nothing to compute ({reasons}).")
    return Choice(tuple(chosen), lacks, tuple(_note(lacks)))


def _lack(name: str, module: ModuleType, situation: Situation) -> Lack | None:
    """Why an analysis cannot be carried out: the first of its needs that is unmet, or its own
    reason."""
    for need in needs_of(name):
        lack: Lack | None = load_need(need, name).unmet(situation)
        if lack is not None:
            return lack
    if not hasattr(module, "explain_absence"):
        return None
    reason = module.explain_absence(situation.models)
    return None if reason is None else Lack(reason)


def _on_request(module: ModuleType, situation: Situation) -> bool:
    if hasattr(module, "on_request"):
        return bool(module.on_request(situation.models))
    return bool(getattr(module, "ON_REQUEST", False))


def _note(lacks: Mapping[str, Lack]) -> list[str]:
    """A sentence a reason that a reader must know, with all analyses that were left out for it."""
    notes = []
    for reason in dict.fromkeys(lack.reason for lack in lacks.values() if lack.noted):
        left = [name for name, lack in lacks.items() if lack.noted and lack.reason == reason]
        listed = f"{', '.join(left[:-1])} and {left[-1]} were" if left[1:] else f"{left[0]} was"
        notes.append(f"{listed} left out: {reason}.")
    return notes


def describe_lacks(lacks: Mapping[str, Lack]) -> list[str]:
    """Write a line for each analysis that is left out: why, and what to do, with parameters in
    braces."""
    return [
        f"{name}: {lack.reason}{f' ({lack.mend})' if lack.mend else ''}"
        for name, lack in lacks.items()
    ]


def summarise_lacks(lacks: Mapping[str, Lack]) -> list[str]:
    """Write in one line how many analyses are left out, and how to have those that a user most
    likely wants: those of which the report tells the reason, or else that one thing would bring
    back several of.

    Args:
        lacks: the reason for each analysis that is left out.

    >>> few = Lack("the images have no classes", "give a folder a class", True)
    >>> odd = Lack("there is no MSN model among the models")
    >>> print(*summarise_lacks({"knn-depth": few, "agreement": few, "cka-msn": odd}))
    3 analyses: for knn-depth and agreement give a folder a class; {dry_run=True} says why each
    >>> print(*summarise_lacks({"cka-msn": odd}))
    1 analysis, which these models or images do not concern: {dry_run=True} says why each
    """
    if not lacks:
        return []
    noted = {name: lack for name, lack in lacks.items() if lack.noted and lack.mend}
    wanted: dict[str, list[str]] = {}
    for name, lack in (noted or lacks).items():
        if lack.mend:
            wanted.setdefault(lack.mend, []).append(name)
    count = f"{len(lacks)} {'analysis' if len(lacks) == 1 else 'analyses'}"
    mends = [
        f"for {list_names(group)} {mend}"
        for mend, group in wanted.items()
        if noted or len(group) > 1
    ]
    if not mends:
        return [f"{count}, which these models or images do not concern: {SAID}"]
    return [f"{count}: {'; '.join(mends)}; {SAID}"]


def require_claims(claims: Sequence[OwnClaim], choice: Choice) -> None:
    """Refuse claims about analyses that are not carried out, or about tables or columns that they
    do not have, before anything is computed.

    Raises:
        InputError: a claim cannot be judged; the nearest table or column is offered.
    """
    for claim in claims:
        for place in claim.list_places().values():
            if place.analysis not in choice.analyses:
                lack = choice.left_out.get(place.analysis)
                reason = f": {lack.reason}" if lack else ""
                raise InputError(
                    f'The claim "{claim.name}" reads {place.analysis}, which this study does not'
                    f" carry out{reason}",
                    mend="add it to {analyses}, or leave the claim out",
                )
            tables = getattr(plugin("analyses", place.analysis), "TABLES", None)
            if tables is not None:
                place.choose_table(tables)
