"""A figure as data: an analysis states once what is drawn, and it is rendered for the screen (plotly) and for paper.

Both renderings use one arrangement in CSS pixels, one colour scale and one line style a name, so that they show the same thing.
"""

import html
import itertools
import math
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from jaxtyping import Float

from sslens.store import write_beside

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure

WIDE, NARROW, PAPER = 960, 350, 720
"""The widths, in CSS pixels, that a figure is arranged for: a desktop, a phone, a printed page."""

SWITCH = 640
"""The room, in CSS pixels, below which the arrangement for a phone is taken."""

# Perceptually uniform, readable without red–green vision, and without a grey: undefined cells are grey.
SCALE = "viridis"
UNDEFINED, HATCH = "#d9d9d9", "#8c8c8c"
# Okabe & Ito (2008), "Color universal design", less yellow and black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
CLEAR = "rgba(0,0,0,0)"
CONTROLS = ("#7a7f87", "#a0a4ab")
MARKERS = (("circle", "o"), ("square", "s"), ("diamond", "D"), ("triangle-up", "^"), ("cross", "P"), ("x", "X"))
DASHES = (("dash", "--"), ("dot", ":"), ("dashdot", "-."))
TEXT, TICK = 12.0, 11.0
POINT = 0.67  # of a pixel, less than its 0.75: DejaVu runs wide
BAR, BAR_STRIP, INSET = 220.0, 58.0, 10.0
LARGEST_CELL = 72.0
LETTER = 6.3  # the mean width of a letter at the size of a tick label


@dataclass(frozen=True, eq=False)
class Heatmap:
    """Values of rows against columns, in square cells; the first row lies at the bottom, so that a diagonal rises.

    A value that is nan is undefined: its cell is grey and hatched, never a colour of the scale.

    >>> Heatmap("", np.array([[1.0, 0.5]]), ("0",), ("0", "1"), "block", "block", (0.0, 1.0), "CKA").values.shape
    (1, 2)

    Raises:
        ValueError: the labels do not fit the values or repeat, a value is infinite, or the limits do not rise.
    """

    title: str
    values: Float[np.ndarray, "row column"]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    x_label: str
    y_label: str
    limits: tuple[float, float]
    unit: str

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.rows), len(self.columns)) or not self.values.size:
            raise ValueError(f"{self.values.shape} values with {len(self.rows)} rows and {len(self.columns)} columns")
        if len(set(self.rows)) < len(self.rows) or len(set(self.columns)) < len(self.columns):
            raise ValueError(f"a label of {self.title!r} repeats")
        if np.isinf(self.values).any() or not self.limits[0] < self.limits[1]:
            raise ValueError(f"{self.title!r} has an infinite value, or limits that do not rise: {self.limits}")


