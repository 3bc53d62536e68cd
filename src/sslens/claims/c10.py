"""C10: in fine-tuning, reconstruction takes the straighter path (figure 14 of Shekhar et al.,
2023)."""

from collections.abc import Mapping

from sslens.analyses.finetune_path import ATTENTION, read_path_contrast
from sslens.comparisons.parts import find_row, find_rows, make_part, refuse, split_members
from sslens.comparisons.roles import CONTROL as RANDOM  # a claim's own CONTROL is in words
from sslens.comparisons.roles import JE, REC
from sslens.statistics.verdicts import Quotation, Verdict, reach_verdict
from sslens.table import Results

WORDS = (
    "In fine-tuning the attention parameters of reconstruction models take a straighter path than"
    " those of joint embedding."
)
GROUP_WORDS = (
    "In fine-tuning the attention parameters of {b} take a straighter path than the attention"
    " parameters of {a}."
)
SHORT = "In fine-tuning attention of REC takes a straighter path than JE's"
PAPERS = (
    Quotation(
        "MAE fine-tuning follows a more efficient path integral, and attention layer parameters"
        " converge more directly towards new values",
        "2023, figure 14",
    ),
)
READS = ("finetune-path",)


def judge(results: Mapping[str, Results]) -> tuple[Verdict, ...]:
    """Judge whether the path of attention parameters is straighter for REC than for JE.

    Straightness is the displacement over the length travelled. Images play no part in it, so that
    only trainings give an interval: one run of each objective decides nothing.

    Args:
        results: the results of the analyses that ran, by the analysis' name.

    Returns:
        One verdict; it is "not run" without comparable runs of both families.
    """
    if READS[0] not in results:
        return ()
    path = results[READS[0]]
    row = find_row(path, "differences", role=REC, less=JE, group=ATTENTION, measure="straightness")
    if row is None:
        return (refuse("c10", f"it needs the path of a fine-tuned {REC} and of a {JE} model"),)
    members = split_members(row["members"])
    if row["unlike"]:
        return (refuse("c10", f"the runs are not alike: {row['unlike']}", members),)
    straight = find_rows(path, "differences", group=ATTENTION, measure="straightness")
    controls = [
        read_path_contrast(other)
        for other in straight
        if other["less"] == RANDOM and not other["unlike"]
    ]
    part = make_part(row, "straightness,", read_path_contrast(row), "straightness")
    return (reach_verdict("c10", [part], members=members, controls=controls),)
