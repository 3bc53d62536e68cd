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


def old_table(name: str, new: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The table of before, made of the tables that a command saves now.

    Args:
        name: of the old table, such as `cka-blocks`.
        new: all tables that the command saved, by the names of their files, as `Table.to_json`
        gives them.

    Today: the table of that name as it is.
    """
    return frame_of(new[name])


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
