"""C2: the differences between joint embedding and reconstruction arise early (section 2.1 of
Shekhar et al., 2022; figure 1 of 2023)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sslens.comparisons.pairs import read_contrast
from sslens.comparisons.panels import list_tokens_in
from sslens.comparisons.parting import Parting, Point
from sslens.comparisons.parts import find_rows, list_members, make_cka_part, refuse
from sslens.comparisons.roles import JE, REC
from sslens.comparisons.trainings import read_over_trainings
from sslens.statistics.estimate import Contrast
from sslens.statistics.verdicts import Verdict, reach_verdict
from sslens.table import Results

WORDS = "The differences between joint embedding and reconstruction arise early in the network."
READS = ("cka-blocks",)
#: the largest relative depth that is called early
EARLY = 0.5


def judge(results: Mapping[str, Results]) -> tuple[Verdict, ...]:
    """Judge whether JE–REC falls under JE–JE in the first half of the depths, and stays there.

    It reads CKA at the same depth of JE models with each other less that of JE with REC, with
    intervals that hold at all depths at once. The claim holds if there is a relative depth of 0.5
    or less from which the difference is above 0, by 0.02 or more, at every later depth. Its first
    part is the first such depth (without one, the early depth with the largest difference), its
    second part the smallest difference at any later depth. Reversals are said.

    Args:
        results: the results of the analyses that ran, by the analysis' name.

    Returns:
        One verdict for each choice of tokens; a single verdict "not run" without families.
    """
    if READS[0] not in results:
        return ()
    blocks = results[READS[0]]
    if "families-by-depth" not in blocks:
        why = f"it needs pre-trained {JE} models of two objectives and a pre-trained {REC} model"
        return (refuse("c2", why, list_members(blocks)),)
    return tuple(
        _judge_tokens(blocks, tokens) for tokens in list_tokens_in(blocks["families-by-depth"])
    )


def _judge_tokens(blocks: Results, tokens: str) -> Verdict:
    """The verdict over one choice of tokens."""
    rows = find_rows(blocks, "families-by-depth", tokens=tokens, model_b=JE)
    parting = Parting.of([row for row in rows if row["difference"] == row["difference"]])
    early = [row for row in parting.points if row["depth"] <= EARLY]
    members = list_members(blocks, tokens)
    if not early:
        return refuse("c2", "no depth in the first half is defined", members, tokens)
    start = parting.first if parting.first in early else max(early, key=_difference)
    parts = [make_cka_part(start, f"at relative depth {start['depth']:.2f}")]
    later = [row for row in parting.points if row["depth"] > start["depth"]]
    if later:
        least = min(later, key=_difference)
        label = f"at {least['depth']:.2f}, the least of all later depths,"
        parts.append(replace(make_cka_part(least, label), trainings=_find_least_sure(later)))
    reversals = ", ".join(f"{row['depth']:.2f}" for row in parting.below)
    why = f"it is reversed at relative depth {reversals}" if reversals else ""
    return reach_verdict("c2", parts, members=members, tokens=tokens, why=why)


def _difference(row: Point) -> float:
    return float(row["difference"])


def _find_least_sure(later: Sequence[Point]) -> Contrast | None:
    """The difference with the lowest end of its interval over images and trainings; None if there
    are no such intervals."""
    over = [read_over_trainings(row, read_contrast(row)) for row in later]
    known = [contrast for contrast in over if contrast is not None]
    return min(known, key=lambda one: one.difference.low) if len(known) == len(over) else None
