"""C21: a fine-tuned masked siamese network stays like joint embedding (figure 16 of Shekhar et al.,
2023)."""

from collections.abc import Mapping

from sslens.comparisons.pairs import read_contrast
from sslens.comparisons.parts import (
    find_rows,
    judge_by_tokens,
    list_beyond,
    make_cka_part,
    split_members,
)
from sslens.comparisons.roles import JE
from sslens.statistics.verdicts import Quotation, Verdict, reach_verdict
from sslens.table import Results

WORDS = "A masked siamese network stays like joint embedding when it is fine-tuned."
SHORT = "A masked siamese network stays like JE when it is fine-tuned"
PAPERS = (
    Quotation(
        "Fine-tuned MSN models continue to remain similar to pre-trained and fine-tuned JE ViTs,"
        " as well as fine-tuned REC ViTs",
        "2023, appendix H",
    ),
)
READS = ("cka-msn",)
TUNED = "fine-tuned MSN"


def judge(results: Mapping[str, Results]) -> tuple[Verdict, ...]:
    """Judge whether fine-tuned MSN has a higher CKA with JE models than with REC models, all
    pre-trained.

    Beside it stand the same difference with fine-tuned JE and REC models, as far as there are such,
    the same of pre-trained MSN, and what is left with the pixels' Gram regressed out.

    Args:
        results: the results of the analyses that ran, by the analysis' name.

    Returns:
        One verdict for each choice of tokens; a single verdict "not run" without the models.
    """
    lacking = f"it needs a fine-tuned MSN, and {JE} and reconstruction models"
    return judge_by_tokens("c21", results.get(READS[0]), "families", _judge_tokens, lacking)


def _judge_tokens(msn: Results, tokens: str) -> Verdict | None:
    """The verdict over one choice of tokens; None where there is no fine-tuned MSN with them."""
    rows = [
        row
        for row in find_rows(msn, "families", tokens=tokens)
        if row["difference"] == row["difference"]
    ]
    own = [row for row in rows if row["model_a"] == TUNED and row["model_b"] == JE]
    if not own:
        return None
    # the papers find fine-tuned MSN like fine-tuned reconstruction too
    beside = [read_contrast(row) for row in rows if row["model_b"] != JE]
    beside += [read_contrast(row) for row in rows if row["model_a"] == "MSN"]
    beside += list_beyond(own)
    return reach_verdict(
        "c21",
        [make_cka_part(row, "") for row in own],
        controls=beside,
        members=split_members(own[0]["members"], "MSN"),
        tokens=tokens,
    )