@dataclass(frozen=True, eq=False)
class Line:
    """One curve; `low` and `high` bound its interval, nan is a gap, a control is drawn dashed and muted.

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
        if any(array is not None and array.shape != self.x.shape for array in (self.y, self.low, self.high)):
            raise ValueError(f"the arrays of {self.name!r} differ in length")


@dataclass(frozen=True, eq=False)
class Lines:
    """Curves on one pair of axes; without `limits` the panels of a figure that share a y label share its range.

    >>> Lines("k-NN", "depth", "accuracy", (), (0.0, 1.0)).log_x
    False
    """

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    limits: tuple[float, float] | None
    log_x: bool = False


Panel: TypeAlias = Heatmap | Lines


@dataclass(frozen=True, eq=False)
class Figure:
    """A grid of panels, row by row; None leaves a cell empty (the lower triangle of a grid of pairs).

    Heatmaps share one colour scale over all their limits, and lines of one name share one style.

    >>> square = Heatmap("a", np.eye(2), ("0", "1"), ("0", "1"), "block", "block", (0.0, 1.0), "CKA")
    >>> len(Figure("cka", ((square, None),)).shown())
    1

    Raises:
        ValueError: the rows differ in length, nothing is shown, heatmaps differ in their unit, or a name is a control's and not.
    """

    name: str
    panels: tuple[tuple[Panel | None, ...], ...]

    def __post_init__(self) -> None:
        if len({len(row) for row in self.panels}) != 1 or not self.shown():
            raise ValueError(f"figure {self.name!r}: rows of one length and at least one panel are needed")
        if len({panel.unit for panel in self.shown() if isinstance(panel, Heatmap)}) > 1:
            raise ValueError(f"figure {self.name!r}: heatmaps that share a colour scale have one unit")
        names = {
            (line.name, line.control) for panel in self.shown() if isinstance(panel, Lines) for line in panel.lines
        }
        if len(names) > len({name for name, _ in names}):
            raise ValueError(f"figure {self.name!r}: a line's name is a control's in one panel and not in another")

    def shown(self) -> list[Panel]:
        """The panels in reading order, without the empty cells."""
        return [panel for row in self.panels for panel in row if panel is not None]


def stacked(figure: Figure) -> Figure:
    """The figure for a narrow screen, in the same reading order: lines one below another, more than two heatmaps two a row.

    A grid stays as it is where a panel has no title of its own: its place says what it is.

    >>> panel = Lines("CLS", "depth", "accuracy", (), (0.0, 1.0))
    >>> stacked(Figure("knn", ((panel, panel),))).panels == ((panel,), (panel,))
    True
    """
    shown = figure.shown()
    if len(figure.panels[0]) == 1 or not all(panel.title for panel in shown):
        return figure
    pairs = Figure(figure.name, tuple(tuple((*shown, None)[i : i + 2]) for i in range(0, len(shown), 2)))
    if all(isinstance(panel, Heatmap) for panel in shown) and _arrange(pairs, NARROW).width <= NARROW:
        return pairs
    return Figure(figure.name, tuple((panel,) for panel in shown))


def save(figure: Figure, path: Path) -> None:
    """Write the figure for paper, in the format that the ending of `path` names: .svg, .pdf or .png.

    The same figure gives the same bytes: no date is written, and identifiers are derived from the figure's name.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(Figure("knn", ((Lines("", "depth", "accuracy", (), None),),)), Path(folder) / "knn.svg")
    ...     (Path(folder) / "knn.svg").read_text()[:5]
    '<?xml'

    Raises:
        ValueError: another ending.
        InputError: the folder cannot be written to, or the disk is full.
    """
    dateless: dict[str, dict[str, Any]] = {
        ".svg": {"Date": None},
        ".pdf": {"CreationDate": None},
        ".png": {"Software": None},
    }
    if path.suffix not in dateless:
        raise ValueError(f"{path.name}: a figure is saved as .svg, .pdf or .png")
    import matplotlib as mpl

    drawn = to_matplotlib(figure)
    with mpl.rc_context({"svg.hashsalt": figure.name, "pdf.fonttype": 42}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a box in a label, not worth a stop
        with write_beside(path) as temporary:
            drawn.savefig(temporary, format=path.suffix[1:], dpi=200, metadata=dateless[path.suffix])


# The arrangement: where each panel lies, in pixels from the upper left corner.


@dataclass(frozen=True)
class _Place:
    panel: Panel
    title: tuple[str, ...]
    left: float
    top: float
    width: float
    height: float
    x_shown: bool
    y_shown: bool


@dataclass(frozen=True)
class _Arrangement:
    width: float
    height: float
    header: float
    places: tuple[_Place, ...]
    least: float
    most: float


def _arrange(figure: Figure, width: int) -> _Arrangement:
    """Columns of equal width; labels only on the outermost of neighbours with equal axes, and room only where they are."""
    rows, columns = range(len(figure.panels)), range(len(figure.panels[0]))
    cells = {(i, j): panel for i in rows for j in columns if (panel := figure.panels[i][j]) is not None}
    x_shown = {(i, j): _axis(cells.get((i + 1, j)), "x") != _axis(panel, "x") for (i, j), panel in cells.items()}
    y_shown = {(i, j): _axis(cells.get((i, j - 1)), "y") != _axis(panel, "y") for (i, j), panel in cells.items()}
    least, most = _widths(figure)
    # Labels of rows may lie in the empty cell beside their panel: a triangle of pairs is no wider than its panels.
    inside = {(i, j): least if j and (i, j - 1) not in cells else 0.0 for i, j in cells}
    left = [max([14.0] + [_y_room(cells[i, j]) - inside[i, j] for i in rows if y_shown.get((i, j))]) for j in columns]
    spare = sum(left) + 16
    wide = min(max((width - spare) / len(columns), least), most)
    titles = {place: tuple(_wrapped(panel.title, wide * min(PAPER / width, 1.0))) for place, panel in cells.items()}
    header, places = _header(figure, spare + wide * len(columns)), []
    top = header
    for i in rows:
        here = {j: cells[i, j] for j in columns if (i, j) in cells}
        top += 10 + 17 * max((len(titles[i, j]) for j in here), default=0)
        high = max((_height(panel, wide) for panel in here.values()), default=0.0)
        for j, panel in here.items():
            size = (wide, high)
            if isinstance(panel, Heatmap):
                cell = min(wide / len(panel.columns), high / len(panel.rows), LARGEST_CELL)
                size = (cell * len(panel.columns), cell * len(panel.rows))
            x = sum(left[: j + 1]) + wide * j
            places.append(_Place(panel, titles[i, j], x, top, *size, x_shown[i, j], y_shown[i, j]))
        top += high + max([10.0] + [_x_room(panel, wide) for j, panel in here.items() if x_shown[i, j]])
    count = len(columns)
    return _Arrangement(spare + wide * count, top, header, tuple(places), spare + least * count, spare + most * count)


def _axis(panel: Panel | None, axis: str) -> tuple[Any, ...]:
    """What neighbours must agree on to show this axis once."""
    if panel is None:
        return ()
    label = panel.x_label if axis == "x" else panel.y_label
    if isinstance(panel, Heatmap):
        return label, panel.columns if axis == "x" else panel.rows
    return label, panel.log_x if axis == "x" else panel.limits


def _widths(figure: Figure) -> tuple[float, float]:
    """The least and the largest width of a panel that reads well."""
    maps = [panel for panel in figure.shown() if isinstance(panel, Heatmap)]
    if len(maps) < len(figure.shown()):
        return 240.0, 920.0
    return 110.0, min(440.0, LARGEST_CELL * max(len(panel.columns) for panel in maps))


def _height(panel: Panel, width: float) -> float:
    if isinstance(panel, Lines):
        return min(max(0.62 * width, 230.0), 360.0)
    cell = min(width / len(panel.columns), LARGEST_CELL)
    return min(cell * len(panel.rows), 1.5 * width)


def _y_room(panel: Panel) -> float:
    letters = max(map(len, map(_short, panel.rows))) if isinstance(panel, Heatmap) else 5
    return LETTER * letters + 14 + (22 if panel.y_label else 0)


def _x_room(panel: Panel, width: float) -> float:
    letters = max(map(len, map(_short, panel.columns))) if isinstance(panel, Heatmap) and _turned(panel, width) else 2
    return max(LETTER * letters, 14.0) + 14 + (20 if panel.x_label else 0)


def _turned(panel: Heatmap, width: float) -> bool:
    """Whether labels of columns stand upright: they are words that do not fit beneath their cells."""
    letters = max(map(len, map(_short, panel.columns)))
    return letters > 3 and LETTER * letters + 6 > width / len(panel.columns)


def _thinned(labels: Sequence[Any], span: float, each: float) -> list[int]:
    """Every n-th index, such that a label of `each` pixels fits beside the next along `span` pixels."""
    return list(range(0, len(labels), max(1, math.ceil(each * len(labels) / span))))


def _ticks(place: _Place, axis: str) -> tuple[list[int], list[str]]:
    assert isinstance(place.panel, Heatmap)
    labels = [_short(label) for label in (place.panel.columns if axis == "x" else place.panel.rows)]
    lying = axis == "x" and not _turned(place.panel, place.width)
    each = LETTER * max(map(len, labels)) + 6 if lying else 15.0
    kept = _thinned(labels, place.width if axis == "x" else place.height, each)
    return kept, [labels[index] for index in kept]


def _cut(label: str, span: float) -> str:
    """The beginning of an axis's label, as much as fits beside the axis."""
    keep = int(span / LETTER)
    return label if len(label) <= keep else f"{label[: keep - 1]}…"


