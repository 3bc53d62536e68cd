"""Curves of a value with its interval against the relative depth, one curve per model."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from sslens.figure import Line


def make_level_line(
    name: str, x: Float[np.ndarray, " point"], row: Any, columns: Sequence[str], *, control: bool
) -> Line:
    """Make the horizontal line of a model that has only one tap.

    Args:
        name: the model's name.
        x: the relative depths, 0 to 1, that the line spans.
        row: the row of a table (a mapping or a Series) that holds the value.
        columns: the columns of the value, of the lower end and of the upper end.
        control: whether the model is a control.
    """
    y, low, high = (np.full(len(x), float(row[column])) for column in columns)
    return Line(name, x, y, low, high, control=control)


def lines_by_depth(frame: pd.DataFrame, columns: tuple[str, str, str]) -> Iterator[Line]:
    """Make one curve per model, with the points in the order of the rows.

    Raw pixels, which have a single row with the pooling "flat", become a horizontal line.

    Args:
        frame: rows with the columns `model`, `control`, `pooling` and `depth`, and with `columns`.
        columns: the columns of the value, of the lower end and of the upper end.
    """
    for name, rows in frame.groupby("model", sort=False):
        control = bool(rows.control.iloc[0])
        if len(rows) == 1 and rows.pooling.iloc[0] == "flat":
            ends = np.array([0.0, 1.0])
            yield make_level_line(str(name), ends, rows.iloc[0], columns, control=control)
            continue
        x, y, low, high = (rows[column].to_numpy(float) for column in ("depth", *columns))
        yield Line(str(name), x, y, low, high, control=control)
