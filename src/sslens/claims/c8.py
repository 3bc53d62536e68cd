"""C8: intermediate layers help reconstruction alone, and not after fine-tuning (figures 2b, 2c and
5 of Shekhar et al., 2023)."""

from collections.abc import Mapping

from sslens.comparisons.gains import judge_gains
from sslens.statistics.verdicts import Quotation, Verdict
from sslens.table import Results

WORDS = (
    "An intermediate layer beside the last one gains in a linear probe for reconstruction, and"
    " gains nothing for joint embedding or after fine-tuning."
)
GROUP_WORDS = (
    "An intermediate layer beside the last one gains in a linear probe for {b}, and gains nothing"
    " for {a} or after fine-tuning."
)
SHORT = "An earlier layer beside the last gains for REC, and not for JE"
PAPERS = (
    Quotation(
        "leads to an improvement in classification accuracy for REC representations, but provides"
        " no marginal utility for JE representations",
        "2023, section 2.2",
        "MAE 67.73 ± 0.10 %, with an intermediate layer 70.12 ± 0.04 % and 69.53 ± 0.07 %",
    ),
    Quotation(
        "the fine-tuned MAE does not perform any better",
        "2023, section 2.3",
    ),
)
READS = ("probe-layers",)
#: the larger gain of MAE in table 2b of 2023, 70.12 less 67.73 %, as a share
GAIN = 0.0239


def judge(results: Mapping[str, Results]) -> tuple[Verdict, ...]:
    """Judge the gain in accuracy of the last and an intermediate layer over the last layer alone.

    The claim holds where REC gains half a point or more, JE gains nothing (or loses), REC gains
    more than JE, and fine-tuned REC models, if there are any, gain nothing. Which intermediate
    layer is taken was chosen on validation images. Only probes count that converged and whose
    penalty lies inside the path.

    Args:
        results: the results of the analyses that ran, by the analysis' name.

    Returns:
        One verdict; it is "not run" without both families or without converged probes.
    """
    if READS[0] not in results:
        return ()
    return (judge_gains("c8", results[READS[0]], tuned=True, published=GAIN),)
