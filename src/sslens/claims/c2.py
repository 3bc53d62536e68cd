"""C2: the differences between joint embedding and reconstruction arise early (section 2.1 of
Shekhar et al., 2022; figure 1 of 2023)."""

from collections.abc import Mapping

from sslens.comparisons.parting import Parting, make_parting_parts
from sslens.comparisons.parts import (
    find_rows,
    judge_by_tokens,
    list_beyond,
    list_members,
    refuse,
)
from sslens.comparisons.roles import JE, REC
from sslens.statistics.verdicts import Quotation, Verdict, reach_verdict
from sslens.table import Results

WORDS = "The differences between joint embedding and reconstruction arise early in the network."
GROUP_WORDS = "The differences between {a} and {b} arise early in the network."
SHORT = "JE and REC part early in the network"
PAPERS = (
    Quotation(
        "differences start to arise early in the architecture",
        "2022, section 1",
    ),
    Quotation(
        "These differences arise early in the network",
        "2023, section 1",
    ),
)
READS = ("cka-blocks",)


def judge(results: Mapping[str, Results]) -> tuple[Verdict, ...]:
    """Judge whether JE–REC falls under JE–JE in the first half of the depths, and stays there.

    It reads CKA at the same depth of JE models with each other less that of JE with REC, with
    intervals that hold at all depths at once. The claim holds if there is a relative depth of 0.5
    or less from which the difference is above 0, by 0.02 or more, at every later depth. Its first
    part is the first such depth (without one, the early depth with the largest difference), its
    second part the smallest difference at any later depth. Reversals are said. Beside it stands
    what is left at the first depth with the pixels' Gram regressed out.

    Args:
        results: the results of the analyses that ran, by the analysis' name.

    Returns:
        One verdict for each choice of tokens; a single verdict "not run" without families.
    """
    lacking = f"it needs pre-trained {JE} models of two objectives and a pre-trained {REC} model"
    return judge_by_tokens("c2", results.get(READS[0]), "families-by-depth", _judge_tokens, lacking)


def _judge_tokens(blocks: Results, tokens: str) -> Verdict:
    """The verdict over one choice of tokens."""
    rows = find_rows(blocks, "families-by-depth", tokens=tokens, model_b=JE)
    members = list_members(blocks, tokens)
    parts, reversals = make_parting_parts(rows)
    if not parts:
        return refuse("c2", "no depth in the first half is defined", members, tokens)
    first = Parting.of([row for row in rows if row["difference"] == row["difference"]]).first
    controls = list_beyond([first] if first is not None else [])
    caveats = (reversals,) if reversals else ()
    return reach_verdict(
        "c2", parts, members=members, controls=controls, tokens=tokens, caveats=caveats
    )
