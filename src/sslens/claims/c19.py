"""C19: in fine-tuning fc1 becomes more alike early and less alike late, and late blocks of two
fine-tuned models part (section 2.5 and figure 6 of Shekhar et al., 2022)."""

from collections.abc import Mapping
from dataclasses import replace

from sslens.comparisons.parts import (
    find_rows,
    judge_by_tokens,
    list_beyond,
    make_cka_part,
    refuse,
    split_members,
)
from sslens.comparisons.roles import JE, REC
from sslens.statistics.verdicts import Quotation, Verdict, reach_verdict
from sslens.table import Results

WORDS = (
    "Fine-tuning reconstruction makes its fc1 more like joint embedding's in early and middle"
    " blocks and less like it in late ones, and where both are fine-tuned their late blocks part."
)
GROUP_WORDS = (
    "Fine-tuning {b} makes its fc1 more like the fc1 of {a} in early and middle blocks and less"
    " like it in late ones, and where both are fine-tuned their late blocks part."
)
SHORT = "Fine-tuning makes fc1 of REC like JE's early, and less so late"
PAPERS = (
    Quotation(
        "become more similar only in the initial and intermediate layers, but become more"
        " dissimilar in the later layers",
        "2022, section 2.5",
    ),
    Quotation(
        "This correspondence remains after fine-tuning MoCo-V3 except in later layers",
        "2022, section 2.5",
    ),
)
READS = ("cka-finetune",)
#: the sign that the claim expects, by kind of tap and part of the depths
EXPECTED: Mapping[tuple[str, str], int] = {
    ("fc1", "the first two thirds"): 1,
    ("fc1", "the last third"): -1,
    ("block", "the last third"): -1,
}


def judge(results: Mapping[str, Results]) -> tuple[Verdict, ...]:
    """Judge the change of CKA with JE by fine-tuning, early and late.

    The claim says that the CKA of fc1 of REC with that of pre-trained JE rises in the first two
    thirds of the depths and falls in the last third; and that in the blocks of the last third
    fine-tuned REC has a lower CKA with fine-tuned JE than with pre-trained JE. Beside it stand the
    same differences with the pixels' Gram regressed out.

    Args:
        results: the results of the analyses that ran, by the analysis' name.

    Returns:
        One verdict for each choice of tokens; a single verdict "not run" without the models.
    """
    lacking = f"it needs {REC} and {JE} models before and after fine-tuning"
    return judge_by_tokens("c19", results.get(READS[0]), "families-thirds", _judge_tokens, lacking)


def _judge_tokens(tuned: Results, tokens: str) -> Verdict:
    """The verdict over one choice of tokens."""
    rows = {
        (row["kind"], row["part"]): row
        for row in find_rows(tuned, "families-thirds", tokens=tokens)
        if row["difference"] == row["difference"]
    }
    members = split_members(next(iter(rows.values()))["members"]) if rows else {}
    if set(rows) != set(EXPECTED):
        why = f"it needs a {JE} model that was fine-tuned too" if rows else "CKA is undefined"
        return refuse("c19", why, members, tokens)
    parts = [
        replace(
            make_cka_part(rows[kind, part], f"{kind} in {part},", 1 if sign > 0 else -1),
            controls=tuple(
                replace(one, a=f"{kind} in {part}, pixels regressed out,")
                for one in list_beyond([rows[kind, part]])
            ),
        )
        for (kind, part), sign in EXPECTED.items()
    ]
    return reach_verdict("c19", parts, members=members, tokens=tokens)
