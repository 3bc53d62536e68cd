"""The verdicts of a study's results on all claims, as a table and in sentences."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sslens.find import names, plugin
from sslens.report.writing.claims import write_claim
from sslens.report.writing.numbers import spell_effect
from sslens.statistics.verdicts import Part, Verdict
from sslens.table import Results, Table

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
    "over": "what was resampled for the interval: minibatches, images or trainings",
    "n": "how many of these there are",
    "trainings_low": "lower end of the interval over images and trainings, where there is one",
    "trainings_high": "upper end",
    "trainings": "trainings of the side that has the fewest",
    "controls": "the same difference of controls, or levels to compare with",
    "members": "the models that took part",
    "why": "what decided, or what is missing",
}


def order_naturally(name: str) -> tuple[str, int]:
    """The key by which c2 comes before c10.

    >>> sorted(["c10", "c2", "advice"], key=order_naturally)
    ['advice', 'c2', 'c10']
    """
    letters, digits = re.fullmatch(r"(.*?)(\d*)", name).groups()  # type: ignore[union-attr]
    return letters, int(digits or 0)


def judge_all(results: Mapping[str, Results]) -> tuple[Verdict, ...]:
    """Collect the verdicts on all claims, in the order of the claims' numbers.

    A claim has no verdicts if none of the analyses that it reads ran.

    Args:
        results: the results of the analyses that ran, by the analysis' name.
    """
    claims = [plugin("claims", name) for name in sorted(names("claims"), key=order_naturally)]
    answers = [claim.judge(results) for claim in claims if set(claim.READS) & set(results)]
    return tuple(one for answer in answers for one in answer if isinstance(one, Verdict))


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
            "controls": "; ".join(
                f"{one.a} less {one.b} {spell_effect(one.difference, verdict.parts[0].kind)}"
                for one in verdict.controls
            ),
            "members": "; ".join(
                f"{group}: {', '.join(models)}" for group, models in (verdict.members or {}).items()
            ),
            "why": "; ".join(filter(None, (verdict.why, verdict.limit))),
        }
        rows += [row | _fill_part(part) for part in verdict.parts] or [row]
    return Table(pd.DataFrame(rows, columns=list(UNITS)), UNITS)


def _fill_part(part: Part) -> dict[str, Any]:
    """The columns of one difference."""
    contrast = part.contrast
    row: dict[str, Any] = {"part": part.label, "a": contrast.a, "b": contrast.b}
    row |= contrast.difference.columns("effect", ends=("low", "high"))
    row |= {"over": contrast.difference.over, "n": contrast.difference.n}
    if part.trainings is not None:
        difference = part.trainings.difference
        row |= {"trainings_low": difference.low, "trainings_high": difference.high}
        row["trainings"] = difference.n
    return row


def write_verdicts(verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    """Write one sentence for each claim, in the order of the verdicts."""
    return tuple(
        write_claim(plugin("claims", name).WORDS, [one for one in verdicts if one.claim == name])
        for name in dict.fromkeys(verdict.claim for verdict in verdicts)
    )