def _short(label: str, keep: int = 21) -> str:
    """The label, or its beginning and end; the whole is in the hover and in the table."""
    return label if len(label) <= keep + 1 else f"{label[: keep - keep // 2]}…{label[-(keep // 2) :]}"


def _wrapped(title: str, width: float) -> list[str]:
    return textwrap.wrap(title, max(int(width / 7), 12), max_lines=2, placeholder=" …")


def _entry(figure: Figure) -> float:
    """The width of an entry of the legend."""
    return 46 + 6.9 * max((len(_short(style.name, 34)) for style in _styles(figure).values()), default=0)


def _per_row(figure: Figure, width: float) -> int:
    """Entries in a row of the legend, also where a layout for a wide screen is squeezed to its least room."""
    return max(int((min(width, SWITCH) - 80) // _entry(figure)), 1)


def _header(figure: Figure, width: float) -> float:
    maps = any(isinstance(panel, Heatmap) for panel in figure.shown())
    rows = math.ceil(len(_styles(figure)) / _per_row(figure, width))
    return float(BAR_STRIP * maps + (20 * rows + 8) * bool(rows))


@dataclass(frozen=True)
class _Style:
    name: str
    colour: str
    marker: tuple[str, str] | None
    dash: tuple[str, str]


def _styles(figure: Figure) -> dict[str, _Style]:
    """A style a name, in the order of first appearance: a name looks the same in all panels."""
    styles: dict[str, _Style] = {}
    for panel in figure.shown():
        for line in panel.lines if isinstance(panel, Lines) else ():
            if line.name in styles:
                continue
            of_kind = sum((style.marker is None) == line.control for style in styles.values())
            if line.control:
                styles[line.name] = _Style(line.name, CONTROLS[of_kind % 2], None, DASHES[of_kind % 3])
            else:
                marker = MARKERS[(of_kind + of_kind // len(COLOURS)) % len(MARKERS)]
                styles[line.name] = _Style(line.name, COLOURS[of_kind % len(COLOURS)], marker, ("solid", "-"))
    return styles


def _written(figure: Figure, panel: Heatmap) -> bool:
    """Whether cells are large enough on every width to write their values into them."""
    largest = max(panel.values.shape)
    return largest <= 3 or (largest <= 8 and len(figure.shown()) == 1)


def _undefined(figure: Figure) -> bool:
    return any(isinstance(panel, Heatmap) and bool(np.isnan(panel.values).any()) for panel in figure.shown())


def _scale(figure: Figure) -> tuple[float, float]:
    limits = [panel.limits for panel in figure.shown() if isinstance(panel, Heatmap)]
    return min(low for low, _ in limits), max(high for _, high in limits)


def _range(figure: Figure, panel: Lines, axis: str) -> tuple[float, float]:
    """The range of an axis: the panel's limits, else what all panels with this label need and a margin."""
    if axis == "y" and panel.limits is not None:
        return panel.limits
    like = [p for p in figure.shown() if isinstance(p, Lines) and _axis(p, axis) == _axis(panel, axis)]
    arrays = [(line.x,) if axis == "x" else (line.y, line.low, line.high) for p in like for line in p.lines]
    values = np.concatenate([np.zeros(0), *(array for array in itertools.chain(*arrays) if array is not None)])
    values = values[np.isfinite(values)]
    if axis == "x" and panel.log_x:
        values = np.log10(values)
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    margin = 0.04 * (high - low) or 0.5
    return low - margin, high + margin


def _segments(line: Line) -> Iterator[slice]:
    """The runs of points between the gaps of a line's interval."""
    assert line.low is not None
    assert line.high is not None
    defined = np.isfinite(line.low) & np.isfinite(line.high)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], defined, [False]])))
    return (slice(int(start), int(stop)) for start, stop in edges.reshape(-1, 2))


