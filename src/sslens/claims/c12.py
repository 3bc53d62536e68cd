"""C12: frozen, reconstruction detects small things better and large ones worse (table 6 of Shekhar
et al., 2023)."""

from collections.abc import Mapping

from sslens.comparisons.detection_parts import (
    list_caveats,
    make_ap_part,
    read_difference,
    subtract_published,
)
from sslens.comparisons.detection_rows import FROZEN
from sslens.comparisons.detectors import KINDS, MULTI, SINGLE, read_sides
from sslens.comparisons.parts import find_rows, refuse
from sslens.comparisons.roles import REC
from sslens.statistics.verdicts import Quotation, Verdict, reach_verdict
from sslens.table import Results

WORDS = (
    "Frozen, reconstruction detects small objects better, and large ones worse, than joint"
    " embedding without multi-crop."
)
GROUP_WORDS = (
    "Frozen, {b} detects small objects better, and large ones worse, than {a} without multi-crop."
)
SHORT = "Frozen, REC detects small objects better than JE, large ones worse"
PAPERS = (
    Quotation(
        "it does worse than JE models on larger objects, but performs better on small objects",
        "2023, table 6",
        "box AP of small and large objects: MAE 18.69, 39.93; MoCo-V3 15.49, 40.21; DINO without"
        " multi-crop 17.55, 40.82",
    ),
)
READS = ("detection-frozen",)
SIZES = ("AP small", "AP large")
#: the objectives of table 6, each with whether it was trained on small crops
OURS, OTHERS = (("mae", False),), (("moco-v3", False), ("dino", False))


def judge(results: Mapping[str, Results]) -> tuple[Verdict, ...]:
    """Judge the average precision of REC less that of JE without multi-crop, on small and on large
    objects, of boxes and of masks.

    In the paper's own table 6 DINO with multi-crop is above MAE on nearly every number: the same
    differences from JE with multi-crop stand beside the claim, and have no part in it.

    Args:
        results: the results of the analyses that ran, by the analysis' name.

    Returns:
        One verdict; it is "not run" without detectors of REC and of JE without multi-crop.
    """
    if READS[0] not in results:
        return ()
    frozen = results[READS[0]]
    rows = [
        row
        for kind in KINDS
        for size in SIZES
        for row in find_rows(frozen, "families", model=REC, less=SINGLE, kind=kind, measure=size)
    ]
    if not rows:
        return (refuse("c12", f"it needs detectors on frozen {REC} models and on {SINGLE}"),)
    parts = [
        make_ap_part(
            row,
            f"{row['kind']} {row['measure']},",
            1 if row["measure"] == SIZES[0] else -1,
            published=subtract_published(FROZEN, OURS, OTHERS, row["kind"], row["measure"]),
        )
        for row in rows
    ]
    beside = [
        read_difference(row, what=f" ({row['kind']} {row['measure']})")
        for size in SIZES
        for row in find_rows(frozen, "families", model=REC, less=MULTI, kind="box", measure=size)
    ]
    members = read_sides(str(rows[0]["members"]))
    return (
        reach_verdict(
            "c12",
            parts,
            members=members,
            controls=beside,
            caveats=list_caveats(frozen, parts),
        ),
    )
