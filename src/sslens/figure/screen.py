"""A figure on the screen, drawn by plotly."""

import html
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sslens.figure.arrangement import (
    BAR,
    BAR_STRIP,
    ENTRY,
    INSET,
    MARGIN,
    WIDE,
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
from sslens.figure.panels import Figure, Heatmap, Line, Lines
from sslens.figure.style import (
    CONTROLS,
    HATCH,
    SCALE,
    TEXT,
    TICK,
    UNDEFINED,
    any_undefined,
    bar_ticks,
    colour_limits,
    extent,
    line_styles,
    runs,
    written,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

CLEAR = "rgba(0,0,0,0)"


def to_plotly(figure: Figure, width: int = WIDE) -> "go.Figure":
    """The figure for the screen, arranged for `width` pixels; traces do not depend on the width,
    only the layout does.

    `layout.meta` says between which widths the layout may be stretched (`least`, `most`) and
    whether its height follows (`square`).

    >>> drawn = to_plotly(Figure("knn", ((Lines("", "depth", "accuracy", (), (0.0, 1.0)),),)))
    >>> tuple(drawn.layout.yaxis.range)
    (0.0, 1.0)
    """
    import plotly.graph_objects as go

    at = arrange(figure, width)
    margin = {
        "l": min(place.left for place in at.places),
        "r": MARGIN,
        "t": min(place.top for place in at.places),
    }
    margin["b"] = at.height - max(place.top + place.height for place in at.places)
    inner = (at.width - margin["l"] - margin["r"], at.height - margin["t"] - margin["b"])
    maps = [panel for panel in figure.shown() if isinstance(panel, Heatmap)]
    layout = _layout(figure, at, margin)
    if maps:
        layout["coloraxis"] = _colour_axis(figure, at.height)
        layout["legend"]["y"] = 1 - BAR_STRIP / at.height
        notes = [(maps[0].unit, INSET, 0)] + [
            ("▨ undefined", BAR + INSET + 20, 15)
        ] * any_undefined(figure)
        layout["annotations"] += [
            _note(_escaped(text), 0.0, 1.0, x - margin["l"], margin["t"] - y, size=TEXT)
            for text, x, y in notes
        ]
    traces: list[Any] = []
    for index, place in enumerate(at.places):
        name = str(index + 1) if index else ""
        left, bottom = (
            (place.left - margin["l"]) / inner[0],
            1 - (place.top - margin["t"] + place.height) / inner[1],
        )
        corners = left, left + place.width / inner[0], bottom, bottom + place.height / inner[1]
        x0, x1, y0, y1 = (
            min(max(round(corner, 6), 0.0), 1.0) for corner in corners
        )  # plotly refuses 1 + 2e-16
        domains = [x0, x1], [y0, y1]
        layout[f"xaxis{name}"], layout[f"yaxis{name}"] = _axes(figure, place, name, domains)
        if place.title:
            title = f"<b>{'<br>'.join(map(_escaped, place.title))}</b>"
            layout["annotations"].append(
                _note(title, x0, y1, 0.0, 4.0, size=TEXT, yanchor="bottom")
            )
        if isinstance(place.panel, Heatmap):
            traces += _heatmap(figure, place.panel, name)
            layout["shapes"] += _hatch(place.panel, name)
        else:
            listed = {trace.legendgroup for trace in traces if trace.type == "scatter"}
            traces += _lines(figure, place.panel, name, listed)
    return go.Figure(traces, layout)


def _layout(figure: Figure, at: Arrangement, margin: dict[str, float]) -> dict[str, Any]:
    """What does not depend on the panels: size, type, colours, legend."""
    square = any(isinstance(panel, Heatmap) for panel in figure.shown())
    return {
        "width": round(at.width), "height": round(at.height), "margin": {**margin, "pad": 0, "autoexpand": False},
        "meta": {"least": math.ceil(at.least), "most": math.ceil(at.most), "square": square},
        "font": {"family": "inherit", "size": TICK}, "paper_bgcolor": CLEAR, "plot_bgcolor": CLEAR,
        "hovermode": "closest", "hoverlabel": {"font": {"size": TEXT}, "align": "left"},
        "modebar": {"bgcolor": CLEAR, "color": CONTROLS[1], "activecolor": CONTROLS[0]},
        "annotations": [], "shapes": [], "showlegend": bool(line_styles(figure)),
        "legend": {
            "orientation": "h", "x": 0, "y": 1, "xref": "container", "yref": "container",
            "xanchor": "left", "yanchor": "top", "entrywidth": entry_width(figure) - 46, "font": {"size": TEXT},
            "bgcolor": CLEAR, "tracegroupgap": 0,
        },
    }  # fmt: skip


def _note(
    text: str,
    x: float,
    y: float,
    xshift: float,
    yshift: float,
    *,
    size: float,
    yanchor: str = "top",
) -> dict[str, Any]:
    """Text at a place of the plotting area, moved by pixels."""
    return {
        "text": text, "x": x, "y": y, "xref": "paper", "yref": "paper", "xshift": xshift, "yshift": yshift, "showarrow": False,
        "xanchor": "left", "yanchor": yanchor, "align": "left", "font": {"size": size}, "borderpad": 0,
    }  # fmt: skip


def _colour_axis(figure: Figure, height: float) -> dict[str, Any]:
    low, high = colour_limits(figure)
    return {
        "cmin": low, "cmax": high, "colorscale": SCALE.capitalize(),
        "colorbar": {
            "orientation": "h", "x": 0, "y": 1 - 18 / height, "xref": "container", "yref": "container",
            "xanchor": "left", "yanchor": "top", "lenmode": "pixels", "len": BAR + 2 * INSET, "thickness": 10,
            "xpad": INSET, "ypad": 0, "outlinewidth": 0, "tickvals": bar_ticks(low, high), "tickfont": {"size": TICK},
            "ticklabeloverflow": "allow",
        },
    }  # fmt: skip


def _axes(
    figure: Figure, place: Place, name: str, domains: Sequence[list[float]]
) -> Iterator[dict[str, Any]]:
    panel = place.panel
    for axis, shown, domain, span in zip(
        "xy", (place.x_shown, place.y_shown), domains, (place.width, place.height), strict=True
    ):
        label = panel.x_label if axis == "x" else panel.y_label
        shape: dict[str, Any] = {
            "domain": domain, "anchor": f"{'y' if axis == 'x' else 'x'}{name}", "showticklabels": shown,
            "zeroline": False, "ticks": "outside", "ticklen": 4, "tickcolor": CLEAR,
            "title": {"text": _escaped(cut(label, span)) if shown else "", "font": {"size": TEXT}, "standoff": 8},
            "tickfont": {"size": TICK},
        }  # fmt: skip
        if isinstance(panel, Heatmap):
            kept, texts = ticks(place, axis)
            labels = panel.columns if axis == "x" else panel.rows
            shape |= {
                "type": "category",
                "range": [-0.5, len(labels) - 0.5],
                "showgrid": False,
                "constrain": "domain",
            }
            shape |= {
                "tickmode": "array",
                "tickvals": kept,
                "ticktext": [_escaped(text) for text in texts],
            }
            if axis == "x":
                shape |= {
                    "tickangle": -90 if turned(panel, place.width) else 0,
                    "constraintoward": "left",
                }
            else:
                shape |= {"scaleanchor": f"x{name}", "scaleratio": 1, "constraintoward": "bottom"}
        else:
            shape |= {
                "range": list(extent(figure, panel, axis)),
                "gridcolor": "rgba(128,128,128,0.22)",
                "nticks": 7,
            }
            shape |= {"showline": axis == "x", "linecolor": "rgba(128,128,128,0.7)"}
            if axis == "x" and panel.log_x:
                values = log_ticks(panel, span)
                shape |= {
                    "type": "log",
                    "tickvals": values,
                    "ticktext": [f"{value:,.7g}" for value in values],
                }
        yield shape


def _heatmap(figure: Figure, panel: Heatmap, name: str) -> Iterator[Any]:
    import plotly.graph_objects as go

    columns, rows = (
        [_escaped(label) for label in panel.columns],
        [_escaped(label) for label in panel.rows],
    )
    where = f"<b>{_escaped(panel.title)}</b><br>" if panel.title else ""
    where += f"{_escaped(panel.y_label)} %{{y}}<br>{_escaped(panel.x_label)} %{{x}}<br>"
    common = {
        "x": columns,
        "y": rows,
        "xaxis": f"x{name}",
        "yaxis": f"y{name}",
        "xgap": 0,
        "ygap": 0,
    }
    cells = {"texttemplate": "%{z:.2f}"} if written(figure, panel) else {}
    undefined = np.isnan(panel.values)
    if undefined.any():
        grey = [[1 if cell else None for cell in row] for row in undefined]
        says = f"{where}<b>undefined</b><extra></extra>"
        alone = {"colorscale": [[0, UNDEFINED], [1, UNDEFINED]], "showscale": False}
        yield go.Heatmap(z=grey, hovertemplate=says, name="undefined", **alone, **common)
    says = f"{where}{_escaped(panel.unit)} <b>%{{z:.4~g}}</b><extra></extra>"
    values = [_rounded(row) for row in panel.values]
    yield go.Heatmap(
        z=values, coloraxis="coloraxis", hovertemplate=says, hoverongaps=False, **common, **cells
    )


def _hatch(panel: Heatmap, name: str) -> list[dict[str, Any]]:
    """Strokes over the undefined cells, as one path in units of cells."""
    strokes = [
        f"M{column - 0.5 + max(-c, 0):g},{row - 0.5 + max(c, 0):g}L{column + 0.5 - max(c, 0):g},{row + 0.5 + min(c, 0):g}"
        for row, column in np.argwhere(np.isnan(panel.values)).tolist()
        for c in (-0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75)
    ]
    path = {"type": "path", "path": "".join(strokes), "line": {"color": HATCH, "width": 1}}
    return [path | {"xref": f"x{name}", "yref": f"y{name}"}] if strokes else []


def _lines(figure: Figure, panel: Lines, name: str, listed: set[str]) -> Iterator[Any]:
    import plotly.graph_objects as go

    styles = line_styles(figure)
    axes = {"xaxis": f"x{name}", "yaxis": f"y{name}"}
    for line in panel.lines:
        if line.low is None or line.high is None:
            continue
        x, y = [], []
        for run in runs(line):
            x += [*_rounded(line.x[run]), *_rounded(line.x[run][::-1]), None]
            y += [*_rounded(line.low[run]), *_rounded(line.high[run][::-1]), None]
        colour = f"rgba{_rgba(styles[line.name].colour)}"
        yield go.Scatter(
            x=x, y=y, mode="lines", fill="toself", fillcolor=colour, line={"width": 1, "color": colour},
            hoverinfo="skip", showlegend=False, legendgroup=_escaped(line.name), name=f"{_escaped(line.name)} interval", **axes,
        )  # fmt: skip
    for line in panel.lines:
        style = styles[line.name]
        title = _escaped(short(line.name, ENTRY))
        drawn = {"color": style.colour, "width": 1.5 if line.control else 2, "dash": style.dash[0]}
        marker = (
            {"symbol": style.marker[0], "size": 6, "color": style.colour} if style.marker else None
        )
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
    return [
        "" if low is None or high is None else f"<br>interval {low:g} to {high:g}"
        for low, high in bounds
    ]


def _rgba(colour: str) -> tuple[int, int, int, float]:
    red, green, blue = (int(colour[index : index + 2], 16) for index in (1, 3, 5))
    return red, green, blue, 0.16


def _rounded(array: np.ndarray) -> list[float | None]:
    """Four significant digits, more than a screen shows, and None for what is undefined."""
    return [float(f"{value:.4g}") if math.isfinite(value) else None for value in array.tolist()]


def _escaped(text: str) -> str:
    """Plain text where plotly reads a subset of HTML, mathematics between dollars and variables in
    braces."""
    return html.escape(text, quote=False).replace("$", "&#36;").replace("{", "&#123;")
