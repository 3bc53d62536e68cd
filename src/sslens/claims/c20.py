"""C20: reconstruction stays alike across architectures with the distance of layers, while models of
different objectives fall off (figure 11b of Shekhar et al., 2023)."""

from collections.abc import Mapping

from sslens.comparisons.parts import find_rows, list_beyond, make_cka_part, refuse
from sslens.comparisons.roles import JE, REC
from sslens.statistics.verdicts import Quotation, Verdict, reach_verdict
from sslens.table import Results

WORDS = (
    "With the distance of two layers, CKA of a reconstruction transformer and a reconstruction CNN"
    " falls off less than CKA of two transformers of different objectives; how high it is, C4 says."
)
GROUP_WORDS = (
    "With the distance of two layers, CKA of a transformer and a CNN of {b} falls off less than CKA"
    " of a transformer of {a} and one of {b}; how high it is, C4 says."
)
SHORT = "CKA falls less with distance from REC ViT to REC CNN than to a JE ViT"
GROUP_SHORT = "CKA falls less with distance from REC ViT to REC CNN than between groups"
PAPERS = (
    Quotation(
        "the CKA across REC ViT-CNN pair stays high while the CKA across pre-training objectives"
        " in a ViT-ViT pair falls off",
        "2023, section 2.1",
    ),
)
READS = ("cka-distance",)


def judge(results: Mapping[str, Results]) -> tuple[Verdict, ...]:
    """Judge whether CKA falls less with distance across architectures than across objectives.

    The effect is the slope of CKA over the distance of relative depths of REC transformers with REC
    CNNs, less that of JE with REC transformers; the claim says that it is above 0.
    Beside it stands the same difference with the pixels' Gram regressed out.

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
    return (
        reach_verdict(
            "c20",
            [part],
            members=_list_members(results[READS[0]]),
            controls=list_beyond(rows),
            tokens=rows[0].get("tokens", ""),
        ),
    )


def _list_members(distance: Results) -> dict[str, tuple[str, ...]]:
    """List the models whose curves are compared: REC across architectures, and transformers across
    families."""
    if "curves" not in distance:
        return {}
    curves = distance["curves"]
    across = curves[(curves.across == "architectures") & (curves.family == REC)]
    others = curves[curves.across == "families"]
    sides = {f"{REC} across architectures": across, f"{JE} and {REC} transformers": others}
    return {
        side: tuple(dict.fromkeys([*rows.model_a, *rows.model_b])) for side, rows in sides.items()
    }
