"""C18: blocks of correspondence: the first quarter of reconstruction is like the first half of
joint embedding (section 2.1 of Shekhar et al., 2022)."""

from collections.abc import Mapping

from sslens.comparisons.pairs import read_contrast
from sslens.comparisons.parts import (
    find_rows,
    judge_by_tokens,
    list_beyond,
    list_members,
    make_cka_part,
    refuse,
    tell_as_much,
)
from sslens.comparisons.roles import JE, REC
from sslens.statistics.verdicts import Quotation, Verdict, reach_verdict
from sslens.table import Results

WORDS = (
    "The first quarter of a reconstruction model's blocks is like the first half of joint"
    " embedding's, rather than like its second half."
)
GROUP_WORDS = (
    "The first quarter of the blocks of {b} is like the first half of the blocks of {a}, rather"
    " than like their second half."
)
SHORT = "The first quarter of REC is like the first half of JE"
PAPERS = (
    Quotation(
        "the first quarter of MAE layers are similar to the first half of layers in MoCo-V3 and"
        " DINO",
        "2022, section 2.1",
    ),
)
READS = ("cka-blocks",)


def judge(results: Mapping[str, Results]) -> tuple[Verdict, ...]:
    """Judge whether the first quarter of REC has a higher mean CKA with the first half of JE than
    with its second half.

    Near depths are alike in most pairs of models, so the same difference of JE with JE stands
    beside it, and what is left with the pixels' Gram regressed out. Where JE with JE shows as much,
    the verdict says so: the difference is then no matter of REC.

    Args:
        results: the results of the analyses that ran, by the analysis' name.

    Returns:
        One verdict for each choice of tokens; a single verdict "not run" without both families.
    """
    lacking = f"it needs a pre-trained {REC} and a pre-trained {JE} transformer"
    return judge_by_tokens(
        "c18", results.get(READS[0]), "families-quarters", _judge_tokens, lacking
    )


def _judge_tokens(blocks: Results, tokens: str) -> Verdict | None:
    """The verdict over one choice of tokens; None where there is no REC model with them."""
    rows = find_rows(blocks, "families-quarters", tokens=tokens)
    members = list_members(blocks, tokens)
    own = [row for row in rows if row["model_a"].startswith(REC)]
    if not own:
        return None
    if own[0]["difference"] != own[0]["difference"]:
        return refuse("c18", "CKA of the first quarter is undefined", members, tokens)
    yardsticks = [read_contrast(row) for row in rows if row["model_a"].startswith(JE)]
    part = make_cka_part(own[0], "")
    return reach_verdict(
        "c18",
        [part],
        members=members,
        controls=[*yardsticks, *list_beyond(own)],
        tokens=tokens,
        caveats=tell_as_much([(part, one) for one in yardsticks]),
    )
