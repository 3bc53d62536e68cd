"""A figure on the screen, drawn by plotly."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sslens.figure.arrangement import (
    BAR,
    BAR_STRIP,
    INSET,
    MARGIN,
    WIDE,
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
from sslens.figure.pictures import Picture, encode_picture
from sslens.figure.sheets import Sheet
from sslens.figure.style import (
    CONTROLS,
    HATCH,
    SCALE,
    TEXT,
    TICK,
    choose_bar_ticks,
    choose_styles,
    find_colour_limits,
    find_extent,
    has_undefined,
)
from sslens.figure.traces import (
    escape,
    make_heatmap_traces,
    make_line_traces,
    make_outline_traces,
    make_sheet_trace,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

CLEAR = "rgba(0,0,0,0)"
GRID, AXIS = "rgba(128,128,128,0.22)", "rgba(128,128,128,0.7)"


def to_plotly(figure: Figure, width: int = WIDE) -> "go.Figure":
    """Draw the figure for the screen, as a figure of plotly's, which checks each property.

    >>> figure = Figure("knn", ((Lines("", "depth", "accuracy", (), (0.0, 1.0)),),))
    >>> tuple(to_plotly(figure).layout.yaxis.range)
    (0.0, 1.0)
    """
    import plotly.graph_objects as go

    drawing = draw_for_screen(figure, width)
    return go.Figure(drawing.data, drawing.layout)


@dataclass(frozen=True)
class Drawing:
    """A figure as plotly's script reads it: plain values that JSON can hold.

    Attributes:
        data: the traces, each with its `type`.
        layout: the layout.
    """

    data: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any]


def draw_for_screen(figure: Figure, width: int = WIDE) -> Drawing:
    """Draw the figure for the screen, arranged for `width` pixels.

    The traces do not depend on the width; only the layout does. `layout["meta"]` holds the widths
    between which the layout may be stretched (`least`, `most`), and whether the height follows the
    width (`square`). Plotly itself is not imported: its checks of each property, which
    `to_plotly` runs, take longer than everything else that a page needs.

    >>> figure = Figure("knn", ((Lines("", "depth", "accuracy", (), (0.0, 1.0)),),))
    >>> draw_for_screen(figure).layout["yaxis"]["range"]
    [0.0, 1.0]
    """
    arrangement = arrange(figure, width)
    frame = _Frame.around(arrangement)
    layout = dict(_make_layout(figure, arrangement, frame))
    annotations, shapes = _make_header_notes(figure, frame), []
    traces: list[Mapping[str, Any]] = []
    images: list[Mapping[str, Any]] = []
    for index, box in enumerate(arrangement.boxes):
        name = str(index + 1) if index else ""
        x0, x1, y0, y1 = frame.corners(box)
        layout[f"xaxis{name}"], layout[f"yaxis{name}"] = _make_axes(
            figure, box, name, ([x0, x1], [y0, y1])
        )
        if box.title:
            title = f"<b>{'<br>'.join(map(escape, box.title))}</b>"
            annotations.append(_make_note(title, x0, y1, 0.0, 4.0, size=TEXT, yanchor="bottom"))
        if isinstance(box.panel, Heatmap):
            traces += make_heatmap_traces(figure, box.panel, name)
            shapes += _hatch(box.panel, name)
            continue
        listed = {trace["legendgroup"] for trace in traces if trace["type"] == "scatter"}
        if isinstance(box.panel, Picture):
            images.append(_make_image(encode_picture(box.panel.pixels), box.panel, name))
            traces += make_outline_traces(figure, box.panel, name, listed)
        elif isinstance(box.panel, Sheet):
            images.append(_make_image(box.panel.encode(), box.panel, name))
            traces.append(make_sheet_trace(box.panel, name))
        else:
            traces += make_line_traces(figure, box.panel, name, listed)
    return Drawing(
        traces, {**layout, "annotations": annotations, "shapes": shapes, "images": images}
    )


@dataclass(frozen=True)
class _Frame:
    """The plotting area, which all panels lie in: its size and the margins around it, in pixels."""

    left: float
    right: float
    top: float
    bottom: float
    width: float
    height: float

    @classmethod
    def around(cls, arrangement: Arrangement) -> "_Frame":
        left = min(box.left for box in arrangement.boxes)
        top = min(box.top for box in arrangement.boxes)
        bottom = arrangement.height - max(box.top + box.height for box in arrangement.boxes)
        width, height = arrangement.width - left - MARGIN, arrangement.height - top - bottom
        return cls(left, MARGIN, top, bottom, width, height)

    def corners(self, box: PanelBox) -> list[float]:
        """Return the left, right, lower and upper edge of a panel, as shares of the plotting
        area."""
        left = (box.left - self.left) / self.width
        bottom = 1 - (box.top - self.top + box.height) / self.height
        edges = left, left + box.width / self.width, bottom, bottom + box.height / self.height
        # plotly refuses 1 + 2e-16
        return [min(max(round(edge, 6), 0.0), 1.0) for edge in edges]


def _make_layout(figure: Figure, arrangement: Arrangement, frame: _Frame) -> Mapping[str, Any]:
    """Make the parts of the layout that do not depend on the panels: size, type, colours,
    legend."""
    has_maps = any(isinstance(panel, Heatmap) for panel in figure.shown())
    layout: dict[str, Any] = {
        "width": round(arrangement.width),
        "height": round(arrangement.height),
        "margin": {
            "l": frame.left,
            "r": frame.right,
            "t": frame.top,
            "b": frame.bottom,
            "pad": 0,
            "autoexpand": False,
        },
        "meta": {
            "least": math.ceil(arrangement.least),
            "most": math.ceil(arrangement.most),
            "square": has_maps,
        },
        "font": {"family": "inherit", "size": TICK},
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "hovermode": "closest",
        "hoverlabel": {"font": {"size": TEXT}, "align": "left"},
        "modebar": {"bgcolor": CLEAR, "color": CONTROLS[1], "activecolor": CONTROLS[0]},
        "showlegend": bool(choose_styles(figure)),
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": 1 - BAR_STRIP / arrangement.height if has_maps else 1,
            "xref": "container",
            "yref": "container",
            "xanchor": "left",
            "yanchor": "top",
            "entrywidth": measure_entry(figure) - 46,
            "font": {"size": TEXT},
            "bgcolor": CLEAR,
            "tracegroupgap": 0,
        },
    }
    if has_maps:
        layout["coloraxis"] = _make_colour_axis(figure, arrangement.height)
    return layout


def _make_header_notes(figure: Figure, frame: _Frame) -> list[Mapping[str, Any]]:
    """Make the unit above the colour bar, and the note on what a hatched cell means."""
    units = [panel.unit for panel in figure.shown() if isinstance(panel, Heatmap)]
    notes = [(units[0], INSET, 0)] if units else []
    if has_undefined(figure):
        notes.append(("▨ undefined", BAR + INSET + 20, 15))
    return [
        _make_note(escape(text), 0.0, 1.0, x - frame.left, frame.top - y, size=TEXT)
        for text, x, y in notes
    ]


def _make_note(
    text: str,
    x: float,
    y: float,
    xshift: float,
    yshift: float,
    *,
    size: float,
    yanchor: str = "top",
) -> Mapping[str, Any]:
    """Make text at a place of the plotting area, moved by pixels."""
    return {
        "text": text,
        "x": x,
        "y": y,
        "xref": "paper",
        "yref": "paper",
        "xshift": xshift,
        "yshift": yshift,
        "showarrow": False,
        "xanchor": "left",
        "yanchor": yanchor,
        "align": "left",
        "font": {"size": size},
        "borderpad": 0,
    }


def _make_colour_axis(figure: Figure, height: float) -> Mapping[str, Any]:
    """Make the one colour scale, and its bar above the panels."""
    low, high = find_colour_limits(figure)
    bar = {
        "orientation": "h",
        "x": 0,
        "y": 1 - 18 / height,
        "xref": "container",
        "yref": "container",
        "xanchor": "left",
        "yanchor": "top",
        "lenmode": "pixels",
        "len": BAR + 2 * INSET,
        "thickness": 10,
        "xpad": INSET,
        "ypad": 0,
        "outlinewidth": 0,
        "tickvals": choose_bar_ticks(low, high),
        "tickfont": {"size": TICK},
        "ticklabeloverflow": "allow",
    }
    return {"cmin": low, "cmax": high, "colorscale": SCALE.capitalize(), "colorbar": bar}


def _make_axes(
    figure: Figure, box: PanelBox, name: str, domains: tuple[list[float], list[float]]
) -> Iterator[Mapping[str, Any]]:
    """Make the x and the y axis of a panel, as plotly's layout takes them."""
    panel, labels = box.panel, (box.panel.x_label, box.panel.y_label)
    shown, spans = (box.x_shown, box.y_shown), (box.width, box.height)
    for axis, other, label, domain, has_labels, span in zip(
        "xy", "yx", labels, domains, shown, spans, strict=True
    ):
        title = escape(fit_label(label, span)) if has_labels else ""
        if isinstance(panel, Heatmap):
            own = _make_map_axis(panel, box, axis, name)
        elif isinstance(panel, Picture):
            extent = list(find_extent(figure, panel, axis))
            own = {"range": extent, "visible": False, "fixedrange": True}
        elif isinstance(panel, Sheet):
            extent = list(find_extent(figure, panel, axis))
            own = {**_make_sheet_axis(panel, box, axis), "range": extent}
        else:
            own = _make_line_axis(figure, panel, axis, span)
        yield {
            "domain": domain,
            "anchor": f"{other}{name}",
            "showticklabels": has_labels,
            "zeroline": False,
            "ticks": "outside",
            "ticklen": 4,
            "tickcolor": CLEAR,
            "title": {"text": title, "font": {"size": TEXT}, "standoff": 8},
            "tickfont": {"size": TICK},
            **own,
        }


