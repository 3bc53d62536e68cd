"""C9: fine-tuned reconstruction models resemble pre-trained joint embedding (figures 5 and 6 of
Shekhar et al., 2022; figures 4 and 8 to 10 of 2023)."""

from collections.abc import Mapping
from dataclasses import replace

from sslens.comparisons.parts import (
    find_row,
    judge_by_tokens,
    make_beyond_part,
    make_cka_part,
    refuse,
    split_members,
)
from sslens.comparisons.roles import JE, REC
from sslens.statistics.verdicts import Quotation, Verdict, reach_verdict
from sslens.table import Results

WORDS = (
    "Fine-tuning makes reconstruction models like pre-trained joint embedding, most in attention"
    " and normalisation, and more so than it makes random weights."
)
GROUP_WORDS = (
    "Fine-tuning makes {b} like pre-trained {a}, most in attention and normalisation, and more so"
    " than it makes random weights."
)
SHORT = "Fine-tuning makes REC like JE, more than it does random weights"
PAPERS = (
    Quotation(
        "MAE and fine-tuned end-to-end are highly similar to that of a pre-trained MoCo-V3 ViT",
        "2022, section 2.5",
    ),
    Quotation(
        "become the most similar after fine-tuning",
        "2022, section 2.5",
    ),
)
READS = ("cka-finetune",)
#: the types of layer in which the rise is held against that in fc1
TYPES = ("qkv", "norm1")


#: what stands in place of a control: it is one of the differences that decide
CONTROL = "fine-tuned random weights, in its second difference"


def judge(results: Mapping[str, Results]) -> tuple[Verdict, ...]:
    """Judge whether fine-tuned REC models come nearer to pre-trained JE models and end near them.

    Of the mean CKA at the same depth with pre-trained JE models the claim says that (1) it is
    higher after fine-tuning than before; (2) it ends higher than that of random initialisations
    that were fine-tuned by the same recipe, also with the pixels' Gram regressed out where that is
    defined; (3, 4) it rises more in qkv and in norm1 than in fc1.
    The second decides: where the end is not above that of random weights, the claim does not hold
    in part either, whatever the rest says. How far the random initialisations rose has no part in
    it: they start at another level.

    Args:
        results: the results of the analyses that ran, by the analysis' name.

    Returns:
        One verdict for each choice of tokens; a single verdict "not run" without a REC model before
        and after fine-tuning, a JE model and a fine-tuned random initialisation.
    """
    lacking = f"it needs a {REC} model before and after fine-tuning and a pre-trained {JE} model"
    return judge_by_tokens("c9", results.get(READS[0]), "families", _judge_tokens, lacking)


def _judge_tokens(tuned: Results, tokens: str) -> Verdict:
    """The verdict over one choice of tokens."""
    rise = find_row(tuned, "families", tokens=tokens, kind="block")
    end = find_row(tuned, "families-ends", tokens=tokens, kind="block")
    if rise is None or end is None:
        why = (
            "the end has no control: it needs a random initialisation that was fine-tuned by the"
            " same recipe"
        )
        members = split_members(rise["members"]) if rise else {}
        return refuse("c9", why, members, tokens)
    decisive = replace(make_cka_part(end, "the end,"), decisive=True)
    parts = [make_cka_part(rise, "the rise,"), decisive]
    beyond = make_beyond_part(end, "the end, pixels regressed out,")
    parts += [beyond] if beyond is not None else []
    for kind in TYPES:
        row = find_row(tuned, "families-rise-by-type", tokens=tokens, kind=kind)
        if row is not None:
            part = make_cka_part(row, "")
            parts.append(replace(part, contrast=replace(part.contrast, a=f"the rise in {kind}")))
    return reach_verdict("c9", parts, members=split_members(rise["members"]), tokens=tokens)
