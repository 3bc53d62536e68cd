"""Which block to use for dense tasks, by what the analysis dense-depth found."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import pandas as pd

from sslens.comparisons.probing import PLUS, find_settled, judge_gain, read_gain
from sslens.statistics.estimate import SMALLEST, Answer, Contrast, Estimate
from sslens.table import Results


@final
@dataclass(frozen=True)
class DenseRecommendation:
    """The block of a model that is recommended for dense tasks.

    Attributes:
        model: name of the model.
        use: the tap to use; two taps joined by " + " are concatenated.
        usual: the last block.
        best: the tap that segments the held-out training images best.
        miou: mean IoU of the test images at `use`.
        answer: whether `best` should replace the last block, as `estimate.decide` has it.
        gain: mean IoU at `best` less that at the last block, on the test images; None where the
            last block is the best.
        control: the control with the highest mean IoU; empty without controls.
        above_control: mean IoU at `use` less that of the best control; undefined without one.
        background: mean IoU where all is called background.
        probes: number of linear probes that were chosen from.
    """

    model: str
    use: str
    usual: str
    best: str
    miou: Estimate
    answer: Answer
    gain: Contrast | None
    control: str
    above_control: Estimate
    background: float
    probes: int

    @property
    def is_beaten(self) -> bool:
        """Whether the model is shown to be below a control, so that nothing is recommended."""
        return self.above_control.find_side(SMALLEST["accuracy"]) == "less"


def judge_dense(results: Mapping[str, Results]) -> tuple[DenseRecommendation, ...]:
    """Recommend a block of each model for dense tasks.

    The linear probe with the highest mIoU of the held-out training images is compared with that of
    the last block, on the test images, which played no part in the choice. Probes that have not
    converged, or with a penalty at the end of those that were tried, are left out.

    Args:
        results: the results of the analyses that ran, by the analysis' name.

    Returns:
        One recommendation for each model with a settled probe of its last block; nothing if
        dense-depth did not run.
    """
    if "dense-depth" not in results:
        return ()
    tables = results["dense-depth"]
    probes, scores = (
        tables[name][tables[name].reading == "linear"] for name in ("probes", "scores")
    )
    scores = scores[scores["size"] == "all"]
    controls = scores[scores.control & scores.miou.notna()]
    best = "" if controls.empty else str(controls.model[controls.miou.idxmax()])
    probes = probes[~probes.control]
    models = probes.model.nunique()
    found = (
        _recommend(str(name), rows, scores[scores.model == name], best, models)
        for name, rows in probes.groupby("model", sort=False)
    )
    return tuple(one for one in found if one is not None)


def _recommend(
    model: str, probes: pd.DataFrame, scores: pd.DataFrame, control: str, models: int
) -> DenseRecommendation | None:
    """Recommend a block of one model; None where its last block has no settled probe."""
    settled = probes[find_settled(probes)]
    alone = probes[~probes.tap.str.contains(PLUS, regex=False)]
    usual = str(alone.loc[alone.depth.idxmax()].tap)
    if usual not in set(settled.tap):
        return None
    by_tap: dict[str, dict[str, Any]] = {row["tap"]: row for row in scores.to_dict("records")}
    ordered = settled.assign(usual=settled.tap == usual).sort_values(
        ["validation", "usual", "depth"], ascending=[False, False, False], kind="stable"
    )
    best, gain = str(ordered.iloc[0].tap), None
    if best != usual:
        gain = Contrast("the best block", "the last block", read_gain(by_tap[best], "over_last"))
    answer = judge_gain(gain, models)
    use = best if answer == "holds" else usual
    row = by_tap[use]
    return DenseRecommendation(
        model,
        use,
        usual,
        best,
        Estimate.from_row(row, "miou", "images", "images", ends=("low", "high")),
        answer,
        gain,
        control,
        read_gain(row),
        float(probes.background.iloc[0]),
        len(settled),
    )
