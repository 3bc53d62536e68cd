"""C7: deeper probes help reconstruction alone (figure 2a of Shekhar et al., 2023)."""

from collections.abc import Mapping

from sslens.comparisons.gains import judge_gains
from sslens.statistics.verdicts import Quotation, Verdict
from sslens.table import Results

WORDS = (
    "A probe of three layers on the last features gains over a linear one for reconstruction, and"
    " gains nothing for joint embedding."
)
GROUP_WORDS = (
    "A probe of three layers on the last features gains over a linear one for {b}, and gains"
    " nothing for {a}."
)
SHORT = "A probe of three layers gains for REC, and not for JE"
PAPERS = (
    Quotation(
        "Both JE models do not see any improvement in performance from using a deeper probe",
        "2023, section 2.2",
    ),
    Quotation(
        "improvement of 1.03% on top-1 accuracy when using a three layer non-linear probe",
        "2023, section 2.2",
        "MAE linear 67.73 ± 0.10 %",
    ),
)
READS = ("probe-depth",)
#: number of layers of the deepest probe
DEEP = 3
#: the gain of MAE in section 2.2 of 2023, as a share
GAIN = 0.0103


def judge(results: Mapping[str, Results]) -> tuple[Verdict, ...]:
    """Judge the gain in accuracy of three layers over one, of REC and of JE.

    The claim holds where REC gains half a point or more, JE gains nothing (or loses), and REC gains
    more than JE. Only probes count that converged and whose settings lie inside those that were
    tried. The features are those that are usually read (`readings.choose_pooling`).

    Args:
        results: the results of the analyses that ran, by the analysis' name.

    Returns:
        One verdict; it is "not run" without both families or without converged probes.
    """
    if READS[0] not in results:
        return ()
    return (judge_gains("c7", results[READS[0]], layers=DEEP, published=GAIN),)
