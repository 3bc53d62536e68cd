"""The verdicts of a study's results on all claims, as a table and in sentences."""

import importlib
from collections.abc import Mapping, Sequence

from sslens.find import names, plugin
from sslens.statistics.estimate import Verdict
from sslens.table import Results, Table

UNITS = {
    "claim": "name of the claim",
    "tokens": "the choice of tokens that the verdict is about; empty where it is about none",
    "outcome": "holds, contradicted, undecided or not run",
    "a": "what the claim says is larger or smaller",
    "b": "what is subtracted",
    "difference": "a less b, in the units of the analysis that the claim reads",
    "difference_low": "lower end of its 95 % interval",
    "difference_high": "upper end",
    "over": "what was resampled for the interval: minibatches, images or trainings",
    "n": "how many of these there are",
    "why": "what decided, or what is missing",
}


def judge_all(results: Mapping[str, Results]) -> tuple[Verdict, ...]:
    """Collect the verdicts on all claims, in the order of the claims' names.

    A claim has no verdicts if none of the analyses that it reads ran.

    Args:
        results: the results of the analyses that ran, by the analysis' name.
    """
    claims = [plugin("claims", name) for name in names("claims")]
    answers = [claim.judge(results) for claim in claims if set(claim.READS) & set(results)]
    return tuple(one for answer in answers for one in answer if isinstance(one, Verdict))


def make_table(verdicts: Sequence[Verdict]) -> Table:
    """Make a table with one row per verdict; numbers are empty in a verdict that was not run."""
    import pandas as pd

    rows = []
    for verdict in verdicts:
        row: dict[str, str | float] = {"claim": verdict.claim, "tokens": verdict.tokens}
        row["outcome"] = verdict.outcome
        if verdict.contrast is not None:
            difference = verdict.contrast.difference
            row |= {"a": verdict.contrast.a, "b": verdict.contrast.b}
            row |= {
                "difference": difference.value,
                "difference_low": difference.low,
                "difference_high": difference.high,
                "over": difference.over,
                "n": difference.n,
            }
        rows.append(row | {"why": verdict.why})
    return Table(pd.DataFrame(rows, columns=list(UNITS)), UNITS)


def write_verdicts(verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    """Write one sentence for each verdict, in the order of the verdicts."""
    sentences: list[str] = []
    for name in dict.fromkeys(verdict.claim for verdict in verdicts):
        module = importlib.import_module(f"sslens.report.writing.{name.replace('-', '_')}")
        sentences += module.sentences([one for one in verdicts if one.claim == name])
    return tuple(sentences)
