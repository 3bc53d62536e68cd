"""Verdicts on claims in sentences: all claims are written in the same way, each in one line."""

from collections.abc import Sequence

from sslens.comparisons.roles import TOKENS
from sslens.counts import spell_count
from sslens.report.writing.numbers import (
    bracket,
    explain_width,
    spell_effect,
    spell_ends,
    spell_over,
)
from sslens.statistics.estimate import Estimate
from sslens.statistics.verdicts import Part, Quotation, Verdict

#: outcomes as predicates of a claim
PREDICATES = {
    "contradicted": "is contradicted",
    "the same": "is not seen, the two being the same,",
    "in part": "holds in part",
    "undecided": "is undecided",
    "not run": "is not run",
}


def write_claim(words: str, verdicts: Sequence[Verdict]) -> str:
    """Write the claim, what became of it for each choice of tokens, and the differences.

    If the outcome is the same for all choices of tokens, it is said once. Else the line says for
    which tokens the claim holds and for which it does not.

    Args:
        words: the claim in words, with a full stop.
        verdicts: the verdicts on this claim, at least one.
    """
    sentences = [
        f"{verdicts[0].label} {_write_outcomes(verdicts).rstrip(',')}: {words}",
        *(_write_verdict(verdict) for verdict in verdicts),
        *_write_basis(verdicts),
        *_write_papers(verdicts[0].papers),
    ]
    return " ".join(sentences)


def _write_outcomes(verdicts: Sequence[Verdict]) -> str:
    """Write the outcome, or the outcome of each choice of tokens where they differ."""
    predicates = [_make_predicate(verdict) for verdict in verdicts]
    if len(set(predicates)) == 1:
        return predicates[0]
    placed = [
        f"{predicate} {TOKENS[verdict.tokens]}" if verdict.tokens else predicate
        for verdict, predicate in zip(verdicts, predicates, strict=True)
    ]
    return f"{', '.join(placed[:-1])} and {placed[-1]}"


def _make_predicate(verdict: Verdict) -> str:
    outcome = PREDICATES.get(verdict.outcome, verdict.outcome)
    caveats = "".join(f", {clause}" for clause in verdict.caveats)
    return f"{outcome} {verdict.scope}".strip() + (f"{caveats}," if caveats else "")


def _write_verdict(verdict: Verdict) -> str:
    """Write the differences over one choice of tokens, with the reason where nothing is decided; or
    what is missing."""
    where = TOKENS.get(verdict.tokens, "")
    if not verdict.parts:
        return _begin(f"{where or 'here'} {verdict.why}.")
    parts = "; ".join(_write_part(part) for part in verdict.parts)
    kind = verdict.parts[0].kind
    beside = [
        f"{one.a} less {one.b} {spell_effect(one.difference, kind)}" for one in verdict.controls
    ]
    controls = f"; beside it {', '.join(beside)}" if beside else ""
    open_parts = [part.why for part in verdict.parts if part.answer == "undecided"]
    because = ""
    if verdict.outcome == "undecided":
        because = f"; not decided, for {', and '.join(open_parts)}"
    return _begin(f"{where + ': ' if where else ''}{parts}{controls}{because}.")


def _write_part(part: Part) -> str:
    """Write a difference with its interval over images, and over trainings where there is one."""
    label = f"{part.label} " if part.label else ""
    contrast = part.contrast
    spelt = spell_effect(contrast.difference, part.kind)
    text = f"{label}{contrast.a} less {contrast.b} {spelt}{bracket(explain_width(contrast))}"
    if part.published is not None:
        text += f" (the papers {spell_effect(Estimate(part.published), part.kind)})"
    if part.trainings is not None:
        over = part.trainings.difference
        few = f" ({spell_count(over.n, 'training')} a side)" if over.sign is None else ""
        text += f", over trainings too {spell_ends(over, part.kind)}{few}"
    return text


def _write_basis(verdicts: Sequence[Verdict]) -> list[str]:
    """Write what the intervals are over, why nothing is concluded about objectives, and which
    models took part; nothing if no verdict was run."""
    judged = [verdict for verdict in verdicts if verdict.parts]
    if not judged:
        return []
    over = spell_over(judged[0].parts[0].contrast.difference)
    limits = list(dict.fromkeys(verdict.limit for verdict in judged if verdict.limit))
    basis = f"Intervals are over {over}"
    basis += f", and of other trainings nothing is said: {limits[0]}." if limits else "."
    groups = [f"{group}: {', '.join(names)}" for group, names in (judged[0].members or {}).items()]
    return [basis, f"Models: {'; '.join(groups)}."]


def _write_papers(papers: Sequence[Quotation]) -> list[str]:
    """Write what the papers say of the claim, with the numbers that they print."""
    return [f"The papers: {'; '.join(map(str, papers))}."] if papers else []


def _begin(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]
