"""C16: end-to-end training closes reconstruction's gap on large objects (table 7 of Shekhar et al.,
2023)."""

from collections.abc import Mapping

from sslens.comparisons.detection_parts import make_ap_part
from sslens.comparisons.detectors import read_sides
from sslens.comparisons.parts import find_row, refuse
from sslens.comparisons.roles import JE, REC
from sslens.statistics.verdicts import Verdict, reach_verdict
from sslens.table import Results

WORDS = (
    "On large objects reconstruction is behind joint embedding while frozen, and no longer once the"
    " network is trained too."
)
READS = ("detection-finetuned",)


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
    parts = [
        make_ap_part(row, "box AP large, frozen,", -1, column="before", trainings=False),
        make_ap_part(row, "end to end,", 0, column="after", turned=True, trainings=False),
        make_ap_part(row, "the change of"),
    ]
    return (reach_verdict("c16", parts, members=read_sides(str(row["members"]))),)
