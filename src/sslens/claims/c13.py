"""C13: masked siamese networks are joint embedding (figure 15 of Shekhar et al., 2023)."""

from collections.abc import Mapping

from sslens.comparisons.parts import (
    find_row,
    judge_by_tokens,
    make_beyond_part,
    make_cka_part,
    split_members,
)
from sslens.comparisons.roles import JE, REC
from sslens.statistics.verdicts import Quotation, Verdict, reach_verdict
from sslens.table import Results

WORDS = "A masked siamese network is like joint embedding, and not like reconstruction."
SHORT = "A masked siamese network is like JE, and not like REC"
PAPERS = (
    Quotation(
        "pre-trained MSN representations are much more similar to pre-trained JE representations"
        " (DINO, MoCo-V3) than REC representation (MAE)",
        "2023, appendix H",
    ),
)
READS = ("cka-msn",)


def judge(results: Mapping[str, Results]) -> tuple[Verdict, ...]:
    """Judge whether pre-trained MSN has a higher CKA with JE models than with REC models, and where
    it is defined also with the pixels' Gram regressed out.

    Args:
        results: the results of the analyses that ran, by the analysis' name.

    Returns:
        One verdict for each choice of tokens; a single verdict "not run" without the models.
    """
    lacking = f"it needs pre-trained MSN, another {JE} model and a {REC} model"
    return judge_by_tokens("c13", results.get(READS[0]), "families", _judge_tokens, lacking)


def _judge_tokens(msn: Results, tokens: str) -> Verdict | None:
    """The verdict over one choice of tokens; None where MSN does not have them."""
    row = find_row(msn, "families", tokens=tokens, model_a="MSN", model_b=JE)
    if row is None:
        return None
    label = "at the same depth"
    beyond = make_beyond_part(row, f"{label}, pixels regressed out,")
    parts = [make_cka_part(row, label), *([] if beyond is None else [beyond])]
    members = split_members(row["members"], "MSN")
    return reach_verdict("c13", parts, members=members, tokens=tokens)
