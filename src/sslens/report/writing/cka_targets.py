"""Sentences about the analysis cka-targets."""

import pandas as pd

from sslens.report.writing.numbers import spell
from sslens.statistics.estimate import Estimate
from sslens.table import Results

#: quantities that are named of a model
NAMED = 3


def sentences(results: Results) -> tuple[str, ...]:
    """Write for each model which quantities its last block has the highest CKA with, and the
    controls' CKA beside it."""
    frame = results["targets"]
    frame = frame[(frame.tokens == frame.tokens.iloc[0]) & frame.cka.notna()]
    ends = frame[frame.kind.isin(("block", "pixels"))].sort_values("depth", kind="stable")
    ends = ends.groupby(["model", "target"], sort=False).tail(1)
    controls = ends[ends.control].sort_values("cka", kind="stable").groupby("target").tail(1)
    controls = controls.set_index("target")
    studied = ends[~ends.control & (ends.kind == "block")]
    return tuple(
        _sentence(str(name), rows, controls) for name, rows in studied.groupby("model", sort=False)
    )


def _sentence(name: str, rows: pd.DataFrame, controls: pd.DataFrame) -> str:
    best = rows.sort_values("cka", ascending=False, kind="stable").head(NAMED)
    parts = [
        f"{row.target} {_spell(row)}{_beside(controls, row.target)}" for _, row in best.iterrows()
    ]
    return f"{name}: of the known quantities its last block is most alike to {'; '.join(parts)}."


def _beside(controls: pd.DataFrame, target: str) -> str:
    if target not in controls.index:
        return ""
    row = controls.loc[target]
    return f" (of the controls {row.model} at most {_spell(row)})"


def _spell(row: "pd.Series[object]") -> str:
    return spell(Estimate.from_row(row, "cka", "minibatches", "minibatches", ends=("low", "high")))
