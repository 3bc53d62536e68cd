"""C1: joint-embedding models are alike, and reconstruction models differ from them (figure 1 of
Shekhar et al., 2022; figure 1a of 2023)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sslens.comparisons.pairs import read_contrast
from sslens.comparisons.panels import list_tokens_in
from sslens.comparisons.parts import (
    find_row,
    find_rows,
    list_members,
    make_beyond_part,
    make_cka_part,
    refuse,
)
from sslens.comparisons.roles import JE, REC
from sslens.statistics.verdicts import Quotation, Verdict, reach_verdict
from sslens.table import Results

WORDS = "Joint-embedding models are alike, and reconstruction models differ from them."
GROUP_WORDS = "Models of {a} are alike, and models of {b} differ from them."
SHORT = "JE models are more like each other than like REC models"
PAPERS = (
    Quotation(
        "two contrastive learning procedures (MoCo-V3 and DINO) have very similar representations",
        "2022, section 2.1",
    ),
    Quotation(
        "representations that are very dissimilar to both JE methods",
        "2023, section 2.1",
    ),
)
READS = ("cka-blocks",)
#: the tables of cka-blocks that have the difference, and what it is averaged over
TABLES = {"families": "at the same depth", "families-all-pairs": "over all pairs of blocks"}


def judge(results: Mapping[str, Results]) -> tuple[Verdict, ...]:
    """Judge whether CKA of JE models with each other is above their CKA with REC models.

    The claim holds where the mean over pairs of JE models less the mean over pairs of a JE and a
    REC model is above 0, by at least 0.02, both of CKA at the same relative depth and of CKA over
    all pairs of blocks, and where it is defined also with the pixels' Gram regressed out. Pairs of
    JE models have different objectives. Beside it stands how much more alike two trainings of one
    objective of the same families are.

    Args:
        results: the results of the analyses that ran, by the analysis' name.

    Returns:
        One verdict for each choice of tokens. There is a single verdict "not run" if there are no
        families, and no verdict if cka-blocks did not run.
    """
    if READS[0] not in results:
        return ()
    blocks = results[READS[0]]
    if "families" not in blocks:
        return (_refuse(blocks),)
    return tuple(_judge_tokens(blocks, tokens) for tokens in list_tokens_in(blocks["cells"]))


def _judge_tokens(blocks: Results, tokens: str) -> Verdict:
    """The verdict over one choice of tokens."""
    rows = {
        label: find_row(blocks, table, tokens=tokens, model_b=JE) for table, label in TABLES.items()
    }
    parts = [make_cka_part(row, label) for label, row in rows.items() if row]
    if len(parts) < len(TABLES):
        return _refuse(blocks, tokens)
    beyond = [
        make_beyond_part(row, f"{label}, pixels regressed out,")
        for label, row in rows.items()
        if row
    ]
    parts += [part for part in beyond if part is not None]
    ceilings = find_rows(blocks, "families-ceilings", tokens=tokens)
    return reach_verdict(
        "c1",
        parts,
        controls=[replace(read_contrast(row), a=_name_ceiling(row)) for row in ceilings],
        members=list_members(blocks, tokens),
        tokens=tokens,
    )


def _name_ceiling(row: Mapping[str, Any]) -> str:
    """Name two trainings of one objective by the objectives that are averaged.

    >>> _name_ceiling({"model_a": "mae"}), _name_ceiling({"model_a": "dino and msn"})
    ('two trainings of mae', 'two trainings of one of dino and msn')
    """
    several = " and " in str(row["model_a"])
    return f"two trainings of {'one of ' if several else ''}{row['model_a']}"


def _refuse(blocks: Results, tokens: str | None = None) -> Verdict:
    """The verdict where models are missing."""
    members = list_members(blocks, tokens)
    je, rec = (members.get(family, ()) for family in (JE, REC))
    why = (
        f"it needs pre-trained {JE} models of two objectives and a pre-trained {REC} model that are"
        f" no CNNs, and there are {JE} models of {_count_objectives(blocks, je)} and {REC} models"
        f" of {_count_objectives(blocks, rec)}"
    )
    return refuse("c1", why, members, tokens or "")


def _count_objectives(blocks: Results, names: Sequence[str]) -> int:
    """Count the objectives of some models of the table `family-members`."""
    if not names:
        return 0
    rows = blocks["family-members"]
    rows = rows[rows.model.isin(names)]
    return len(set(rows.objective.where(rows.objective != "", rows.model)))
