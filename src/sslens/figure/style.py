"""The style that the panels of a figure share: one colour scale for all heatmaps, one style for all
lines of a name, one range for all axes with a label."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from sslens.figure.panels import Figure, Heatmap, Line, Lines, Panel
from sslens.figure.pictures import Picture
from sslens.figure.sheets import Sheet

#: perceptually uniform, readable without red–green vision, and without a grey, because undefined
#: cells are grey
SCALE = "viridis"
UNDEFINED, HATCH = "#d9d9d9", "#8c8c8c"
#: Okabe & Ito (2008), "Color universal design", without yellow and black
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
CONTROLS = ("#7a7f87", "#a0a4ab")
#: of the same palette, with its yellow, which reads well on pictures
OUTLINES = ("#F0E442", "#56B4E9", "#D55E00", "#CC79A7")
MARKERS = (
    ("circle", "o"),
    ("square", "s"),
    ("diamond", "D"),
    ("triangle-up", "^"),
    ("cross", "P"),
    ("x", "X"),
)
Dash: TypeAlias = tuple[str, Literal["-", "--", ":", "-."]]
DASHES: tuple[Dash, ...] = (("dash", "--"), ("dot", ":"), ("dashdot", "-."))
SOLID: Dash = ("solid", "-")
TEXT, TICK = 12.0, 11.0  # the sizes of text and of labels of ticks, in CSS pixels


@dataclass(frozen=True)
class Style:
    """The style of a line.

    Attributes:
        name: the name that all lines of this style have.
        colour: the colour, as hexadecimal digits after #.
        marker: plotly's and matplotlib's name of the marker; None for a control.
        dash: plotly's and matplotlib's name of the dash.
    """

    name: str
    colour: str
    marker: tuple[str, str] | None
    dash: Dash


def choose_styles(figure: Figure) -> dict[str, Style]:
    """Give each name of lines and outlines a style, so that it looks the same in all panels.

    Names are in the order of their first appearance.

    >>> x = np.zeros(1)
    >>> lines = (Line("mae", x, x), Line("random", x, x, control=True))
    >>> panel = Lines("", "depth", "accuracy", lines, None)
    >>> [style.dash[0] for style in choose_styles(Figure("knn", ((panel,),))).values()]
    ['solid', 'dash']
    """
    styles: dict[str, Style] = {}
    for panel in figure.shown():
        for line in panel.lines if isinstance(panel, Lines) else ():
            if line.name in styles:
                continue
            number = sum((style.marker is None) == line.control for style in styles.values())
            if line.control:
                colour, marker, dash = CONTROLS[number % 2], None, DASHES[number % 3]
            else:
                colour, dash = COLOURS[number % len(COLOURS)], SOLID
                marker = MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]
            styles[line.name] = Style(line.name, colour, marker, dash)
        for outline in panel.outlines if isinstance(panel, Picture) else ():
            if outline.name not in styles:
                number = sum(style.marker is None for style in styles.values())
                colour = OUTLINES[number % len(OUTLINES)]
                styles[outline.name] = Style(outline.name, colour, None, SOLID)
    return styles


def find_colour_limits(figure: Figure) -> tuple[float, float]:
    """Return the ends of the shared colour scale: the lowest and the highest limit of all
    heatmaps."""
    limits = [panel.limits for panel in figure.shown() if isinstance(panel, Heatmap)]
    return min(low for low, _ in limits), max(high for _, high in limits)


def choose_bar_ticks(low: float, high: float) -> list[float]:
    """Round values within the limits of the colour scale, four to eight of them.

    >>> choose_bar_ticks(-0.5, 1.0)
    [-0.5, 0.0, 0.5, 1.0]
    """
    magnitude = 10.0 ** math.floor(math.log10(high - low))
    step = next(
        s
        for s in (0.2 * magnitude, 0.5 * magnitude, magnitude, 2 * magnitude)
        if (high - low) / s <= 7
    )
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 9) for index in range(first, last + 1)]


def has_undefined(figure: Figure) -> bool:
    """Whether a heatmap has an undefined cell, which the header must then explain."""
    maps = [panel for panel in figure.shown() if isinstance(panel, Heatmap)]
    return any(bool(np.isnan(panel.values).any()) for panel in maps)


def are_values_written(figure: Figure, panel: Heatmap) -> bool:
    """Whether the values are written into the cells: if the cells are large enough at every width
    of the figure."""
    rows, columns = panel.values.shape
    if max(rows, columns) <= 3:
        return True
    others = [
        sum(other is not None and not isinstance(other, Picture | Sheet) for other in row)
        for row in figure.panels
    ]
    # a heatmap is at most half as high again as it is wide
    return columns <= 8 and rows <= max(8, 1.5 * columns) and max(others) == 1


def make_axis_key(panel: Panel | None, axis: str) -> tuple[Any, ...]:
    """Return a key that is equal for two panels if one set of labels serves both of their axes.

    `axis` is "x" or "y"; the key of no panel is empty.
    """
    if panel is None:
        return ()
    if isinstance(panel, Picture | Sheet):  # its labels, if it has any, are its own
        return axis, id(panel)
    label = panel.x_label if axis == "x" else panel.y_label
    if isinstance(panel, Heatmap):
        return label, panel.columns if axis == "x" else panel.rows
    return label, panel.log_x if axis == "x" else panel.limits


def find_extent(figure: Figure, panel: Lines | Picture | Sheet, axis: str) -> tuple[float, float]:
    """Compute the range of an axis, "x" or "y".

    Of a picture or a sheet it is the edges, with the first row at the top. Else it is the panel's
    limits, if there are any; else the range of the data in all panels with an equal axis
    (`make_axis_key`), plus a margin. On a logarithmic axis it is the range of log10 x.
    """
    if isinstance(panel, Picture | Sheet):
        height, width = panel.size
        return (0.0, float(width)) if axis == "x" else (float(height), 0.0)
    if axis == "y" and panel.limits is not None:
        return panel.limits
    arrays: list[np.ndarray | None] = [np.zeros(0)]
    for other in figure.shown():
        if isinstance(other, Lines) and make_axis_key(other, axis) == make_axis_key(panel, axis):
            for line in other.lines:
                arrays += [line.x] if axis == "x" else [line.y, line.low, line.high]
    values = np.concatenate([array for array in arrays if array is not None])
    values = values[np.isfinite(values)]
    if axis == "x" and panel.log_x:
        values = np.log10(values)
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    margin = 0.04 * (high - low) or 0.5
    return low - margin, high + margin


def find_runs(line: Line) -> Iterator[slice]:
    """Find the slices of consecutive points at which a line's interval is defined.

    >>> low = np.array([0.0, np.nan, 0.0, 0.0])
    >>> list(find_runs(Line("mae", np.arange(4.0), low, low, low)))
    [slice(0, 1, None), slice(2, 4, None)]
    """
    assert line.low is not None
    assert line.high is not None
    defined = np.isfinite(line.low) & np.isfinite(line.high)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], defined, [False]])))
    return (slice(int(start), int(stop)) for start, stop in edges.reshape(-1, 2))
