"""Sentences about the analysis decoder-depth."""

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from sslens.report.writing.numbers import spell, spell_difference, spell_level
from sslens.statistics.estimate import Estimate
from sslens.table import Results


def sentences(results: Results) -> tuple[str, ...]:
    """Write for each reading from which block of each model the pictures are decoded best, how well
    from the last layer, and what a random initialisation reaches less."""
    frame = results["decoded"]
    written = []
    for reading, rows in frame[~frame.control].groupby("reading", sort=False):
        told = "; ".join(
            _write_model(str(name), own) for name, own in rows.groupby("model", sort=False)
        )
        nothing = spell_level(float(rows.nothing.iloc[0]))
        written.append(f"PSNR in dB from the {reading} ({nothing} without features): {told}.")
    return tuple(written)


def _write_model(name: str, rows: pd.DataFrame) -> str:
    best = rows.loc[rows.psnr.idxmax()].to_dict()
    last = rows.iloc[-1].to_dict()
    text = f"{name} {spell(_read(last))} at {last['tap']}"
    if best["tap"] != last["tap"]:
        text += f", {spell(_read(best))} at {best['tap']}"
    if pd.isna(last["over_random"]):
        return text
    more = Estimate.from_row(last, "over_random", "images", "images")
    return f"{text}, at the end {spell_difference(more)} against the best random initialisation"


def _read(row: Mapping[Hashable, Any]) -> Estimate:
    return Estimate.from_row(row, "psnr", "images", "images", ends=("low", "high"))
