"""Lines of a value with its interval against the relative depth, one a model."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from sslens.figure import Line


def level_line(
    name: str, x: Float[np.ndarray, " point"], row: Any, columns: Sequence[str], *, control: bool
) -> Line:
    """A level line, of a model that has one tap.

    Args:
        name: of the model.
        x: the relative depths that the line spans.
        row: what is drawn.
        columns: the value and the ends of its interval.
        control: whether the model is a control.
    """
    y, low, high = (np.full(len(x), float(row[column])) for column in columns)
    return Line(name, x, y, low, high, control=control)


def lines_by_depth(frame: pd.DataFrame, columns: tuple[str, str, str]) -> Iterator[Line]:
    """A line a model; the last layer stands where its last block does, and raw pixels are a level
    line.

    Args:
        frame: rows with `model`, `control`, `pooling` and `depth`.
        columns: the value and the ends of its interval.
    """
    for name, rows in frame.groupby("model", sort=False):
        control = bool(rows.control.iloc[0])
        if len(rows) == 1 and rows.pooling.iloc[0] == "flat":
            ends = np.array([0.0, 1.0])
            yield level_line(str(name), ends, rows.iloc[0], columns, control=control)
            continue
        x, y, low, high = (rows[column].to_numpy(float) for column in ("depth", *columns))
        yield Line(str(name), x, y, low, high, control=control)