def _rounded(array: np.ndarray) -> list[float | None]:
    """Four significant digits, more than a screen shows, and None for what is undefined."""
    return [float(f"{value:.4g}") if math.isfinite(value) else None for value in array.tolist()]


# The screen.


def to_plotly(figure: Figure, width: int = WIDE) -> "go.Figure":
    """The figure for the screen, arranged for `width` pixels; traces do not depend on the width, only the layout does.

    `layout.meta` says between which widths the layout may be stretched (`least`, `most`) and whether its height follows (`square`).

    >>> drawn = to_plotly(Figure("knn", ((Lines("", "depth", "accuracy", (), (0.0, 1.0)),),)))
    >>> tuple(drawn.layout.yaxis.range)
    (0.0, 1.0)
    """
    import plotly.graph_objects as go

    at = _arrange(figure, width)
    margin = {"l": min(place.left for place in at.places), "r": 16, "t": min(place.top for place in at.places)}
    margin["b"] = at.height - max(place.top + place.height for place in at.places)
    inner = (at.width - margin["l"] - margin["r"], at.height - margin["t"] - margin["b"])
    maps = [panel for panel in figure.shown() if isinstance(panel, Heatmap)]
    layout = _plotly_layout(figure, at, margin)
    if maps:
        layout["coloraxis"] = _colour_axis(figure, at.height)
        layout["legend"]["y"] = 1 - BAR_STRIP / at.height
        notes = [(maps[0].unit, INSET, 0)] + [("▨ undefined", BAR + INSET + 20, 15)] * _undefined(figure)
        layout["annotations"] += [
            _note(_escaped(text), 0.0, 1.0, x - margin["l"], margin["t"] - y, size=TEXT) for text, x, y in notes
        ]
    traces: list[Any] = []
    for index, place in enumerate(at.places):
        name = str(index + 1) if index else ""
        left, bottom = (place.left - margin["l"]) / inner[0], 1 - (place.top - margin["t"] + place.height) / inner[1]
        corners = left, left + place.width / inner[0], bottom, bottom + place.height / inner[1]
        x0, x1, y0, y1 = (min(max(round(corner, 6), 0.0), 1.0) for corner in corners)  # plotly refuses 1 + 2e-16
        domains = [x0, x1], [y0, y1]
        layout[f"xaxis{name}"], layout[f"yaxis{name}"] = _plotly_axes(figure, place, name, domains)
        if place.title:
            title = f"<b>{'<br>'.join(map(_escaped, place.title))}</b>"
            layout["annotations"].append(_note(title, x0, y1, 0.0, 4.0, size=TEXT, yanchor="bottom"))
        if isinstance(place.panel, Heatmap):
            traces += _plotly_heatmap(figure, place.panel, name)
            layout["shapes"] += _plotly_hatch(place.panel, name)
        else:
            listed = {trace.legendgroup for trace in traces if trace.type == "scatter"}
            traces += _plotly_lines(figure, place.panel, name, listed)
    return go.Figure(traces, layout)


