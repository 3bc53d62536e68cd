"""C4: the objective outweighs the architecture (figure 11 of Shekhar et al., 2023)."""

from collections.abc import Mapping
from dataclasses import replace

from sslens.comparisons.parts import find_rows, list_beyond, make_cka_part, refuse
from sslens.comparisons.roles import JE, REC
from sslens.statistics.verdicts import Quotation, Verdict, reach_verdict
from sslens.table import Results

WORDS = "The objective decides more about representations than the architecture does."
GROUP_WORDS = (
    "Whether a model is of {a} or of {b} decides more about its representations than its"
    " architecture does."
)
SHORT = "The objective decides more than the architecture"
GROUP_SHORT = "The group decides more than the architecture"
PAPERS = (
    Quotation(
        "the SSL objective governs representational similarity more than architecture choice for"
        " both REC and JE learning",
        "2023, section 2.1",
    ),
)
READS = ("cka-distance",)


def judge(results: Mapping[str, Results]) -> tuple[Verdict, ...]:
    """Judge whether a transformer and a CNN of one family are more alike than two transformers of
    different families, at the same relative depth.

    There is a part for each family of which there are a transformer and a CNN; the claim holds if
    both families agree, and with one family it is about that family. Beside it stand the same
    differences with the pixels' Gram regressed out.

    Args:
        results: the results of the analyses that ran, by the analysis' name.

    Returns:
        One verdict; it is "not run" without a CNN and a transformer of one family and a transformer
        of the other.
    """
    if READS[0] not in results:
        return ()
    distance = results[READS[0]]
    rows = find_rows(distance, "objective")
    if not rows:
        why = (
            f"it needs a pre-trained CNN and a transformer of {JE} or of {REC}, and a transformer"
            " of the other family"
        )
        return (refuse("c4", why),)
    curves = distance["curves"]
    across = curves[curves.across == "architectures"]
    members = {
        str(family): tuple(dict.fromkeys([*pairs.model_a, *pairs.model_b]))
        for family, pairs in across.groupby("family", sort=False)
    }
    missing = [family for family in (JE, REC) if family not in {row["family"] for row in rows}]
    why = f"of {missing[0]} there is no CNN" if missing else ""
    parts = [replace(make_cka_part(row, ""), controls=list_beyond([row])) for row in rows]
    return (
        reach_verdict(
            "c4",
            parts,
            members=members,
            tokens=rows[0]["tokens"],
            why=why,
        ),
    )
