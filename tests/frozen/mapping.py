"""From the tables of any later code to the tables of before, and how two of them differ.

The old tables of several analyses have a column `row` that says what a row is. Later code may keep
a table a kind of row, and other names of columns. `old_table` is the one place that knows: whoever
splits a table extends it, and both the tests and `runs/frozen/compare.py` then compare as before.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

#: columns of numbers that say what a row is about, beside all columns of text
NAMING = (
    "depth",
    "depth_a",
    "depth_b",
    "distance",
    "record",
    "layers",
    "k",
    "batch",
    "images",
    "minibatches",
    "temperature",
    "point",
    "draw",
    "lr",
    "weight_decay",
)
#: such columns that are a result where probes were trained: which point of the grid was chosen
CHOSEN = (
    "lr",
    "weight_decay",
    "min_lr",
    "warmup",
    "epochs",
    "points",
    "diverged",
    "chosen",
    "penalty",
    "temperature",
)


def frame_of(table: Mapping[str, Any]) -> pd.DataFrame:
    """A table of JSON as a data frame."""
    kinds = table["kinds"]
    return pd.DataFrame(
        {name: pd.Series(cells, dtype=kinds[name]) for name, cells in table["columns"].items()}
    )


#: the value of the old column `row` by new table; None where there was no such row
PAIRS = {"cells": "cell", "means": "mean", "late": "late", "families": "families"}
FAMILIES = {
    "families-all-pairs": "families, all pairs of taps",
    "families-by-depth": "families at a depth",
    "families-controls": None,
    "family-members": None,
}
#: the same of every analysis whose table was split, by analysis
ROWS: dict[str, dict[str, str | None]] = {
    "cka-blocks": {**PAIRS, **FAMILIES},
    "cka-layer-types": {
        **PAIRS,
        **FAMILIES,
        "types": "types",
        "families-types": "families, types",
    },
    "cka-msn": {**PAIRS},
    "cka-finetune": {
        **PAIRS,
        "matched": "matched",
        "fine-tuned": "fine-tuned",
        "beyond-control": "beyond the control",
        "families-rise-by-type": "rise by type",
        "families-beyond-control": "beyond the control",
    },
    "cka-distance": {
        "curves": "curve",
        "control": "control",
        "objective": "objective",
        "objective-by-distance": "objective at a distance",
    },
}


def old_table(name: str, new: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The table of before, made of the tables that a command saves now.

    Args:
        name: of the old table, such as `cka-blocks`.
        new: all tables that the command saved, by the names of their files, as `Table.to_json`
            gives them.

    A table that was not split is as it was; of the others the rows are put below each other again.
    """
    if name not in ROWS:
        return frame_of(new[name])
    tables = {
        path.removeprefix(f"{name}/"): frame_of(table)
        for path, table in new.items()
        if path == name or path.startswith(f"{name}/")
    }
    if list(tables) == [name]:  # of several tables a single one has rows, the first
        tables = {next(iter(ROWS[name])): tables[name]}
    frames = [
        _old_rows(name, table, frame, tables)
        for table, frame in tables.items()
        if ROWS[name][table] is not None
    ]
    joined = pd.concat(frames, ignore_index=True)
    for column in joined:
        texts = [value for value in joined[column] if isinstance(value, str)]
        if texts:
            joined[column] = joined[column].astype(object).where(joined[column].notna(), "")
    return joined


def _old_rows(
    name: str, table: str, frame: pd.DataFrame, tables: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """The rows of a new table with the columns that they had; constants were left out since."""
    old = frame.rename(columns={"rise": "cka"}).assign(row=ROWS[name][table])
    if "depth" in old:
        old = old.assign(depth_a=old.depth, depth_b=old.depth)
    if "less" in old and "together" not in old:
        old = old.assign(together=np.where(old.less != "", 1.0, np.nan))
    if name == "cka-distance":
        return old if "pairs" in old else old.assign(pairs=1)
    if table != "cells":
        old = old.assign(tap_a="same depth", tap_b="same depth")
    cells = tables["cells"]
    if name == "cka-msn":
        old = old.assign(msn=old.model_a.isin(cells[cells.msn].model_a))
    if name == "cka-finetune":
        tuned = {*cells[cells.tuned_a].model_a, *cells[cells.tuned_b].model_b}
        old = old.assign(tuned_a=old.model_a.isin(tuned), tuned_b=old.model_b.isin(tuned))
    constants = {"pairs": 1, "control": False, "members": "", "less": "", "kind": ""}
    missing = {column: value for column, value in constants.items() if column not in old}
    empty = {
        column: np.nan
        for column in ("p", "threshold", "depth_a", "depth_b", "difference", "together")
        if column not in old
    }
    return old.assign(**missing, **empty)


@dataclass(frozen=True)
class Apart:
    """How two tables differ.

    Attributes:
        said: what is not equal that should be: rows, columns, whole numbers, texts; empty where all
        is. largest: the largest difference of two floats. where: the column of it.
    """

    said: tuple[str, ...]
    largest: float
    where: str


def apart(old: pd.DataFrame, new: pd.DataFrame, *, chosen: bool = True) -> Apart:
    """Hold a new table against the old one; rows may be in another order, columns may be added.

    Args:
        chosen: whether what was chosen by training must be the same too; False leaves these columns
        out.
    """
    said = [f"no column {name}" for name in old.columns if name not in new.columns]
    if said or len(old) != len(new):
        return Apart((*said, f"{len(old)} rows and now {len(new)}"), float("nan"), "")
    columns = [name for name in old.columns if chosen or name not in CHOSEN]
    old, new = _sorted(old[columns]), _sorted(new[columns])
    largest, where = 0.0, ""
    for name in columns:
        one, other = old[name], new[name]
        if one.dtype.kind == "f":
            a, b = one.to_numpy(float), other.to_numpy(float)
            if (np.isnan(a) != np.isnan(b)).any():
                said.append(f"{name}: other cells are empty")
                continue
            equal = (a == b) | np.isnan(a)  # infinities too
            difference = np.abs(np.where(equal, 0.0, a - b))
            if len(difference) and difference.max() > largest:
                largest, where = float(difference.max()), name
        elif list(one) != list(other):
            at = next(i for i, (x, y) in enumerate(zip(one, other, strict=True)) if x != y)
            said.append(f"{name}: {one.iloc[at]!r} is now {other.iloc[at]!r}")
    return Apart(tuple(said), largest, where)


def naming(frame: pd.DataFrame) -> list[str]:
    """The columns that say what a row is about."""
    texts = [
        name
        for name in frame.columns
        if frame[name].dtype.kind in "OUT" or str(frame[name].dtype) == "str"
    ]
    return texts + [name for name in NAMING if name in frame.columns and name not in texts]


def _sorted(frame: pd.DataFrame) -> pd.DataFrame:
    keys = naming(frame)
    plain = frame[keys].copy()
    for name in keys:
        plain[name] = (
            plain[name].round(9) if plain[name].dtype.kind == "f" else plain[name].astype(str)
        )
    order = plain.sort_values(keys, kind="stable").index if keys else frame.index
    return frame.loc[order].reset_index(drop=True)
