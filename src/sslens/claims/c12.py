"""C12: frozen, reconstruction detects small things better and large ones worse (table 6 of Shekhar
et al., 2023)."""

from collections.abc import Mapping

from sslens.comparisons.detection_parts import make_ap_part, read_difference
from sslens.comparisons.detectors import KINDS, MULTI, SINGLE, read_sides
from sslens.comparisons.parts import find_rows, refuse
from sslens.comparisons.roles import REC
from sslens.statistics.verdicts import Verdict, reach_verdict
from sslens.table import Results

WORDS = (
    "Frozen, reconstruction detects small objects better, and large ones worse, than joint"
    " embedding without multi-crop."
)
READS = ("detection-frozen",)
SIZES = ("AP small", "AP large")


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
            row, f"{row['kind']} {row['measure']},", 1 if row["measure"] == SIZES[0] else -1
        )
        for row in rows
    ]
    beside = [
        read_difference(row, what=f" ({row['kind']} {row['measure']})")
        for size in SIZES
        for row in find_rows(frozen, "families", model=REC, less=MULTI, kind="box", measure=size)
    ]
    members = read_sides(str(rows[0]["members"]))
    return (reach_verdict("c12", parts, members=members, controls=beside),)
