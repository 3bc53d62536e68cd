"""The verdicts of a study's results on all claims, as a table and in sentences."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

from sslens.comparisons.naming import SideNames, rename_sides
from sslens.comparisons.own_claims import OwnClaim
from sslens.comparisons.parts import refuse
from sslens.find import names, plugin
from sslens.report.writing.claims import write_claim
from sslens.report.writing.numbers import spell_effect
from sslens.statistics.verdicts import Part, Scope, Verdict
from sslens.table import Results, Table

NAN = float("nan")
#: why a claim has no verdict where a study names groups of models
NO_GROUPS = "it is about objectives of the papers, and the study names groups of models"
UNITS = {
    "claim": "name of the claim",
    "tokens": "the choice of tokens that the verdict is about; empty where it is about none",
    "outcome": (
        "of the whole claim: holds, contradicted, the same (too small for a word), in part (some"
        " of its differences agree with it and others do not), undecided or not run; in these"
        " models, where the intervals are over images, or of these objectives, where they are over"
        " images and trainings"
    ),
    "part": "which of the claim's differences the row is about",
    "a": "what the claim says is larger or smaller",
    "b": "what is subtracted",
    "effect": "a less b, in the units of the analysis that the claim reads",
    "low": "lower end of its 95 % interval",
    "high": "upper end",
    "paired": (
        "whether a and b are of the same draws; where not, low and high are of two intervals that"
        " must not overlap, or of trainings"
    ),
    "together": "differences whose intervals hold at once, each wider for it; 1 where it is alone",
    "over": "what was resampled for the interval: minibatches, images or trainings",
    "n": "how many of these there are",
    "trainings_low": "lower end of the interval over images and trainings, where there is one",
    "trainings_high": "upper end",
    "trainings": "trainings of the side that has the fewest; empty if they were not resampled",
    "level": (
        "what the outcome rests on: images, so that it is about the models under study; or images"
        " and trainings, so that it is about objectives; empty where nothing is decided"
    ),
    "smallest": "the smallest difference worth a word, in the units of the effect",
    "kind": "what the effect is a difference of: accuracy, ap (both shares of 1), cka and so on",
    "strength": (
        "of the whole claim: by how many smallest differences the interval's nearer end is away"
        " from 0; 0 where nothing is decided"
    ),
    "published": "the same difference as the papers print it, in the units of the effect",
    "papers": "what the papers say, letter by letter, with the place and the numbers printed there",
    "controls": (
        "the same difference of controls, or levels to compare with; or where in the claim a"
        " control is; none, where there is none"
    ),
    "reversed_with": (
        "ways of measuring the same difference, such as with the pixels regressed out, by which it"
        " is clearly the reverse; empty where there are none"
    ),
    "answer": "what the difference of the row says of the claim: holds, contradicted and so on",
    "caveats": (
        "what speaks against the outcome and is none of the differences: ways of measuring by which"
        " one is reversed or not seen, depths at which it is reversed, and a yardstick that shows"
        " as much"
    ),
    "members": "the models that took part",
    "why": "what decided, or what is missing",
}


#: what a verdict rests on, by its scope
LEVELS = {"in these models": "images", "of these objectives": "images and trainings"}


def order_naturally(name: str) -> tuple[str, int]:
    """The key by which c2 comes before c10.

    >>> sorted(["c10", "c2", "advice"], key=order_naturally)
    ['advice', 'c2', 'c10']
    """
    letters, digits = re.fullmatch(r"(.*?)(\d*)", name).groups()  # type: ignore[union-attr]
    return letters, int(digits or 0)


def judge_all(
    results: Mapping[str, Results],
    own: Sequence[OwnClaim] = (),
    sides: SideNames | None = None,
) -> tuple[Verdict, ...]:
    """Collect the verdicts on all claims: first on the papers', in the order of their numbers, then
    on the user's own.

    A claim of the papers has no verdicts if none of the analyses that it reads ran. If the study
    names groups of models, the claims about two families are about these groups, and the others are
    not run.

    Args:
        results: the results of the analyses that ran, by the analysis' name.
        own: the user's own claims.
        sides: the names of the groups; None if the study names none.

    Raises:
        InputError: a claim of the user is about a table, a column or a value that is not there.
    """
    claims = {name: plugin("claims", name) for name in sorted(names("claims"), key=order_naturally)}
    verdicts = [
        _complete(claim, verdict, sides)
        for claim in claims.values()
        if set(claim.READS) & set(results)
        for verdict in claim.judge(results)
        if isinstance(verdict, Verdict)
    ]
    if own:
        shown = {name: rename_sides(sides, one) for name, one in results.items()}
        verdicts += [claim.judge(shown) for claim in own]
    return tuple(verdicts)


def _complete(claim: ModuleType, verdict: Verdict, sides: SideNames | None) -> Verdict:
    """A verdict with the claim in words, and with what the papers say of it or the names of the
    groups."""
    if sides is None:
        return replace(verdict, words=claim.WORDS, short=claim.SHORT, papers=claim.PAPERS)
    if not hasattr(claim, "GROUP_WORDS"):
        return replace(refuse(verdict.claim, NO_GROUPS), words=claim.WORDS, short=claim.SHORT)
    words = claim.GROUP_WORDS.format(a=sides.first, b=sides.second)
    parts = tuple(replace(part, published=None) for part in verdict.parts)
    short = getattr(claim, "GROUP_SHORT", claim.SHORT)
    return replace(sides.rename(replace(verdict, parts=parts, short=short)), words=words)


def make_table(verdicts: Sequence[Verdict]) -> Table:
    """Make a table with a row for each difference of each verdict, the most important one first;
    numbers are empty in a verdict that was not run."""
    import pandas as pd

    rows = []
    for verdict in verdicts:
        row: dict[str, Any] = {
            "claim": verdict.claim,
            "tokens": verdict.tokens,
            "outcome": verdict.phrase,
            "part": "",
            "a": "",
            "b": "",
            "over": "",
            "kind": "",
            "level": LEVELS.get(verdict.scope, ""),
            "strength": verdict.strength if verdict.parts else NAN,
            "papers": "; ".join(map(str, verdict.papers)),
            "controls": _write_controls(verdict),
            "reversed_with": "; ".join(verdict.reversed_by),
            "answer": "",
            "caveats": "; ".join(verdict.caveats),
            "members": "; ".join(
                f"{group}: {', '.join(models)}" for group, models in (verdict.members or {}).items()
            ),
            "why": "; ".join(filter(None, (verdict.why, verdict.limit))),
        }
        rows += [row | _fill_part(part, verdict.scope) for part in verdict.parts] or [row]
    return Table(pd.DataFrame(rows, columns=list(UNITS)), UNITS)


def _write_controls(verdict: Verdict) -> str:
    """Write the controls of a verdict, or that it has none; empty if it was not run."""
    if not verdict.parts:
        return ""
    told = [
        f"{one.a} less {one.b} {spell_effect(one.difference, verdict.parts[0].kind)}"
        for one in verdict.controls
    ]
    return "; ".join(told) or name_control(verdict.claim) or "none"


def name_control(claim: str) -> str:
    """Name what stands in place of a control among the differences of a claim; empty if nothing
    does.

    >>> name_control("c9")
    'fine-tuned random weights, in its second difference'
    """
    if claim not in names("claims"):
        return ""
    named: str = getattr(plugin("claims", claim), "CONTROL", "")
    return named


def _fill_part(part: Part, scope: Scope) -> dict[str, Any]:
    """The columns of one difference."""
    contrast = part.contrast
    row: dict[str, Any] = {"part": part.label, "a": contrast.a, "b": contrast.b}
    row["answer"] = part.choose_answer(scope)
    row |= contrast.difference.columns("effect", ends=("low", "high"))
    row |= {"paired": contrast.paired, "together": contrast.together}
    row |= {"over": contrast.difference.over, "n": contrast.difference.n}
    row |= {"smallest": part.smallest, "kind": part.kind}
    row |= {"published": NAN if part.published is None else part.published}
    row |= {"trainings": NAN if part.count is None else part.count}
    if part.trainings is not None:
        difference = part.trainings.difference
        row |= {"trainings_low": difference.low, "trainings_high": difference.high}
        row["trainings"] = difference.n
    return row


def write_verdicts(verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    """Write one sentence for each claim, in the order of the verdicts."""
    by_claim: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        by_claim.setdefault(verdict.claim, []).append(verdict)
    return tuple(
        write_claim(several[0].words or plugin("claims", name).WORDS, several)
        for name, several in by_claim.items()
    )
