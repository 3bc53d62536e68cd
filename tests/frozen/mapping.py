"""From the tables of any later code to the tables of before, and how two of them differ.

The old tables of several analyses had a column `row` that says what a row is. Later code keeps a
table a kind of row, each with the columns that its rows use. `PARTS` says which tables these are
and what was in the columns that they have no more. `old_table` makes the old table of them, so that
both the tests and `runs/frozen/compare.py` compare as before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Part:
    """A kind of row of an old table, which is a table now.

    Attributes:
        row: what the column `row` held.
        filled: what was in columns that the new table has no more; all other such columns were
            empty, or False.
        renamed: old names of columns, by their new names.
        dropped: columns of the new table that were empty in these rows.
        only: what a column must hold, or a tuple of what it may; other rows are new.
    """

    row: str
    filled: Mapping[str, Any] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    only: Mapping[str, Any] = field(default_factory=dict)


SAME = {"tap_a": "same depth", "tap_b": "same depth"}
ONE = {"pairs": 1}
PAIR = SAME | ONE
#: the tables of pairs of models
PAIRS = {"cells": Part("cell", ONE), "means": Part("mean", PAIR), "late": Part("late", PAIR)}
#: the tables of families
FAMILIES = {
    "families": Part("families", SAME),
    "families-all-pairs": Part("families, all pairs of taps", SAME),
    "families-by-depth": Part("families at a depth", SAME),
}
RISE = {"rise": "cka"}
AGREEMENT = {"measure": ("tau", "tau first", "f1", "f1 weighted", "same", "kappa")}
#: of each analysis that had a column `row` the tables that it has now
PARTS: Mapping[str, Mapping[str, Part]] = {
    "cka-blocks": PAIRS | FAMILIES,
    "cka-layer-types": PAIRS
    | FAMILIES
    | {
        "types": Part("types", PAIR),
        "families-types": Part("families, types", SAME, only={"model_b": "REC"}),
    },
    "cka-finetune": PAIRS
    | {
        "matched": Part("matched", PAIR, dropped=("recipe",)),
        "fine-tuned": Part("fine-tuned", PAIR),
        "beyond-control": Part("beyond the control", PAIR, RISE),
        "families": Part("families", SAME),
        "families-rise-by-type": Part("rise by type", SAME),
        "families-beyond-control": Part("beyond the control", SAME, RISE),
    },
    "cka-msn": PAIRS | {"families": Part("families", SAME)},
    "cka-distance": {
        "curves": Part("curve", ONE),
        "control": Part("control", ONE),
        "objective": Part("objective"),
        "objective-by-distance": Part("objective at a distance"),
    },
    # standardised features came later, beside the raw ones
    "knn-depth": {"accuracies": Part("accuracy", only={"features": "raw"})},
    "knn": {"knn": Part("choice", only={"features": "raw"})},
    "finetune-path": {
        "records": Part("record"),
        "differences": Part("difference"),
    },
    # F1 of being right and tau of the lists of classes came later
    "agreement": {
        "pairs": Part("pair", ONE, only=AGREEMENT),
        "families": Part("families", only=AGREEMENT),
    },
    "probe-depth": {
        "probes": Part("probe"),
        "second-seeds": Part("second seed"),
        "families": Part("family", dropped=("images",)),
    },
    "probe-layers": {
        "probes": Part("probe"),
        "families": Part("family", dropped=("images",)),
        "fine-tuned": Part("fine-tuned", dropped=("images",)),
    },
}
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


_ENDS = ("low", "high")
_DIFFERENCE_ENDS = ("difference_low", "difference_high")
_AGREED = ("value", "chance", "count", "accuracy_a", "accuracy_b", "difference")
_GAIN_ENDS = ("gain_low", "gain_high", "over_low", "over_high", *_DIFFERENCE_ENDS)
#: columns that are left out, by old table: their intervals are by other methods since part G
#: (CHANGELOG, "Intervals cover"); Wilson's intervals and all values are held as before
REDONE: Mapping[str, tuple[str, ...]] = {
    # predictions come from converged logistic probes instead of ridge regressions
    "agreement": (*_AGREED, *_ENDS, *_DIFFERENCE_ENDS),
    "knn-depth": _GAIN_ENDS,
    "probe-depth": _GAIN_ENDS,
    "probe-layers": _GAIN_ENDS,
    "knn": _ENDS,
    **dict.fromkeys(
        ("cka-blocks", "cka-layer-types", "cka-finetune", "cka-msn", "cka-distance"),
        _ENDS + _DIFFERENCE_ENDS,
    ),
    "cka-convergence": _ENDS,
    "factors-depth": (*_ENDS, "decoded_low", "decoded_high"),
    "factors": _ENDS,
}


#: the same in one case alone: `sslens probe` chooses on another fifth of the training images, on
#: that of `sslens compare`
REDONE_IN: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("live-probe", "factors"): ("value", "decoded")
}


#: rows of before that are no more, by the column that tells them: joint embedding with itself asks
#: for two objectives now, and moco1 is another training of moco's
GONE: Mapping[str, Mapping[str, str]] = {"agreement": {"members": "JE: moco and moco1; REC: mae"}}


#: numbers that are others now, by old table: what marks their rows, and their columns. Of the
#: blocks of the CNN that lie equally near to one of the transformer's the earlier one is taken now,
#: and rounding chose before; features that vary by rounding alone (MoCo-v3's CLS token after one
#: block) have no neighbours now. Chance of a factor with classes is the share of the test images'
#: most frequent class now; that of the training images' lay below one divided by their number
MOVED: Mapping[str, tuple[Mapping[str, str], tuple[str, ...]]] = {
    "cka-distance": ({"row": "objective"}, ("cka", "difference")),
    "factors": ({"measure": "accuracy"}, ("chance", "decoded")),
    "factors-depth": ({"measure": "accuracy"}, ("chance", "decoded")),
    "knn-depth": (
        {"model": "scenes_moco_v3", "tap": "blocks.0", "pooling": "cls"},
        ("accuracy", *_ENDS),
    ),
}


#: the model that was fine-tuned on the mean of its patches, the tables in which it was read by its
#: CLS token and is read as its classifier is now, the rows that are about what is usually read, and
#: the columns that say which that is
READ = "mae-ft"
READ_IN = ("factors-depth", "probe-depth", "probe-layers")
READ_ROWS, READ_COLUMNS = ("second seed", "fine-tuned"), ("main", "usual", "over")


def drop_gone(name: str, old: pd.DataFrame) -> pd.DataFrame:
    """Leave out the rows of a table of before that are no more, and numbers that are others now."""
    for column, value in GONE.get(name, {}).items():
        old = old[old[column] != value]
    return _blank_moved(name, old)


def _blank_read(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Leave out what follows from how `READ` is read."""
    if name not in READ_IN:
        return frame
    if "row" in frame:
        frame = frame[~((frame.model == READ) & frame.row.isin(READ_ROWS))]
    own = frame.model == READ
    blanked = {
        one: frame[one].mask(own, False if frame[one].dtype.kind == "b" else np.nan)
        for one in READ_COLUMNS
        if one in frame
    }
    return frame.assign(**blanked)


