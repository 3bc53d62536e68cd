"""C1: joint-embedding models are alike, and reconstruction models differ from them (figure 1 of
Shekhar et al., 2022; figure 1a of 2023)."""

from collections.abc import Mapping

from sslens.comparisons.pairs import read_contrast
from sslens.comparisons.panels import list_tokens_in
from sslens.comparisons.roles import JE, REC
from sslens.statistics.estimate import SMALLEST, Contrast, Verdict, explain, unite
from sslens.statistics.estimate import decide as decide
from sslens.table import Results

WORDS = "Joint-embedding models are alike, and reconstruction models differ from them."
READS = ("cka-blocks",)
#: the tables of cka-blocks that have the difference, and what it is averaged over
TABLES = {"families": "at the same depth", "families-all-pairs": "over all pairs of blocks"}


def judge(results: Mapping[str, Results]) -> tuple[Verdict, ...]:
    """Judge whether CKA of JE models with each other is above their CKA with REC models.

    The claim holds where the mean over pairs of JE models less the mean over pairs of a JE and a
    REC model is above 0, by at least 0.02, both of CKA at the same relative depth and of CKA over
    all pairs of blocks. The control is the same difference between random initialisations of the
    same architectures.

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
        return (_refuse(_list_members(blocks)),)
    return tuple(_judge_tokens(blocks, tokens) for tokens in list_tokens_in(blocks["cells"]))


def _judge_tokens(blocks: Results, tokens: str) -> Verdict:
    """The verdict over one choice of tokens."""
    members = _list_members(blocks, tokens)
    contrasts = [_find_contrast(blocks, table, tokens) for table in TABLES]
    present = [contrast for contrast in contrasts if contrast is not None]
    if len(present) < len(TABLES):
        return _refuse(members, tokens)
    control = _find_contrast(blocks, "families-controls", tokens)
    smallest = SMALLEST["cka"]
    return Verdict(
        claim="c1",
        outcome=unite([decide(contrast, 1, smallest) for contrast in present]),
        contrast=present[0],
        others=tuple(present[1:]),
        controls=(control,) if control is not None else (),
        why="; ".join(
            f"{over} {explain(contrast, smallest)}"
            for over, contrast in zip(TABLES.values(), present, strict=True)
        ),
        members=members,
        tokens=tokens,
    )


def _find_contrast(blocks: Results, table: str, tokens: str) -> Contrast | None:
    """Read the CKA of JE with JE less the CKA of JE with REC; None if the table has no such row."""
    if table not in blocks:
        return None
    rows = blocks[table]
    rows = rows[(rows.tokens == tokens) & (rows.model_b == JE)]
    return read_contrast(rows.to_dict("records")[0]) if len(rows) else None


def _list_members(blocks: Results, tokens: str | None = None) -> dict[str, tuple[str, ...]]:
    """The pre-trained JE and REC models, CNNs left out; those that have a choice of tokens."""
    if "family-members" not in blocks:
        return {}
    cells = blocks["cells"]
    present = set(cells.model_a if tokens is None else cells[cells.tokens == tokens].model_a)
    by_family = blocks["family-members"].groupby("family").model.apply(list).to_dict()
    return {
        family: tuple(name for name in names if name in present)
        for family, names in by_family.items()
    }


def _refuse(members: Mapping[str, tuple[str, ...]], tokens: str = "") -> Verdict:
    """The verdict where models are missing."""
    je, rec = (len(members.get(family, ())) for family in (JE, REC))
    why = (
        f"it needs two pre-trained {JE} models and a pre-trained {REC} model that are no CNNs, and"
        f" there are {je} and {rec}"
    )
    return Verdict("c1", "not run", why=why, members=members, tokens=tokens)
