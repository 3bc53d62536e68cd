"""A figure on paper, drawn by matplotlib."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np

from sslens.figure.arrangement import (
    BAR,
    BAR_STRIP,
    INSET,
    PAPER,
    Arrangement,
    PanelBox,
    are_labels_turned,
    arrange,
    choose_log_ticks,
    choose_ticks,
    fit_label,
    measure_entry,
)
from sslens.figure.panels import Figure, Heatmap, Lines
from sslens.figure.pictures import Picture
from sslens.figure.sheets import Sheet
from sslens.figure.style import (
    HATCH,
    SCALE,
    TEXT,
    TICK,
    UNDEFINED,
    Style,
    are_values_written,
    choose_bar_ticks,
    choose_styles,
    find_colour_limits,
    find_extent,
    find_runs,
    has_undefined,
)
from sslens.store import write_beside

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure

POINT = 0.67  # points a pixel, less than the true 0.75, because DejaVu runs wide


def save(figure: Figure, *paths: Path) -> None:
    """Write the figure for paper, in the format that the ending of each path names: .svg, .pdf or
    .png.

    The same figure gives the same bytes: no date is written, and identifiers are derived from the
    figure's name.

    >>> import tempfile
    >>> figure = Figure("knn", ((Lines("", "depth", "accuracy", (), None),),))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(figure, Path(folder) / "knn.svg")
    ...     (Path(folder) / "knn.svg").read_text()[:5]
    '<?xml'

    Raises:
        ValueError: a path has another ending.
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

    drawing = to_matplotlib(figure)
    with (
        mpl.rc_context({"svg.hashsalt": figure.name, "pdf.fonttype": 42}),
        warnings.catch_warnings(),
    ):
        # a box in place of a letter is not worth a stop
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        for path in paths:
            ending, metadata = path.suffix[1:], dateless[path.suffix]
            with write_beside(path) as temporary:
                drawing.savefig(temporary, format=ending, dpi=200, metadata=metadata)


