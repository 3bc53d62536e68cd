"""C3: the differences between joint embedding and reconstruction sit in attention and normalisation
(figure 2 of Shekhar et al., 2022; figure 1b of 2023)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

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
from sslens.statistics.estimate import Contrast
from sslens.statistics.verdicts import Quotation, Verdict, reach_verdict
from sslens.table import Results

WORDS = (
    "Joint embedding and reconstruction differ more in attention and in normalisation than in the"
    " fully connected layers."
)
GROUP_WORDS = (
    "{a} and {b} differ more in attention and in normalisation than in the fully connected layers."
)
SHORT = "JE and REC differ more in attention and norms than in fc layers"
PAPERS = (
    Quotation(
        "CKA similarity between attention and normalization layers across MAE and MoCo-V3 are much"
        " lower than fully connected layers",
        "2022, section 2.2",
    ),
)
READS = ("cka-layer-types",)
#: the types of layer that fc1 is held against, in words
TYPES = {"norm1": "normalisation:", "qkv": "attention:"}


def judge(results: Mapping[str, Results]) -> tuple[Verdict, ...]:
    """Judge whether the mean CKA of JE with REC is higher in fc1 than in norm1 and than in qkv.

    The claim holds where both differences are above 0, by 0.02 or more; their intervals hold at
    once. Beside it stand the same differences with the pixels' Gram regressed out, and those of JE
    with JE: where these are as large, the verdict says that the differences are no matter of REC.

    Args:
        results: the results of the analyses that ran, by the analysis' name.

    Returns:
        One verdict for each choice of tokens; a single verdict "not run" without both families.
    """
    lacking = f"it needs pre-trained {JE} and {REC} transformers"
    return judge_by_tokens("c3", results.get(READS[0]), "families-types", _judge_tokens, lacking)


def _judge_tokens(types: Results, tokens: str) -> Verdict:
    """The verdict over one choice of tokens."""
    rows = {
        row["less"]: row
        for row in find_rows(types, "families-types", tokens=tokens, kind="fc1", model_b=REC)
    }
    own = {
        row["less"]: replace(read_contrast(row), a=f"fc1 of {JE} · {JE}", b=row["less"])
        for row in find_rows(types, "families-types", tokens=tokens, kind="fc1", model_b=JE)
    }
    members = list_members(types, tokens)
    missing = [kind for kind in TYPES if kind not in rows]
    if missing:
        return refuse("c3", f"CKA in {' and '.join(missing)} is undefined", members, tokens)
    parts = [
        replace(
            make_cka_part(rows[kind], label),
            contrast=_name(rows[kind], kind),
            controls=(
                *(
                    replace(one, a="fc1, pixels regressed out,", b=kind)
                    for one in list_beyond([rows[kind]])
                ),
                *([own[kind]] if kind in own else []),
            ),
        )
        for kind, label in TYPES.items()
    ]
    by_kind = zip(TYPES, parts, strict=True)
    caveat = tell_as_much([(part, own[kind]) for kind, part in by_kind if kind in own])
    return reach_verdict("c3", parts, members=members, tokens=tokens, caveats=caveat)


def _name(row: Mapping[str, Any], kind: str) -> Contrast:
    """The difference of a row, named after the types of layer."""
    return replace(read_contrast(row), a=f"fc1 of {JE} · {REC}", b=kind)