def _make_map_axis(panel: Heatmap, box: PanelBox, axis: str, name: str) -> Mapping[str, Any]:
    """Make the properties of an axis of a heatmap, with square cells."""
    indices, texts = choose_ticks(box, axis)
    cells = panel.columns if axis == "x" else panel.rows
    common = {
        "type": "category",
        "range": [-0.5, len(cells) - 0.5],
        "showgrid": False,
        "constrain": "domain",
        "tickmode": "array",
        "tickvals": indices,
        "ticktext": [escape(text) for text in texts],
    }
    if axis == "x":
        upright = are_labels_turned(panel, box.width)
        return {**common, "tickangle": -90 if upright else 0, "constraintoward": "left"}
    return {**common, "scaleanchor": f"x{name}", "scaleratio": 1, "constraintoward": "bottom"}


def _make_sheet_axis(panel: Sheet, box: PanelBox, axis: str) -> Mapping[str, Any]:
    """Make the properties of an axis of a sheet, which has a label for each row or column."""
    indices, texts = choose_ticks(box, axis)
    middles = panel.middles(axis)
    return {
        "showgrid": False,
        "fixedrange": True,
        "tickmode": "array",
        "tickvals": [middles[index] for index in indices],
        "ticktext": [escape(text) for text in texts],
        "tickangle": 0,
    }


