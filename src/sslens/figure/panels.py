"""A figure as data: panels of values, of curves or of pictures in a grid, checked when they are
made."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from sslens.figure.pictures import Picture
from sslens.figure.sheets import Sheet


@dataclass(frozen=True, eq=False)
class Heatmap:
    """Values of rows against columns, in square cells; the first row lies at the bottom, so that a
    diagonal rises.

    A value of nan is undefined: its cell is grey and hatched, never in a colour of the scale.

    Attributes:
        title: the panel's title.
        values: the values.
        rows: labels of the rows, all different.
        columns: labels of the columns, all different.
        x_label: the label of the horizontal axis.
        y_label: the label of the vertical axis.
        limits: the values at the ends of the colour scale.
        unit: the name and unit of the values, beside the colour scale.
        facets: what the panel shows, by the name of the choice (`{"tokens": "CLS token"}`). On a
            page, the panels of a figure that have the same choices are one drawing with pickers.
        picks: the choice that a cell makes, which is named "row · column"; empty if it makes none.
        row_notes: what is said of each row where it is pointed at; the labels unless given.
        column_notes: the same of each column.

    >>> values, blocks = np.array([[1.0, 0.5]]), ("0", "1")
    >>> heatmap = Heatmap("", values, ("0",), blocks, "block", "block", (0.0, 1.0), "CKA")
    >>> heatmap.rows, heatmap.columns
    (('0',), ('0', '1'))

    Raises:
        ValueError: the labels do not fit the values or repeat, a value is infinite, or the limits
            do not rise.
    """

    title: str
    values: Float[np.ndarray, "row column"]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    x_label: str
    y_label: str
    limits: tuple[float, float]
    unit: str
    facets: Mapping[str, str] = field(default_factory=dict)
    picks: str = ""
    row_notes: tuple[str, ...] = ()
    column_notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.rows), len(self.columns)) or not self.values.size:
            raise ValueError(
                f"{self.values.shape} values with {len(self.rows)} rows and {len(self.columns)}"
                " columns"
            )
        if len(set(self.rows)) < len(self.rows) or len(set(self.columns)) < len(self.columns):
            raise ValueError(f"a label of {self.title!r} repeats")
        if len(self.row_notes) not in (0, len(self.rows)) or len(self.column_notes) not in (
            0,
            len(self.columns),
        ):
            raise ValueError(f"{self.title!r} has a note on some rows or columns, not on each")
        if np.isinf(self.values).any() or not self.limits[0] < self.limits[1]:
            raise ValueError(
                f"{self.title!r} has an infinite value, or limits that do not rise: {self.limits}"
            )


@dataclass(frozen=True, eq=False)
class Line:
    """One curve, with an interval if there is one; a value of nan is a gap.

    Attributes:
        name: the name in the legend; lines of one name have one style in all panels.
        x: the horizontal positions of the points.
        y: the values of the points.
        low: the lower ends of the interval; None without an interval.
        high: the upper ends of the interval; None without an interval.
        control: whether the line is a control, which is drawn dashed and muted.

    >>> Line("mae", np.array([0.0, 1.0]), np.array([0.25, 0.5])).control
    False

    Raises:
        ValueError: the arrays differ in length, or one bound is given without the other.
    """

    name: str
    x: Float[np.ndarray, " point"]
    y: Float[np.ndarray, " point"]
    low: Float[np.ndarray, " point"] | None = None
    high: Float[np.ndarray, " point"] | None = None
    control: bool = False

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError(f"{self.name!r} has one bound of an interval, not both")
        if any(
            array is not None and array.shape != self.x.shape
            for array in (self.y, self.low, self.high)
        ):
            raise ValueError(f"the arrays of {self.name!r} differ in length")


@dataclass(frozen=True, eq=False)
class Lines:
    """Curves on one pair of axes.

    Attributes:
        title: the panel's title.
        x_label: the label of the horizontal axis.
        y_label: the label of the vertical axis.
        lines: the curves.
        limits: the ends of the vertical axis; if None, all panels of the figure with the same
            `y_label` share one range that holds their data.
        log_x: whether the horizontal axis is logarithmic.
        facets: what the panel shows, by the name of the choice; as of a heat map.

    >>> Lines("k-NN", "depth", "accuracy", (), (0.0, 1.0)).log_x
    False
    """

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    limits: tuple[float, float] | None
    log_x: bool = False
    facets: Mapping[str, str] = field(default_factory=dict)


Panel: TypeAlias = Heatmap | Lines | Picture | Sheet


@dataclass(frozen=True, eq=False)
class Figure:
    """A grid of panels, row by row; None leaves a cell empty (the lower triangle of a grid of
    pairs).

    Heatmaps share one colour scale over all their limits, and lines of one name share one style.

    Attributes:
        name: the name of the figure.
        panels: the panels of the paper's figure.
        more: panels that only a page shows, where the reader picks them; there, such a panel
            stands in place of a panel of its kind with equal facets.

    >>> blocks = ("0", "1")
    >>> square = Heatmap("a", np.eye(2), blocks, blocks, "block", "block", (0.0, 1.0), "CKA")
    >>> len(Figure("cka", ((square, None),)).shown())
    1

    Raises:
        ValueError: the rows differ in length, nothing is shown, heatmaps differ in their unit, or a
            name belongs to a control in one panel and to no control in another.
    """

    name: str
    panels: tuple[tuple[Panel | None, ...], ...]
    more: tuple[Panel, ...] = ()

    def __post_init__(self) -> None:
        if len({len(row) for row in self.panels}) != 1 or not self.shown():
            raise ValueError(
                f"figure {self.name!r}: rows of one length and at least one panel are needed"
            )
        if len({panel.unit for panel in self.shown() if isinstance(panel, Heatmap)}) > 1:
            raise ValueError(
                f"figure {self.name!r}: heatmaps that share a colour scale have one unit"
            )
        lines = [line for panel in self.shown() if isinstance(panel, Lines) for line in panel.lines]
        names = {(line.name, line.control) for line in lines}
        if len(names) > len({name for name, _ in names}):
            raise ValueError(
                f"figure {self.name!r}: a line's name is a control's in one panel and not in"
                " another"
            )

    def shown(self) -> list[Panel]:
        """The panels in reading order, without the empty cells."""
        return [panel for row in self.panels for panel in row if panel is not None]
