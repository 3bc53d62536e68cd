"""C20: reconstruction stays alike across architectures with the distance of layers, while models of
different objectives fall off (figure 11b of Shekhar et al., 2023)."""

from collections.abc import Mapping

from sslens.comparisons.parts import find_rows, make_cka_part, refuse
from sslens.comparisons.roles import JE, REC
from sslens.statistics.verdicts import Verdict, reach_verdict
from sslens.table import Results

WORDS = (
    "With the distance of two layers, CKA of a reconstruction transformer and a reconstruction CNN"
    " stays high, while CKA of two transformers of different objectives falls off."
)
READS = ("cka-distance",)


def judge(results: Mapping[str, Results]) -> tuple[Verdict, ...]:
    """Judge whether CKA falls less with distance across architectures than across objectives.

    The effect is the slope of CKA over the distance of relative depths of REC transformers with REC
    CNNs, less that of JE with REC transformers; the claim says that it is above 0.

    Args:
        results: the results of the analyses that ran, by the analysis' name.

    Returns:
        One verdict; it is "not run" without a REC transformer, a REC CNN and a JE transformer.
    """
    if READS[0] not in results:
        return ()
    rows = find_rows(results[READS[0]], "slope-differences", family=REC, unit="depth")
    if not rows:
        why = f"it needs a pre-trained {REC} transformer and CNN, and a {JE} transformer"
        return (refuse("c20", why),)
    part = make_cka_part(rows[0], "slope of CKA over relative depth,")
    return (reach_verdict("c20", [part], members={}, tokens=rows[0].get("tokens", "")),)
