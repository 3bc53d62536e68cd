"""C13: masked siamese networks are joint embedding (figure 15 of Shekhar et al., 2023)."""

from collections.abc import Mapping
from typing import Any

from sslens.comparisons.panels import list_tokens_in
from sslens.comparisons.parts import (
    find_row,
    make_beyond_part,
    make_cka_part,
    refuse,
    split_members,
)
from sslens.comparisons.roles import JE, REC
from sslens.statistics.verdicts import Part, Verdict, reach_verdict
from sslens.table import Results

WORDS = "A masked siamese network is like joint embedding, and not like reconstruction."
READS = ("cka-msn",)


def judge(results: Mapping[str, Results]) -> tuple[Verdict, ...]:
    """Judge whether pre-trained MSN has a higher CKA with JE models than with REC models, and where
    it is defined also with the pixels' Gram regressed out.

    Args:
        results: the results of the analyses that ran, by the analysis' name.

    Returns:
        One verdict for each choice of tokens; a single verdict "not run" without the models.
    """
    if READS[0] not in results:
        return ()
    msn = results[READS[0]]
    rows = {
        tokens: find_row(msn, "families", tokens=tokens, model_a="MSN", model_b=JE)
        for tokens in (list_tokens_in(msn["families"]) if "families" in msn else ())
    }
    verdicts = [
        reach_verdict(
            "c13",
            [part for part in _make_parts(row) if part is not None],
            members=split_members(row["members"], "MSN"),
            tokens=tokens,
        )
        for tokens, row in rows.items()
        if row is not None
    ]
    if verdicts:
        return tuple(verdicts)
    return (refuse("c13", f"it needs pre-trained MSN, another {JE} model and a {REC} model"),)


def _make_parts(row: Mapping[str, Any]) -> list[Part | None]:
    label = "at the same depth"
    return [make_cka_part(row, label), make_beyond_part(row, f"{label}, pixels regressed out,")]
