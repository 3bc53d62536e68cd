"""C15: several blocks help both families in detection, unlike in classification (figure 7 of
Shekhar et al., 2023)."""

from collections.abc import Mapping

from sslens.comparisons.detection_parts import list_caveats, make_ap_part, read_difference
from sslens.comparisons.detectors import read_sides
from sslens.comparisons.parts import find_row, find_rows, refuse
from sslens.comparisons.roles import JE, REC
from sslens.statistics.estimate import Contrast, Estimate
from sslens.statistics.verdicts import Quotation, Verdict, reach_verdict
from sslens.table import Results

WORDS = (
    "Several blocks joined detect more than the last one alone, for joint embedding as for"
    " reconstruction (unlike in classification, claim C8)."
)
GROUP_WORDS = "Several blocks joined detect more than the last one alone, for {a} as for {b}."
SHORT = "Joined blocks detect more than the last one, for JE as for REC"
PAPERS = (
    Quotation(
        "show improved performance when additional intermediate features are used for detection,"
        " unlike for classification",
        "2023, figure 7",
    ),
)
READS = ("detection-layers", "probe-layers")


def judge(results: Mapping[str, Results]) -> tuple[Verdict, ...]:
    """Judge what several blocks gain in box AP over the last block, for REC and for JE.

    The claim holds where both gain half a point or more. What the frozen random initialisation
    gains stands beside it: joined maps have more channels, and the pyramid on them more weights.
    So does what an intermediate layer gains in classification (claim C8), where it is known.

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
    controls += _list_gains_of_probes(results)
    members = {
        family: names
        for row in gains.values()
        for family, names in read_sides(str(row["members"])).items()
    }
    return (
        reach_verdict(
            "c15",
            parts,
            members=members,
            controls=controls,
            caveats=list_caveats(layers, parts),
        ),
    )


def _list_gains_of_probes(results: Mapping[str, Results]) -> list[Contrast]:
    """List what the last and an intermediate layer gain over the last one in classification, of
    each family with settled probes."""
    if READS[1] not in results:
        return []
    rows = find_rows(results[READS[1]], "families", main=True, settled=True)
    return [
        Contrast(
            f"{row['model']} in classification, with an intermediate layer",
            "the last alone",
            Estimate.from_row(row, "gain", "images", "images"),
        )
        for row in rows
    ]
