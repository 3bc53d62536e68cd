"""C15: several blocks help both families in detection, unlike in classification (figure 7 of
Shekhar et al., 2023)."""

from collections.abc import Mapping

from sslens.comparisons.detection_parts import make_ap_part, read_difference
from sslens.comparisons.detectors import read_sides
from sslens.comparisons.parts import find_row, find_rows, refuse
from sslens.comparisons.roles import JE, REC
from sslens.statistics.verdicts import Verdict, reach_verdict
from sslens.table import Results

WORDS = (
    "Several blocks joined detect more than the last one alone, for joint embedding as for"
    " reconstruction (unlike in classification, claim C8)."
)
READS = ("detection-layers",)


def judge(results: Mapping[str, Results]) -> tuple[Verdict, ...]:
    """Judge what several blocks gain in box AP over the last block, for REC and for JE.

    The claim holds where both gain half a point or more. What the frozen random initialisation
    gains stands beside it: joined maps have more channels, and the pyramid on them more weights.

    Args:
        results: the results of the analyses that ran, by the analysis' name.

    Returns:
        One verdict; it is "not run" without both families.
    """
    if READS[0] not in results:
        return ()
    layers = results[READS[0]]
    rows = {
        family: find_row(layers, "families", model=family, kind="box", measure="AP")
        for family in (REC, JE)
    }
    gains = {
        family: row for family, row in rows.items() if row is not None and row["less"] not in rows
    }
    if len(gains) < len(rows):
        return (refuse("c15", f"it needs detectors on several blocks of {JE} and of {REC}"),)
    parts = [make_ap_part(row, "box AP, several blocks:") for row in gains.values()]
    controls = [
        read_difference(row)
        for row in find_rows(layers, "gains", control=True, kind="box", measure="AP")
    ]
    members = {
        family: names
        for row in gains.values()
        for family, names in read_sides(str(row["members"])).items()
    }
    return (reach_verdict("c15", parts, members=members, controls=controls),)
