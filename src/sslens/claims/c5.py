"""C5: the classes separate early in joint embedding, whose last CLS token holds what a probe finds
(figure 3 of Shekhar et al., 2022; figure 12 of 2023)."""

from collections.abc import Mapping
from dataclasses import replace

from sslens.comparisons.parting import Point, make_parting_parts
from sslens.comparisons.parts import find_row, find_rows, make_part, refuse, split_members
from sslens.comparisons.roles import JE, REC
from sslens.statistics.estimate import Contrast, Estimate
from sslens.statistics.verdicts import Part, Quotation, Verdict, reach_verdict
from sslens.table import Results

WORDS = (
    "Class separability parts early and stays higher in joint embedding, and a probe adds less to"
    " neighbours in its last block than in reconstruction's."
)
GROUP_WORDS = (
    "Class separability parts early and stays higher in {a}, and a probe adds less to neighbours"
    " in its last block than in the last block of {b}."
)
SHORT = "Classes separate earlier in JE, and a probe adds less"
PAPERS = (
    Quotation(
        "starts to diverge from the MoCo-V3 model after the third transformer block",
        "2022, section 2.3",
    ),
    Quotation(
        "the gap between the probe and final ViT block accuracy is quite small",
        "2022, section 2.3",
    ),
)
READS = ("knn-depth",)
#: the features of 20-NN: as they are, and standardised, for a few directions of high variance are
#: known to spoil the cosine of MAE's (arXiv 2401.00463)
FEATURES = ("raw", "standardised")
#: probes hold some of the images back, which vote in 20-NN
FEWER = "probes of fewer images,"


def judge(results: Mapping[str, Results]) -> tuple[Verdict, ...]:
    """Judge whether 20-NN of JE stays above that of REC from an early block on, and how much a
    probe adds.

    The claim holds where, both on raw and on standardised features of the CLS token (the mean of a
    model without one), there is a relative depth of 0.5 or less from which the accuracy of JE is
    higher by half a point or more at every later depth; and where the accuracy of a converged
    linear probe of the last block less 20-NN there is larger for REC than for JE.

    Args:
        results: the results of the analyses that ran, by the analysis' name.

    Returns:
        One verdict; it is "not run" without both families or without converged probes.
    """
    if READS[0] not in results:
        return ()
    knn = results[READS[0]]
    rows = {
        kind: find_rows(knn, "families-by-depth", main=True, features=kind) for kind in FEATURES
    }
    if not all(rows.values()):
        return (refuse("c5", f"it needs 20-NN by depth of pre-trained {JE} and {REC} models"),)
    members = split_members(rows["raw"][0]["members"])
    gaps = {
        family: find_row(
            knn, "families-probes", main=True, features="raw", place="last block", model=family
        )
        for family in (JE, REC)
    }
    rec, je = gaps[REC], gaps[JE]
    if rec is None or je is None:
        missing = [family for family, row in gaps.items() if row is None]
        why = f"no probe of {' and '.join(missing)} has converged inside its path of penalties"
        return (refuse("c5", why, members),)
    parts: list[Part] = []
    reasons = []
    for kind, points in rows.items():
        found, reversal = make_parting_parts(points, f"{kind} 20-NN", "accuracy", _read)
        parts += found
        reasons += [f"{kind} 20-NN {reversal}"] if reversal else []
    difference = Estimate.from_row(rec, "difference", "images", "images")
    more = Contrast(f"probe less 20-NN of {REC}", f"that of {JE}", difference)
    gap = Contrast(f"probe of {JE}", "20-NN", Estimate.from_row(je, "gap", "images", "images"))
    parts.append(replace(make_part(rec, FEWER, more, "accuracy"), controls=(gap,)))
    return (reach_verdict("c5", parts, members=members, caveats=reasons),)


def _read(row: Point) -> Contrast:
    """The accuracy of JE less that of REC at a depth."""
    difference = Estimate.from_row(row, "difference", "images", "images")
    return Contrast(JE, REC, difference, together=int(row.get("together", 1)))
