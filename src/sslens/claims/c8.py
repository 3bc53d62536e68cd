"""C8: intermediate layers help reconstruction alone, and not after fine-tuning (figures 2b, 2c and
5 of Shekhar et al., 2023)."""

from collections.abc import Mapping

from sslens.comparisons.gains import judge_gains
from sslens.statistics.verdicts import Verdict
from sslens.table import Results

WORDS = (
    "An intermediate layer beside the last one gains in a linear probe for reconstruction, and"
    " gains nothing for joint embedding or after fine-tuning."
)
READS = ("probe-layers",)


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
    return (judge_gains("c8", results[READS[0]], tuned=True),)
