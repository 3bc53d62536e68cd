"""A figure on paper, drawn by matplotlib."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sslens.figure.arrangement import (
    BAR,
    BAR_STRIP,
    ENTRY,
    INSET,
    PAPER,
    Arrangement,
    Place,
    arrange,
    cut,
    entry_width,
    log_ticks,
    short,
    ticks,
    turned,
)
from sslens.figure.panels import Figure, Heatmap, Lines
from sslens.figure.style import (
    HATCH,
    SCALE,
    TEXT,
    TICK,
    UNDEFINED,
    Style,
    any_undefined,
    bar_ticks,
    colour_limits,
    extent,
    line_styles,
    runs,
    written,
)
from sslens.store import write_beside

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure

POINT = 0.67  # of a pixel, less than its 0.75: DejaVu runs wide


def save(figure: Figure, *paths: Path) -> None:
    """Write the figure for paper, in the format that the ending of each path names: .svg, .pdf or
    .png.

    The same figure gives the same bytes: no date is written, and identifiers are derived from the
    figure's name.

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
    if unknown := [path.name for path in paths if path.suffix not in dateless]:
        raise ValueError(f"{unknown[0]}: a figure is saved as .svg, .pdf or .png")
    import matplotlib as mpl

    drawn = to_matplotlib(figure)
    with (
        mpl.rc_context({"svg.hashsalt": figure.name, "pdf.fonttype": 42}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings(
            "ignore", message="Glyph .* missing from font"
        )  # a box in a label, not worth a stop
        for path in paths:
            with write_beside(path) as temporary:
                drawn.savefig(
                    temporary, format=path.suffix[1:], dpi=200, metadata=dateless[path.suffix]
                )


def to_matplotlib(figure: Figure, width: int = PAPER) -> "MatplotlibFigure":
    """The figure for paper, `width` / 96 inches wide; drawn without pyplot, so that no window and
    no global state is touched.

    >>> drawn = to_matplotlib(Figure("knn", ((Lines("", "depth", "accuracy", (), (0.0, 1.0)),),)))
    >>> drawn.axes[0].get_ylim() == (0.0, 1.0)
    True
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as MatplotlibFigure

    at = arrange(figure, width)
    # DejaVu comes with matplotlib: the figure is the same on every machine.
    with mpl.rc_context(
        {"font.family": "DejaVu Sans", "font.size": TICK * POINT, "axes.linewidth": 0.6}
    ):
        drawn = MatplotlibFigure(figsize=(at.width / 96, at.height / 96), facecolor="white")
        FigureCanvasAgg(drawn)
        for place in at.places:
            x, y = place.left / at.width, 1 - (place.top + place.height) / at.height
            axes = drawn.add_axes((x, y, place.width / at.width, place.height / at.height))
            title = "\n".join(map(_literal, place.title))
            axes.set_title(title, loc="left", fontsize=TEXT * POINT, fontweight="bold", pad=4)
            axes.tick_params(length=0, pad=4)
            draw = _heatmap if isinstance(place.panel, Heatmap) else _lines
            draw(figure, place, axes)
        _header(figure, drawn, at)
    return drawn


def _heatmap(figure: Figure, place: Place, axes: "Axes") -> None:
    from matplotlib.patches import Rectangle

    panel = place.panel
    assert isinstance(panel, Heatmap)
    low, high = colour_limits(figure)
    axes.imshow(
        panel.values, origin="lower", cmap=SCALE, vmin=low, vmax=high, interpolation="nearest"
    )
    for row, column in np.argwhere(np.isnan(panel.values)).tolist():
        at = (column - 0.5, row - 0.5)
        axes.add_patch(
            Rectangle(at, 1, 1, facecolor=UNDEFINED, edgecolor=HATCH, linewidth=0, hatch="/////")
        )
    if written(figure, panel):
        for (row, column), value in np.ndenumerate(panel.values):
            ink = "white" if value < low + 0.6 * (high - low) else "black"
            axes.text(
                column,
                row,
                "" if np.isnan(value) else f"{value:.2f}",
                ha="center",
                va="center",
                color=ink,
            )
    for axis, put in (("x", axes.set_xticks), ("y", axes.set_yticks)):
        kept, texts = ticks(place, axis)
        put(
            kept,
            [_literal(text) for text in texts],
            rotation=90 if axis == "x" and turned(panel, place.width) else 0,
        )
    for spine in axes.spines.values():
        spine.set_visible(False)
    _labels(place, axes)


def _lines(figure: Figure, place: Place, axes: "Axes") -> None:
    panel, styles = place.panel, line_styles(figure)
    assert isinstance(panel, Lines)
    for line in panel.lines:
        style = styles[line.name]
        if line.low is not None and line.high is not None:
            for run in runs(line):
                bounds = line.low[run], line.high[run]
                axes.fill_between(
                    line.x[run], *bounds, color=style.colour, alpha=0.16, linewidth=0.5
                )
        axes.plot(line.x, line.y, **_drawn_as(style))
    if panel.log_x:
        axes.set_xscale("log")
        points = log_ticks(panel, place.width)
        axes.set_xticks(points, [f"{value:,.7g}" for value in points])
        axes.minorticks_off()
    start, stop = extent(figure, panel, "x")
    axes.set_xlim(*((10**start, 10**stop) if panel.log_x else (start, stop)))
    axes.set_ylim(*extent(figure, panel, "y"))
    axes.grid(color="#e3e3e3", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    _labels(place, axes)


def _labels(place: Place, axes: "Axes") -> None:
    for shown, label, span, put in (
        (place.x_shown, place.panel.x_label, place.width, axes.set_xlabel),
        (place.y_shown, place.panel.y_label, place.height, axes.set_ylabel),
    ):
        if shown:
            put(_literal(cut(label, span)), labelpad=4)
    axes.tick_params(labelbottom=place.x_shown, labelleft=place.y_shown)


def _drawn_as(style: Style) -> dict[str, Any]:
    width = 1.4 if style.marker else 1.0
    drawn: dict[str, Any] = {"color": style.colour, "linestyle": style.dash[1], "linewidth": width}
    return drawn | (
        {"marker": style.marker[1], "markersize": 3.4, "markeredgewidth": 0} if style.marker else {}
    )


def _header(figure: Figure, drawn: "MatplotlibFigure", at: Arrangement) -> None:
    """The colour bar and, beneath it, the names of the lines, row by row."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.lines import Line2D

    maps = [panel for panel in figure.shown() if isinstance(panel, Heatmap)]
    if maps:
        bar = drawn.add_axes((INSET / at.width, 1 - 34 / at.height, BAR / at.width, 10 / at.height))
        drawn.colorbar(
            ScalarMappable(Normalize(*colour_limits(figure)), SCALE),
            cax=bar,
            orientation="horizontal",
        )
        bar.set_xticks(bar_ticks(*colour_limits(figure)))
        bar.set_title(_literal(maps[0].unit), fontsize=TEXT * POINT, pad=4, loc="left")
        bar.tick_params(length=0, pad=3)
        bar.spines["outline"].set_visible(False)
        if any_undefined(figure):
            drawn.text(
                (BAR + INSET + 20) / at.width, 1 - 29 / at.height, "▨ undefined", va="center"
            )
    for index, style in enumerate(line_styles(figure).values()):
        x, y = (
            (index % at.per_row) * entry_width(figure) + 4,
            BAR_STRIP * bool(maps) + 20 * (index // at.per_row) + 10,
        )
        along, height = (x / at.width, (x + 13) / at.width, (x + 26) / at.width), 1 - y / at.height
        drawn.add_artist(Line2D(along, [height] * 3, markevery=[1], **_drawn_as(style)))
        name = _literal(short(style.name, ENTRY))
        drawn.text((x + 32) / at.width, height, name, va="center_baseline", fontsize=TEXT * POINT)


def _literal(text: str) -> str:
    """Plain text where matplotlib reads mathematics between dollars."""
    return text.replace("$", r"\$")