def _make_line_axis(figure: Figure, panel: Lines, axis: str, span: float) -> Mapping[str, Any]:
    """Make the properties of an axis of curves."""
    common = {
        "range": list(find_extent(figure, panel, axis)),
        "gridcolor": GRID,
        "nticks": 7,
        "showline": axis == "x",
        "linecolor": AXIS,
    }
    if axis == "y" or not panel.log_x:
        return common
    values = choose_log_ticks(panel, span)
    texts = [f"{value:,.7g}" for value in values]
    return {**common, "type": "log", "tickvals": values, "ticktext": texts}


def _make_image(source: str, panel: Picture | Sheet, name: str) -> Mapping[str, Any]:
    """Make the picture itself, which fills its axes; `source` is its data URL."""
    height, width = panel.size
    return {
        "source": source,
        "xref": f"x{name}",
        "yref": f"y{name}",
        "x": 0,
        "y": 0,
        "sizex": width,
        "sizey": height,
        "sizing": "stretch",
        "layer": "below",
    }


def _hatch(panel: Heatmap, name: str) -> list[dict[str, Any]]:
    """Strokes over the undefined cells, as one path in units of cells."""
    strokes = []
    for row, column in np.argwhere(np.isnan(panel.values)).tolist():
        for c in (-0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75):
            start = f"M{column - 0.5 + max(-c, 0):g},{row - 0.5 + max(c, 0):g}"
            strokes.append(f"{start}L{column + 0.5 - max(c, 0):g},{row + 0.5 + min(c, 0):g}")
    if not strokes:
        return []
    line = {"color": HATCH, "width": 1}
    return [
        {
            "type": "path",
            "path": "".join(strokes),
            "line": line,
            "xref": f"x{name}",
            "yref": f"y{name}",
        }
    ]
