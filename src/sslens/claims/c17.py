"""C17: multi-crop costs nothing in detection, or gains (table 6 of Shekhar et al., 2023)."""

from collections.abc import Mapping

from sslens.comparisons.detection_parts import (
    list_caveats,
    make_ap_part,
    read_difference,
    subtract_published,
)
from sslens.comparisons.detection_rows import FROZEN
from sslens.comparisons.detectors import KINDS, read_sides
from sslens.comparisons.parts import find_rows, refuse
from sslens.statistics.verdicts import Quotation, Verdict, reach_verdict
from sslens.table import Results

WORDS = "Multi-crop costs nothing in detection with a frozen network, or gains."
SHORT = "Multi-crop costs nothing in detection with a frozen network"
PAPERS = (
    Quotation(
        "it benefits from its unique multi-crop training setup",
        "2023, appendix C",
        "AP of boxes and masks: DINO 32.57, 30.04; without multi-crop 29.97, 28.16",
    ),
)
READS = ("detection-frozen",)
#: the objective of table 6 with and without small crops
WITH, WITHOUT = (("dino", True),), (("dino", False),)


def judge(results: Mapping[str, Results]) -> tuple[Verdict, ...]:
    """Judge the average precision of an objective without multi-crop less that with it, of boxes
    and of masks.

    The claim holds where the models without multi-crop are not ahead. The differences on small and
    on large objects stand beside it.

    Args:
        results: the results of the analyses that ran, by the analysis' name.

    Returns:
        One verdict for the first objective that was trained in both ways; it is "not run" if none
        was.
    """
    if READS[0] not in results:
        return ()
    frozen = results[READS[0]]
    rows = [
        row for kind in KINDS for row in find_rows(frozen, "multi-crop", kind=kind, measure="AP")
    ]
    own = [row for row in rows if row["model"] == rows[0]["model"]]
    if not own:
        why = "it needs detectors on one objective with and without multi-crop"
        return (refuse("c17", why),)
    parts = [
        make_ap_part(
            row,
            f"{row['kind']} AP,",
            0,
            turned=True,
            published=subtract_published(FROZEN, WITH, WITHOUT, row["kind"], "AP"),
        )
        for row in own
    ]
    beside = [
        read_difference(row, what=f" ({row['kind']} {size})", turned=True)
        for size in ("AP small", "AP large")
        for row in find_rows(frozen, "multi-crop", model=own[0]["model"], kind="box", measure=size)
    ]
    members = read_sides(str(own[0]["members"]))
    return (
        reach_verdict(
            "c17",
            parts,
            members=members,
            controls=beside,
            caveats=list_caveats(frozen, parts),
        ),
    )