def to_matplotlib(figure: Figure, width: int = PAPER) -> "MatplotlibFigure":
    """Draw the figure for paper, `width` / 96 inches wide.

    It is drawn without pyplot, so that no window is opened and no global state changes.

    >>> figure = Figure("knn", ((Lines("", "depth", "accuracy", (), (0.0, 1.0)),),))
    >>> to_matplotlib(figure).axes[0].get_ylim() == (0.0, 1.0)
    True
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as MatplotlibFigure

    arrangement = arrange(figure, width)
    # DejaVu comes with matplotlib, so the figure is the same on every machine.
    with mpl.rc_context(
        {"font.family": "DejaVu Sans", "font.size": TICK * POINT, "axes.linewidth": 0.6}
    ):
        width_px, height_px = arrangement.width, arrangement.height
        drawing = MatplotlibFigure(figsize=(width_px / 96, height_px / 96), facecolor="white")
        FigureCanvasAgg(drawing)
        for box in arrangement.boxes:
            x, y = box.left / width_px, 1 - (box.top + box.height) / height_px
            axes = drawing.add_axes((x, y, box.width / width_px, box.height / height_px))
            title = "\n".join(map(_escape, box.title))
            axes.set_title(title, loc="left", fontsize=TEXT * POINT, fontweight="bold", pad=4)
            axes.tick_params(length=0, pad=4)
            if isinstance(box.panel, Picture):
                _draw_picture(figure, box.panel, axes)
                continue
            if isinstance(box.panel, Sheet):
                _draw_sheet(box, axes)
                continue
            draw = _draw_heatmap if isinstance(box.panel, Heatmap) else _draw_lines
            draw(figure, box, axes)
        _draw_header(figure, drawing, arrangement)
    return drawing


def _draw_heatmap(figure: Figure, box: PanelBox, axes: "Axes") -> None:
    from matplotlib.patches import Rectangle

    panel = box.panel
    assert isinstance(panel, Heatmap)
    low, high = find_colour_limits(figure)
    axes.imshow(
        panel.values, origin="lower", cmap=SCALE, vmin=low, vmax=high, interpolation="nearest"
    )
    for row, column in np.argwhere(np.isnan(panel.values)).tolist():
        cell = Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=UNDEFINED, edgecolor=HATCH)
        cell.set(linewidth=0, hatch="/////")
        axes.add_patch(cell)
    if are_values_written(figure, panel):
        for (row, column), value in np.ndenumerate(panel.values):
            ink = "white" if value < low + 0.6 * (high - low) else "black"
            text = "" if np.isnan(value) else f"{value:.2f}"
            axes.text(column, row, text, ha="center", va="center", color=ink)
    for axis, set_ticks in (("x", axes.set_xticks), ("y", axes.set_yticks)):
        indices, texts = choose_ticks(box, axis)
        rotation = 90 if axis == "x" and are_labels_turned(panel, box.width) else 0
        set_ticks(indices, [_escape(text) for text in texts], rotation=rotation)
    for spine in axes.spines.values():
        spine.set_visible(False)
    _label_axes(box, axes)


def _draw_lines(figure: Figure, box: PanelBox, axes: "Axes") -> None:
    panel, styles = box.panel, choose_styles(figure)
    assert isinstance(panel, Lines)
    for line in panel.lines:
        style = styles[line.name]
        if line.low is not None and line.high is not None:
            for run in find_runs(line):
                bounds, colour = (line.low[run], line.high[run]), style.colour
                axes.fill_between(line.x[run], *bounds, color=colour, alpha=0.16, linewidth=0.5)
        axes.plot(line.x, line.y, **_choose_line_keywords(style))
    if panel.log_x:
        axes.set_xscale("log")
        points = choose_log_ticks(panel, box.width)
        axes.set_xticks(points, [f"{value:,.7g}" for value in points])
        axes.minorticks_off()
    start, stop = find_extent(figure, panel, "x")
    axes.set_xlim(*((10**start, 10**stop) if panel.log_x else (start, stop)))
    axes.set_ylim(*find_extent(figure, panel, "y"))
    axes.grid(color="#e3e3e3", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    _label_axes(box, axes)


def _draw_picture(figure: Figure, panel: Picture, axes: "Axes") -> None:
    from matplotlib.patches import Rectangle

    styles = choose_styles(figure)
    height, width = panel.pixels.shape[:2]
    axes.imshow(panel.pixels, extent=(0, width, height, 0), interpolation="nearest", aspect="auto")
    for outline in panel.outlines:
        left, top, right, bottom = outline.box
        corner, colour = (left, top), styles[outline.name].colour
        axes.add_patch(
            Rectangle(
                corner, right - left, bottom - top, fill=False, edgecolor=colour, linewidth=1.2
            )
        )
    axes.set_axis_off()


def _draw_sheet(box: PanelBox, axes: "Axes") -> None:
    panel = box.panel
    assert isinstance(panel, Sheet)
    height, width = panel.size
    edges = (0, width, height, 0)
    axes.imshow(panel.compose(), extent=edges, interpolation="nearest", aspect="auto")
    for axis, set_ticks in (("x", axes.set_xticks), ("y", axes.set_yticks)):
        indices, texts = choose_ticks(box, axis)
        middles = panel.middles(axis)
        set_ticks([middles[index] for index in indices], [_escape(text) for text in texts])
    axes.spines[:].set_visible(False)


def _label_axes(box: PanelBox, axes: "Axes") -> None:
    if box.x_shown:
        axes.set_xlabel(_escape(fit_label(box.panel.x_label, box.width)), labelpad=4)
    if box.y_shown:
        axes.set_ylabel(_escape(fit_label(box.panel.y_label, box.height)), labelpad=4)
    axes.tick_params(labelbottom=box.x_shown, labelleft=box.y_shown)


class _LineKeywords(TypedDict, total=False):
    """How matplotlib draws a line."""

    color: str
    linestyle: Literal["-", "--", ":", "-."]
    linewidth: float
    marker: str
    markersize: float
    markeredgewidth: float


def _choose_line_keywords(style: Style) -> _LineKeywords:
    if style.marker is None:
        return {"color": style.colour, "linestyle": style.dash[1], "linewidth": 1.0}
    return {
        "color": style.colour,
        "linestyle": style.dash[1],
        "linewidth": 1.4,
        "marker": style.marker[1],
        "markersize": 3.4,
        "markeredgewidth": 0,
    }


def _draw_header(figure: Figure, drawing: "MatplotlibFigure", at: Arrangement) -> None:
    """Draw the colour bar and, below it, the names of the lines, row by row."""
    from matplotlib.lines import Line2D

    has_maps = any(isinstance(panel, Heatmap) for panel in figure.shown())
    if has_maps:
        _draw_colour_bar(figure, drawing, at)
    for index, style in enumerate(choose_styles(figure).values()):
        x = (index % at.per_row) * measure_entry(figure) + 4
        y = BAR_STRIP * has_maps + 20 * (index // at.per_row) + 10
        along, height = (x / at.width, (x + 13) / at.width, (x + 26) / at.width), 1 - y / at.height
        sample = Line2D(along, [height] * 3, markevery=[1], **_choose_line_keywords(style))
        drawing.add_artist(sample)
        name, left = _escape(style.name), (x + 32) / at.width
        drawing.text(left, height, name, va="center_baseline", fontsize=TEXT * POINT)


def _draw_colour_bar(figure: Figure, drawing: "MatplotlibFigure", at: Arrangement) -> None:
    """Draw the colour scale with its unit, and what a hatched cell means."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    units = [panel.unit for panel in figure.shown() if isinstance(panel, Heatmap)]
    limits = find_colour_limits(figure)
    bar = drawing.add_axes((INSET / at.width, 1 - 34 / at.height, BAR / at.width, 10 / at.height))
    mappable = ScalarMappable(Normalize(*limits), SCALE)
    drawing.colorbar(mappable, cax=bar, orientation="horizontal")
    bar.set_xticks(choose_bar_ticks(*limits))
    bar.set_title(_escape(units[0]), fontsize=TEXT * POINT, pad=4, loc="left")
    bar.tick_params(length=0, pad=3)
    bar.spines["outline"].set_visible(False)
    if has_undefined(figure):
        left = (BAR + INSET + 20) / at.width
        drawing.text(left, 1 - 29 / at.height, "▨ undefined", va="center")


def _escape(text: str) -> str:
    """Escape text for matplotlib, which reads mathematics between dollars."""
    return text.replace("$", r"\$")
