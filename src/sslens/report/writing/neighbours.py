"""Sentences about the analysis neighbours."""

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from sslens.report.writing.numbers import compare, spell, spell_count
from sslens.statistics.estimate import Estimate
from sslens.table import Results

#: quantities that are named of a model, of those that its neighbours share and of those that vary
NAMED = 3
#: a quantity is said to vary where the interval of its spread reaches this
FREE = 0.9


def sentences(results: Results) -> tuple[str, ...]:
    """Write of each model which quantities its neighbours share most, and which vary among them
    freely; and what a model's neighbours share that no control's do."""
    frame = results["spreads"]
    frame = frame[frame.main & frame.spread.notna()]
    studied = list(frame[~frame.control].groupby("model", sort=False))
    if not studied:
        return ()
    first = frame.iloc[0]
    told = ". ".join(_write_model(str(name), rows) for name, rows in studied)
    written = (
        f"Spread among the {first.neighbours} nearest neighbours of"
        f" {spell_count(int(first.pool))} images (0 none, 1 as among all): {told}.",
    )
    gains = [text for name, rows in studied if (text := _write_gain(str(name), rows))]
    if not gains:
        return written
    count = frame.quantity.nunique()
    chosen = f", the first of {count} differences each" if count > 1 else ""
    return *written, f"Most beyond the controls{chosen}: {'; '.join(gains)}."


def _write_model(name: str, rows: pd.DataFrame) -> str:
    """Write what a model's neighbours share, more than those of the best control, and what varies
    among them."""
    ordered = rows.sort_values("spread", kind="stable").to_dict("records")
    beyond = [row for row in ordered if not row["over_control_high"] >= 0]  # or no control
    named = ", ".join(f"{row['quantity']} {spell(_read(row))}" for row in beyond[:NAMED])
    least = named or "nothing beyond the controls"
    free = [str(row["quantity"]) for row in ordered[NAMED:] if _read(row).high >= FREE]
    if not free:
        return f"{name} least in {least}"
    return f"{name} least in {least}; freely in {', '.join(free[::-1][:NAMED])}"


def _write_gain(name: str, rows: pd.DataFrame) -> str:
    """Write of which quantity a model's neighbours hold most that no control's hold; empty without
    controls."""
    if rows.over_control.isna().all():
        return ""
    row = rows.loc[rows.over_control.idxmin()].to_dict()
    less = Estimate.from_row(row, "over_control", "images", "images")
    return f"{name} {row['quantity']}, {compare(less, str(row['against']), 'r2')}"


def _read(row: Mapping[Hashable, Any]) -> Estimate:
    return Estimate.from_row(row, "spread", "images", "images", ends=("low", "high"))
