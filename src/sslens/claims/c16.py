"""C16: end-to-end training closes reconstruction's gap on large objects (table 7 of Shekhar et al.,
2023)."""

from collections.abc import Mapping

from sslens.comparisons.detection_parts import list_caveats, make_ap_part, subtract_published
from sslens.comparisons.detection_rows import FROZEN, TUNED
from sslens.comparisons.detectors import read_sides
from sslens.comparisons.parts import find_row, refuse
from sslens.comparisons.roles import JE, REC
from sslens.statistics.verdicts import Quotation, Verdict, reach_verdict
from sslens.table import Results

WORDS = (
    "On large objects reconstruction is behind joint embedding while frozen, and no longer once the"
    " network is trained too."
)
GROUP_WORDS = (
    "On large objects {b} is behind {a} while frozen, and no longer once the network is trained"
    " too."
)
SHORT = "On large objects REC is behind JE while frozen, and not once trained"
PAPERS = (
    Quotation(
        "the discrepancy noted in the detection and segmentation for REC models on larger objects"
        " vanishes",
        "2023, appendix C",
        "box AP of large objects, frozen and tuned: MAE 39.93, 66.36; MoCo-V3 40.21, 64.83; DINO"
        " 44.14, 62.49",
    ),
)
READS = ("detection-finetuned",)
#: the objectives of table 7, each with whether it was trained on small crops
OURS, OTHERS = (("mae", False),), (("moco-v3", False), ("dino", True))


def judge(results: Mapping[str, Results]) -> tuple[Verdict, ...]:
    """Judge the box AP of large objects, REC against JE: frozen, tuned, and its change.

    The claim holds where REC is behind JE by half a point or more while frozen, JE is not ahead of
    REC once tuned, and the difference changed in favour of REC. Trainings give an interval of the
    change alone.

    Args:
        results: the results of the analyses that ran, by the analysis' name.

    Returns:
        One verdict; it is "not run" without both families, frozen and tuned.
    """
    if READS[0] not in results:
        return ()
    row = find_row(results[READS[0]], "changes", model=REC, less=JE, kind="box", measure="AP large")
    if row is None:
        why = f"it needs detectors on {REC} and {JE} models, frozen and trained end to end"
        return (refuse("c16", why),)
    before, after = (
        subtract_published(table, OURS, OTHERS, "box", "AP large") for table in (FROZEN, TUNED)
    )
    parts = [
        make_ap_part(
            row, "box AP large, frozen,", -1, column="before", trainings=False, published=before
        ),
        make_ap_part(
            row,
            "end to end,",
            0,
            column="after",
            turned=True,
            trainings=False,
            published=after,
        ),
        make_ap_part(row, "the change of", published=after - before),
    ]
    caveats = list_caveats(results[READS[0]], parts)
    members = read_sides(str(row["members"]))
    return (reach_verdict("c16", parts, members=members, caveats=caveats),)