def _plotly_layout(figure: Figure, at: _Arrangement, margin: dict[str, float]) -> dict[str, Any]:
    """What does not depend on the panels: size, type, colours, legend."""
    square = any(isinstance(panel, Heatmap) for panel in figure.shown())
    return {
        "width": round(at.width), "height": round(at.height), "margin": {**margin, "pad": 0, "autoexpand": False},
        "meta": {"least": math.ceil(at.least), "most": math.ceil(at.most), "square": square},
        "font": {"family": "inherit", "size": TICK}, "paper_bgcolor": CLEAR, "plot_bgcolor": CLEAR,
        "hovermode": "closest", "hoverlabel": {"font": {"size": TEXT}, "align": "left"},
        "modebar": {"bgcolor": CLEAR, "color": CONTROLS[1], "activecolor": CONTROLS[0]},
        "annotations": [], "shapes": [], "showlegend": bool(_styles(figure)),
        "legend": {
            "orientation": "h", "x": 0, "y": 1, "xref": "container", "yref": "container",
            "xanchor": "left", "yanchor": "top", "entrywidth": _entry(figure) - 46, "font": {"size": TEXT},
            "bgcolor": CLEAR, "tracegroupgap": 0,
        },
    }  # fmt: skip


def _escaped(text: str) -> str:
    """Plain text where plotly reads a subset of HTML, mathematics between dollars and variables in braces."""
    return html.escape(text, quote=False).replace("$", "&#36;").replace("{", "&#123;")


def _note(
    text: str, x: float, y: float, xshift: float, yshift: float, *, size: float, yanchor: str = "top"
) -> dict[str, Any]:
    """Text at a place of the plotting area, moved by pixels."""
    return {
        "text": text, "x": x, "y": y, "xref": "paper", "yref": "paper", "xshift": xshift, "yshift": yshift, "showarrow": False,
        "xanchor": "left", "yanchor": yanchor, "align": "left", "font": {"size": size}, "borderpad": 0,
    }  # fmt: skip


def _colour_axis(figure: Figure, height: float) -> dict[str, Any]:
    low, high = _scale(figure)
    return {
        "cmin": low, "cmax": high, "colorscale": SCALE.capitalize(),
        "colorbar": {
            "orientation": "h", "x": 0, "y": 1 - 18 / height, "xref": "container", "yref": "container",
            "xanchor": "left", "yanchor": "top", "lenmode": "pixels", "len": BAR + 2 * INSET, "thickness": 10,
            "xpad": INSET, "ypad": 0, "outlinewidth": 0, "tickvals": _bar_ticks(low, high), "tickfont": {"size": TICK},
            "ticklabeloverflow": "allow",
        },
    }  # fmt: skip


