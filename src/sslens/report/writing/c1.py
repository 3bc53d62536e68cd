"""Sentences about claim C1."""

from collections.abc import Sequence

from sslens.claims.c1 import TABLES, WORDS
from sslens.comparisons.roles import TOKENS
from sslens.report.writing.numbers import spell_difference
from sslens.statistics.estimate import Verdict


def sentences(verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    """Write one sentence for each verdict."""
    return tuple(_write(verdict) for verdict in verdicts)


def _write(verdict: Verdict) -> str:
    """Write the claim, its outcome, the differences, and the control's differences."""
    where = f", {TOKENS[verdict.tokens]}" if verdict.tokens else ""
    head = f"C1{where}, {verdict.outcome}: {WORDS}"
    if verdict.contrast is None:
        return f"{head} Here {verdict.why}."
    first, *rest = TABLES.values()
    contrasts = (verdict.contrast, *verdict.others)
    parts = [
        f"{over} {spell_difference(contrast.difference)}"
        for over, contrast in zip((first, *rest), contrasts, strict=True)
    ]
    control = "".join(
        f"; between random initialisations of the same architectures {first}"
        f" {spell_difference(contrast.difference)}"
        for contrast in verdict.controls
    )
    return (
        f"{head} CKA of {verdict.contrast.a} less {verdict.contrast.b} {', '.join(parts)}{control}."
    )