def _blank_moved(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Leave out the numbers of `MOVED`, and those that follow from how a model is read."""
    frame = _blank_read(name, frame)
    if name not in MOVED:
        return frame
    marks, columns = MOVED[name]
    moved = pd.Series(True, frame.index)
    for column, value in marks.items():
        moved &= frame[column] == value
    return frame.assign(**{one: frame[one].mask(moved) for one in columns})


def frame_of(table: Mapping[str, Any]) -> pd.DataFrame:
    """A table of JSON as a data frame."""
    kinds = table["kinds"]
    return pd.DataFrame(
        {name: pd.Series(cells, dtype=kinds[name]) for name, cells in table["columns"].items()}
    )


def old_table(name: str, new: Mapping[str, Mapping[str, Any]], old: pd.DataFrame) -> pd.DataFrame:
    """The table of before, made of the tables that a command saves now.

    Args:
        name: of the old table, such as `cka-blocks`.
        new: all tables that the command saved, by the names of their files, as `Table.to_json`
            gives them.
        old: the table of before, of which the columns and their types are taken.
    """
    if name == "other-measures":  # deconfounded CKA came later
        frame = frame_of(new[name])
        return frame[frame.measure != "deconfounded-cka"]
    if name not in PARTS:
        return _blank_moved(name, frame_of(new[name]))
    tables = _list_tables(name, new)
    frames = [
        _old_rows(part, tables[table]) for table, part in PARTS[name].items() if table in tables
    ]
    frame = pd.concat(frames, ignore_index=True)
    if name == "cka-finetune":  # the models that were tuned were told of all rows
        cells = tables["cells"]
        tuned = set(cells[cells.tuned_a].model_a) | set(cells[cells.tuned_b].model_b)
        frame = frame.assign(tuned_a=frame.model_a.isin(tuned), tuned_b=frame.model_b.isin(tuned))
    if name == "finetune-path":  # a difference named its first role twice
        frame["model"] = frame.model.where(frame.row == "record", frame.role)
    return _blank_moved(name, _with_types(frame, old))


def _list_tables(name: str, new: Mapping[str, Mapping[str, Any]]) -> dict[str, pd.DataFrame]:
    """The tables of an analysis by name; a single one has the file of the analysis."""
    if name in new:
        return {next(iter(PARTS[name])): frame_of(new[name])}
    own = {path: table for path, table in new.items() if path.startswith(f"{name}/")}
    return {path.removeprefix(f"{name}/"): frame_of(table) for path, table in own.items()}


def _old_rows(part: Part, frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of a new table as they were in the old one."""
    if "unit" in frame:  # the distance of layers was of relative depths alone
        frame = frame[frame.unit == "depth"].drop(columns="unit")
    for column, value in part.only.items():
        frame = frame[frame[column].isin(value if isinstance(value, tuple) else (value,))]
    frame = frame.drop(columns=list(part.dropped)).rename(columns=dict(part.renamed))
    frame = frame.assign(row=part.row)
    for column, value in part.filled.items():
        if column not in frame:
            frame[column] = value
    if "less" in frame and "together" not in frame:
        frame["together"] = np.where(frame.less != "", 1.0, np.nan)
    if part.row == "families at a depth":
        frame = frame.assign(depth_a=frame.depth, depth_b=frame.depth)
    return frame


def _with_types(frame: pd.DataFrame, old: pd.DataFrame) -> pd.DataFrame:
    """The columns of an old table, with their types; what a row does not say is empty or False."""
    columns = {}
    for name in old.columns:
        column = frame[name] if name in frame else pd.Series(np.nan, frame.index)
        kind = old[name].dtype
        if kind.kind == "b":
            columns[name] = column.eq(True)
        elif kind.kind in "iu" and column.notna().all():
            columns[name] = column.astype(kind)
        elif kind.kind in "fiu":
            columns[name] = column.astype(float)
        else:
            columns[name] = column.astype(object).where(column.notna(), "")
    return pd.DataFrame(columns)


@dataclass(frozen=True)
class Apart:
    """How two tables differ.

    Attributes:
        said: what is not equal that should be: rows, columns, whole numbers, texts; empty where all
            is.
        largest: the largest difference of two floats.
        where: the column of it.
    """

    said: tuple[str, ...]
    largest: float
    where: str


def apart(
    old: pd.DataFrame, new: pd.DataFrame, *, chosen: bool = True, redone: Sequence[str] = ()
) -> Apart:
    """Hold a new table against the old one; rows may be in another order, columns may be added.

    Args:
        redone: columns that are there but may hold other numbers (`REDONE`).
        chosen: whether what was chosen by training must be the same too; False leaves these columns
        out.
    """
    said = [f"no column {name}" for name in old.columns if name not in new.columns]
    if said or len(old) != len(new):
        return Apart((*said, f"{len(old)} rows and now {len(new)}"), float("nan"), "")
    columns = [
        name for name in old.columns if (chosen or name not in CHOSEN) and name not in redone
    ]
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
