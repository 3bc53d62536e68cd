"""Sentences about the CKA of families of objectives."""

from collections.abc import Mapping, Sequence
from typing import Any

from sslens.comparisons.pairs import read_cka, read_contrast
from sslens.comparisons.parting import Parting, Point
from sslens.comparisons.parts import find_rows, make_beyond_part, tell_depths
from sslens.comparisons.roles import JE, REC, TOKENS
from sslens.comparisons.trainings import read_over_trainings
from sslens.counts import spell_count
from sslens.report.writing.numbers import compare, list_names, spell, spell_difference, spell_ends
from sslens.report.writing.similarity import REGRESSED
from sslens.statistics.estimate import SMALLEST, Contrast, Estimate
from sslens.table import Results


def write_scope(row: Mapping[str, Any], contrast: Contrast, kind: str = "cka") -> str:
    """Say whether a difference of families is about their objectives or only about these models, as
    the end of a sentence.

    Args:
        row: the row, with the columns `trainings.TRAININGS`.
        contrast: the difference with its interval over images.
        kind: the kind of number, a key of `SMALLEST`.
    """
    over = read_over_trainings(row, contrast)
    if over is None:
        return ", in these models"
    spelt = f"over trainings too {spell_ends(over.difference, kind)}"
    if over.difference.find_side(SMALLEST[kind]) in ("undecided", "too few"):
        return (
            f", in these models ({spelt}, of {spell_count(over.difference.n, 'training')} a side)"
        )
    return f", and {spelt}"


def write_disagreements(
    questions: Mapping[str, Mapping[str, Estimate]], members: str
) -> str | None:
    """Say in one sentence which differences have another sign over other tokens; None if none has.

    Args:
        questions: each difference over each choice of tokens, by its name.
        members: the models that it is about.

    >>> more, less = (Estimate(v, v - 0.1, v + 0.1, "minibatches", 32) for v in (0.3, -0.3))
    >>> write_disagreements({"fc1 against qkv": {"all": more, "cls": less}}, "mae, dino")
    'The sign depends on the tokens (mae, dino): fc1 against qkv is more over all tokens, less ...'
    """
    parts = []
    for name, by_tokens in questions.items():
        sides = {tokens: one.find_side(SMALLEST["cka"]) for tokens, one in by_tokens.items()}
        if {"more", "less"} <= set(sides.values()):
            told = ", ".join(f"{side} {TOKENS[tokens]}" for tokens, side in sides.items())
            parts.append(f"{name} is {told}")
    return f"The sign depends on the tokens ({members}): {'; '.join(parts)}." if parts else None


def write_families(results: Results, tokens: str, kind: str) -> str | None:
    """Write whether JE models are more like each other than like REC models, and from which depth
    on; None if there are no families."""
    rows = {row["model_b"]: row for row in find_rows(results, "families", tokens=tokens, kind=kind)}
    if not rows or any(row["cka"] != row["cka"] for row in rows.values()):
        return None
    own, other = rows[JE], rows[REC]
    contrast = read_contrast(own)
    sentence = (
        f"{JE} models with each other ({own['members']}): mean CKA at the same depth"
        f" {spell(read_cka(own))} {TOKENS[tokens]},"
        f" {compare(contrast.difference, f'{JE} with {REC} at {spell(read_cka(other))}')}"
        f"{write_scope(own, contrast)}"
    )
    beyond = make_beyond_part(own, "")
    if beyond is not None:
        against = compare(beyond.contrast.difference, f"{JE} with {REC}")
        sentence += f"; {REGRESSED} {against}{tell_depths(own)}"
    points = find_rows(results, "families-by-depth", tokens=tokens, kind=kind, model_b=JE)
    return f"{sentence}{write_parting(Parting.of(points))}."


def write_parting(parting: Parting) -> str:
    """Say from which depth on a difference stays above 0, and where it is reversed, as the end of a
    sentence; empty if it is above or below 0 at no depth."""
    parts = []
    if parting.first is not None:
        last = len(parting.points) - parting.points.index(parting.first) == 1
        where = "at the last depth only" if last else "and at every later depth"
        depth = f"relative depth {parting.first['depth']:.2f}"
        parts.append(f"more from {depth} on ({_spell(parting.first)}), {where}")
    elif parting.above:
        depths = _list_depths(parting.above)
        parts.append(f"more at relative depth {depths}, and not at every later depth")
    if parting.below:
        worst = min(parting.below, key=lambda row: float(row["difference"]))
        parts.append(
            f"less at relative depth {_list_depths(parting.below)}"
            f" ({_spell(worst)} at {worst['depth']:.2f})"
        )
    return "".join(f"; {part}" for part in parts)


def _spell(row: Point) -> str:
    return spell_difference(read_contrast(row).difference)


def _list_depths(rows: Sequence[Point]) -> str:
    return list_names([f"{row['depth']:.2f}" for row in rows])
