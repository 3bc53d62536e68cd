"""Sentences about the analysis factors-depth."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sslens.comparisons.readings import READINGS
from sslens.report.writing.numbers import spell
from sslens.statistics.estimate import Estimate, subtract_unpaired
from sslens.table import Results

#: factors that are named of a model
NAMED = 3
#: rows by factor
ByFactor = Mapping[str, Mapping[str, Any]]


def sentences(results: Results) -> tuple[str, ...]:
    """Write for each model which factors an earlier block decodes clearly better than the last
    layer, and the best control's number beside it."""
    frame = results["factors"]
    frame = frame[frame.main]
    controls = _by_factor(frame[frame.control].sort_values("decoded", kind="stable"))
    return tuple(
        _write_model(str(name), rows, controls)
        for name, rows in frame[~frame.control].groupby("model", sort=False)
    )


def _write_model(name: str, rows: pd.DataFrame, controls: ByFactor) -> str:
    """What blocks of one model tell better than its last layer.

    Args:
        name: of the model.
        rows: its rows, a depth and factor each.
        controls: the best row of any control, by factor.
    """
    where = READINGS[str(rows.pooling.iloc[0])]
    last = _by_factor(rows[rows["last"]])
    best = _best_by_factor(rows)
    losses = {
        factor: subtract_unpaired(_read(best[factor]), _read(last[factor])) for factor in best
    }
    lost = [factor for factor, loss in losses.items() if loss.sign == 1]
    if not lost:
        top = sorted(last, key=lambda factor: -last[factor]["decoded"])[:NAMED]
        told = ", ".join(
            f"{factor} {spell(_read(last[factor]))}{_name_control(controls, factor)}"
            for factor in top
        )
        return (
            f"{name}, {where}: no block tells a factor clearly better than the last layer, which"
            f" tells best {told}."
        )
    lost.sort(key=lambda factor: -losses[factor].value)
    told = "; ".join(
        f"{factor} {spell(_read(best[factor]))} at {best[factor]['tap']},"
        f" {spell(_read(last[factor]))} at the end{_name_control(controls, factor)}"
        for factor in lost[:NAMED]
    )
    more = f"; {len(lost) - NAMED} more are in the table" if len(lost) > NAMED else ""
    return (
        f"{name}, {where}: an earlier block tells clearly better than the last layer: {told}{more}."
    )


def _by_factor(rows: pd.DataFrame) -> dict[str, Mapping[str, Any]]:
    """The rows by factor; of several the last."""
    return {row["factor"]: row for row in rows.to_dict("records")}


def _best_by_factor(rows: pd.DataFrame) -> dict[str, Mapping[str, Any]]:
    """Select for each factor the row in which it is decoded best; the first one if several tie."""
    return _by_factor(rows.loc[rows.groupby("factor", sort=False).decoded.idxmax()])


def _read(row: Mapping[str, Any]) -> Estimate:
    """How much of a factor is decoded."""
    return Estimate.from_row(row, "decoded", "images", "images")


def _name_control(controls: ByFactor, factor: str) -> str:
    """The control that tells a factor best, in brackets after a space; nothing where there is
    none."""
    if factor not in controls:
        return ""
    row = controls[factor]
    return f" (of the controls {row['model']} at most {spell(Estimate(row['decoded']))})"
