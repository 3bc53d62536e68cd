"""What panels share: one colour scale, one line style a name, one range a label."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from sslens.figure.panels import Figure, Heatmap, Line, Lines, Panel

# Perceptually uniform, readable without red–green vision, and without a grey: undefined cells are
# grey.
SCALE = "viridis"
UNDEFINED, HATCH = "#d9d9d9", "#8c8c8c"
# Okabe & Ito (2008), "Color universal design", less yellow and black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
CONTROLS = ("#7a7f87", "#a0a4ab")
MARKERS = (
    ("circle", "o"),
    ("square", "s"),
    ("diamond", "D"),
    ("triangle-up", "^"),
    ("cross", "P"),
    ("x", "X"),
)
DASHES = (("dash", "--"), ("dot", ":"), ("dashdot", "-."))
TEXT, TICK = 12.0, 11.0


@dataclass(frozen=True)
class Style:
    """How a line is drawn: its marker and dash as plotly and as matplotlib name them; a control has
    no marker."""

    name: str
    colour: str
    marker: tuple[str, str] | None
    dash: tuple[str, str]


def line_styles(figure: Figure) -> dict[str, Style]:
    """A style a name, in the order of first appearance: a name looks the same in all panels.

    >>> x = np.zeros(1)
    >>> panel = Lines("", "depth", "accuracy", (Line("mae", x, x), Line("random", x, x, control=True)), None)
    >>> [style.dash[0] for style in line_styles(Figure("knn", ((panel,),))).values()]
    ['solid', 'dash']
    """
    styles: dict[str, Style] = {}
    for panel in figure.shown():
        for line in panel.lines if isinstance(panel, Lines) else ():
            if line.name in styles:
                continue
            of_kind = sum((style.marker is None) == line.control for style in styles.values())
            if line.control:
                styles[line.name] = Style(
                    line.name, CONTROLS[of_kind % 2], None, DASHES[of_kind % 3]
                )
            else:
                marker = MARKERS[(of_kind + of_kind // len(COLOURS)) % len(MARKERS)]
                styles[line.name] = Style(
                    line.name, COLOURS[of_kind % len(COLOURS)], marker, ("solid", "-")
                )
    return styles


def colour_limits(figure: Figure) -> tuple[float, float]:
    """The ends of the one colour scale: the limits of all heatmaps."""
    limits = [panel.limits for panel in figure.shown() if isinstance(panel, Heatmap)]
    return min(low for low, _ in limits), max(high for _, high in limits)


def bar_ticks(low: float, high: float) -> list[float]:
    """Round values within the limits of the colour scale, four to eight of them.

    >>> bar_ticks(-0.5, 1.0)
    [-0.5, 0.0, 0.5, 1.0]
    """
    magnitude = 10.0 ** math.floor(math.log10(high - low))
    step = next(s for s in (0.2 * magnitude, 0.5 * magnitude, magnitude) if (high - low) / s <= 7)
    return [
        round(index * step, 9)
        for index in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    ]


def any_undefined(figure: Figure) -> bool:
    """Whether a heatmap has a cell without a value, so that the header must explain its look."""
    return any(
        isinstance(panel, Heatmap) and bool(np.isnan(panel.values).any())
        for panel in figure.shown()
    )


def written(figure: Figure, panel: Heatmap) -> bool:
    """Whether cells are large enough on every width to write their values into them."""
    largest = max(panel.values.shape)
    return largest <= 3 or (largest <= 8 and len(figure.shown()) == 1)


def axis_key(panel: Panel | None, axis: str) -> tuple[Any, ...]:
    """What neighbours must agree on to show this axis once."""
    if panel is None:
        return ()
    label = panel.x_label if axis == "x" else panel.y_label
    if isinstance(panel, Heatmap):
        return label, panel.columns if axis == "x" else panel.rows
    return label, panel.log_x if axis == "x" else panel.limits


def extent(figure: Figure, panel: Lines, axis: str) -> tuple[float, float]:
    """The range of an axis: the panel's limits, else what all panels with this label need and a
    margin."""
    if axis == "y" and panel.limits is not None:
        return panel.limits
    like = [
        p
        for p in figure.shown()
        if isinstance(p, Lines) and axis_key(p, axis) == axis_key(panel, axis)
    ]
    arrays = [
        (line.x,) if axis == "x" else (line.y, line.low, line.high)
        for p in like
        for line in p.lines
    ]
    values = np.concatenate(
        [np.zeros(0), *(array for array in itertools.chain(*arrays) if array is not None)]
    )
    values = values[np.isfinite(values)]
    if axis == "x" and panel.log_x:
        values = np.log10(values)
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    margin = 0.04 * (high - low) or 0.5
    return low - margin, high + margin


def runs(line: Line) -> Iterator[slice]:
    """The runs of points between the gaps of a line's interval.

    >>> low = np.array([0.0, np.nan, 0.0, 0.0])
    >>> list(runs(Line("mae", np.arange(4.0), low, low, low)))
    [slice(0, 1, None), slice(2, 4, None)]
    """
    assert line.low is not None
    assert line.high is not None
    defined = np.isfinite(line.low) & np.isfinite(line.high)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], defined, [False]])))
    return (slice(int(start), int(stop)) for start, stop in edges.reshape(-1, 2))