def _bar_ticks(low: float, high: float) -> list[float]:
    """Round values within the limits of the colour scale, four to eight of them."""
    magnitude = 10.0 ** math.floor(math.log10(high - low))
    step = next(s for s in (0.2 * magnitude, 0.5 * magnitude, magnitude) if (high - low) / s <= 7)
    return [round(index * step, 9) for index in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _plotly_axes(figure: Figure, place: _Place, name: str, domains: Sequence[list[float]]) -> Iterator[dict[str, Any]]:
    panel = place.panel
    for axis, shown, domain, span in zip(
        "xy", (place.x_shown, place.y_shown), domains, (place.width, place.height), strict=True
    ):
        label = panel.x_label if axis == "x" else panel.y_label
        shape: dict[str, Any] = {
            "domain": domain, "anchor": f"{'y' if axis == 'x' else 'x'}{name}", "showticklabels": shown,
            "zeroline": False, "ticks": "outside", "ticklen": 4, "tickcolor": CLEAR,
            "title": {"text": _escaped(_cut(label, span)) if shown else "", "font": {"size": TEXT}, "standoff": 8},
            "tickfont": {"size": TICK},
        }  # fmt: skip
        if isinstance(panel, Heatmap):
            kept, texts = _ticks(place, axis)
            labels = panel.columns if axis == "x" else panel.rows
            shape |= {"type": "category", "range": [-0.5, len(labels) - 0.5], "showgrid": False, "constrain": "domain"}
            shape |= {"tickmode": "array", "tickvals": kept, "ticktext": [_escaped(text) for text in texts]}
            if axis == "x":
                shape |= {"tickangle": -90 if _turned(panel, place.width) else 0, "constraintoward": "left"}
            else:
                shape |= {"scaleanchor": f"x{name}", "scaleratio": 1, "constraintoward": "bottom"}
        else:
            shape |= {"range": list(_range(figure, panel, axis)), "gridcolor": "rgba(128,128,128,0.22)", "nticks": 7}
            shape |= {"showline": axis == "x", "linecolor": "rgba(128,128,128,0.7)"}
            if axis == "x" and panel.log_x:
                values = _log_ticks(panel, span)
                shape |= {"type": "log", "tickvals": values, "ticktext": [f"{value:,.7g}" for value in values]}
        yield shape


def _log_ticks(panel: Lines, span: float) -> list[float]:
    values = np.unique(np.concatenate([np.zeros(0), *(line.x for line in panel.lines)])).tolist()
    return [values[index] for index in _thinned(values, span, 52.0)]


def _plotly_heatmap(figure: Figure, panel: Heatmap, name: str) -> Iterator[Any]:
    import plotly.graph_objects as go

    columns, rows = [_escaped(label) for label in panel.columns], [_escaped(label) for label in panel.rows]
    where = f"<b>{_escaped(panel.title)}</b><br>" if panel.title else ""
    where += f"{_escaped(panel.y_label)} %{{y}}<br>{_escaped(panel.x_label)} %{{x}}<br>"
    common = {"x": columns, "y": rows, "xaxis": f"x{name}", "yaxis": f"y{name}", "xgap": 0, "ygap": 0}
    cells = {"texttemplate": "%{z:.2f}"} if _written(figure, panel) else {}
    undefined = np.isnan(panel.values)
    if undefined.any():
        grey = [[1 if cell else None for cell in row] for row in undefined]
        says = f"{where}<b>undefined</b><extra></extra>"
        alone = {"colorscale": [[0, UNDEFINED], [1, UNDEFINED]], "showscale": False}
        yield go.Heatmap(z=grey, hovertemplate=says, name="undefined", **alone, **common)
    says = f"{where}{_escaped(panel.unit)} <b>%{{z:.4~g}}</b><extra></extra>"
    values = [_rounded(row) for row in panel.values]
    yield go.Heatmap(z=values, coloraxis="coloraxis", hovertemplate=says, hoverongaps=False, **common, **cells)


def _plotly_hatch(panel: Heatmap, name: str) -> list[dict[str, Any]]:
    """Strokes over the undefined cells, as one path in units of cells."""
    strokes = [
        f"M{column - 0.5 + max(-c, 0):g},{row - 0.5 + max(c, 0):g}L{column + 0.5 - max(c, 0):g},{row + 0.5 + min(c, 0):g}"
        for row, column in np.argwhere(np.isnan(panel.values)).tolist()
        for c in (-0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75)
    ]
    path = {"type": "path", "path": "".join(strokes), "line": {"color": HATCH, "width": 1}}
    return [path | {"xref": f"x{name}", "yref": f"y{name}"}] if strokes else []


def _plotly_lines(figure: Figure, panel: Lines, name: str, listed: set[str]) -> Iterator[Any]:
    import plotly.graph_objects as go

    styles = _styles(figure)
    axes = {"xaxis": f"x{name}", "yaxis": f"y{name}"}
    for line in panel.lines:
        if line.low is None or line.high is None:
            continue
        x, y = [], []
        for run in _segments(line):
            x += [*_rounded(line.x[run]), *_rounded(line.x[run][::-1]), None]
            y += [*_rounded(line.low[run]), *_rounded(line.high[run][::-1]), None]
        colour = f"rgba{_rgba(styles[line.name].colour)}"
        yield go.Scatter(
            x=x, y=y, mode="lines", fill="toself", fillcolor=colour, line={"width": 1, "color": colour},
            hoverinfo="skip", showlegend=False, legendgroup=_escaped(line.name), name=f"{_escaped(line.name)} interval", **axes,
        )  # fmt: skip
    for line in panel.lines:
        style = styles[line.name]
        title = _escaped(_short(line.name, 34))
        drawn = {"color": style.colour, "width": 1.5 if line.control else 2, "dash": style.dash[0]}
        marker = {"symbol": style.marker[0], "size": 6, "color": style.colour} if style.marker else None
        says = f"<b>{_escaped(line.name)}</b><br>{_escaped(panel.x_label)} %{{x:.4~g}}<br>"
        says += f"{_escaped(panel.y_label)} %{{y:.4~g}}%{{text}}"
        yield go.Scatter(
            x=_rounded(line.x), y=_rounded(line.y), mode="lines+markers" if style.marker else "lines", line=drawn, marker=marker,
            text=_intervals(line), hovertemplate=f"{says}<extra></extra>", name=title, legendgroup=_escaped(line.name),
            showlegend=_escaped(line.name) not in listed, connectgaps=False, **axes,
        )  # fmt: skip


def _intervals(line: Line) -> list[str]:
    if line.low is None or line.high is None:
        return [""] * len(line.x)
    bounds = zip(_rounded(line.low), _rounded(line.high), strict=True)
    return ["" if low is None or high is None else f"<br>interval {low:g} to {high:g}" for low, high in bounds]


def _rgba(colour: str) -> tuple[int, int, int, float]:
    red, green, blue = (int(colour[index : index + 2], 16) for index in (1, 3, 5))
    return red, green, blue, 0.16


# Paper.


def to_matplotlib(figure: Figure, width: int = PAPER) -> "MatplotlibFigure":
    """The figure for paper, `width` / 96 inches wide; drawn without pyplot, so that no window and no global state is touched.

    >>> drawn = to_matplotlib(Figure("knn", ((Lines("", "depth", "accuracy", (), (0.0, 1.0)),),)))
    >>> drawn.axes[0].get_ylim() == (0.0, 1.0)
    True
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as MatplotlibFigure

    at = _arrange(figure, width)
    # DejaVu comes with matplotlib: the figure is the same on every machine.
    with mpl.rc_context({"font.family": "DejaVu Sans", "font.size": TICK * POINT, "axes.linewidth": 0.6}):
        drawn = MatplotlibFigure(figsize=(at.width / 96, at.height / 96), facecolor="white")
        FigureCanvasAgg(drawn)
        for place in at.places:
            x, y = place.left / at.width, 1 - (place.top + place.height) / at.height
            axes = drawn.add_axes((x, y, place.width / at.width, place.height / at.height))
            title = "\n".join(map(_literal, place.title))
            axes.set_title(title, loc="left", fontsize=TEXT * POINT, fontweight="bold", pad=4)
            axes.tick_params(length=0, pad=4)
            draw = _paper_heatmap if isinstance(place.panel, Heatmap) else _paper_lines
            draw(figure, place, axes)
        _paper_header(figure, drawn, at)
    return drawn


def _literal(text: str) -> str:
    """Plain text where matplotlib reads mathematics between dollars."""
    return text.replace("$", r"\$")


def _paper_labels(place: _Place, axes: "Axes") -> None:
    for shown, label, span, put in (
        (place.x_shown, place.panel.x_label, place.width, axes.set_xlabel),
        (place.y_shown, place.panel.y_label, place.height, axes.set_ylabel),
    ):
        if shown:
            put(_literal(_cut(label, span)), labelpad=4)
    axes.tick_params(labelbottom=place.x_shown, labelleft=place.y_shown)


def _paper_heatmap(figure: Figure, place: _Place, axes: "Axes") -> None:
    from matplotlib.patches import Rectangle

    panel = place.panel
    assert isinstance(panel, Heatmap)
    low, high = _scale(figure)
    axes.imshow(panel.values, origin="lower", cmap=SCALE, vmin=low, vmax=high, interpolation="nearest")
    for row, column in np.argwhere(np.isnan(panel.values)).tolist():
        at = (column - 0.5, row - 0.5)
        axes.add_patch(Rectangle(at, 1, 1, facecolor=UNDEFINED, edgecolor=HATCH, linewidth=0, hatch="/////"))
    if _written(figure, panel):
        for (row, column), value in np.ndenumerate(panel.values):
            ink = "white" if value < low + 0.6 * (high - low) else "black"
            axes.text(column, row, "" if np.isnan(value) else f"{value:.2f}", ha="center", va="center", color=ink)
    for axis, put in (("x", axes.set_xticks), ("y", axes.set_yticks)):
        kept, texts = _ticks(place, axis)
        put(kept, [_literal(text) for text in texts], rotation=90 if axis == "x" and _turned(panel, place.width) else 0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    _paper_labels(place, axes)


def _paper_lines(figure: Figure, place: _Place, axes: "Axes") -> None:
    panel, styles = place.panel, _styles(figure)
    assert isinstance(panel, Lines)
    for line in panel.lines:
        style = styles[line.name]
        if line.low is not None and line.high is not None:
            for run in _segments(line):
                bounds = line.low[run], line.high[run]
                axes.fill_between(line.x[run], *bounds, color=style.colour, alpha=0.16, linewidth=0.5)
        axes.plot(line.x, line.y, **_paper_style(style))
    if panel.log_x:
        axes.set_xscale("log")
        ticks = _log_ticks(panel, place.width)
        axes.set_xticks(ticks, [f"{value:,.7g}" for value in ticks])
        axes.minorticks_off()
    start, stop = _range(figure, panel, "x")
    axes.set_xlim(*((10**start, 10**stop) if panel.log_x else (start, stop)))
    axes.set_ylim(*_range(figure, panel, "y"))
    axes.grid(color="#e3e3e3", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    _paper_labels(place, axes)


def _paper_style(style: _Style) -> dict[str, Any]:
    width = 1.4 if style.marker else 1.0
    drawn: dict[str, Any] = {"color": style.colour, "linestyle": style.dash[1], "linewidth": width}
    return drawn | ({"marker": style.marker[1], "markersize": 3.4, "markeredgewidth": 0} if style.marker else {})


def _paper_header(figure: Figure, drawn: "MatplotlibFigure", at: _Arrangement) -> None:
    """The colour bar and, beneath it, the names of the lines, row by row."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.lines import Line2D

    maps = [panel for panel in figure.shown() if isinstance(panel, Heatmap)]
    if maps:
        bar = drawn.add_axes((INSET / at.width, 1 - 34 / at.height, BAR / at.width, 10 / at.height))
        drawn.colorbar(ScalarMappable(Normalize(*_scale(figure)), SCALE), cax=bar, orientation="horizontal")
        bar.set_xticks(_bar_ticks(*_scale(figure)))
        bar.set_title(_literal(maps[0].unit), fontsize=TEXT * POINT, pad=4, loc="left")
        bar.tick_params(length=0, pad=3)
        bar.spines["outline"].set_visible(False)
        if _undefined(figure):
            drawn.text((BAR + INSET + 20) / at.width, 1 - 29 / at.height, "▨ undefined", va="center")
    per_row = _per_row(figure, at.width)
    for index, style in enumerate(_styles(figure).values()):
        x, y = (index % per_row) * _entry(figure) + 4, BAR_STRIP * bool(maps) + 20 * (index // per_row) + 10
        along, height = (x / at.width, (x + 13) / at.width, (x + 26) / at.width), 1 - y / at.height
        drawn.add_artist(Line2D(along, [height] * 3, markevery=[1], **_paper_style(style)))
        name = _literal(_short(style.name, 34))
        drawn.text((x + 32) / at.width, height, name, va="center_baseline", fontsize=TEXT * POINT)
