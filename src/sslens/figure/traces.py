"""The traces of panels on the screen, as plotly draws them, with their hover texts."""

import html
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from sslens.figure.panels import Figure, Heatmap, Line, Lines
from sslens.figure.pictures import Picture
from sslens.figure.sheets import Sheet
from sslens.figure.style import UNDEFINED, Style, are_values_written, choose_styles, find_runs


def make_heatmap_traces(figure: Figure, panel: Heatmap, name: str) -> Iterator[Mapping[str, Any]]:
    """Make the plotly traces of a heatmap: the undefined cells, if there are any, then the values.

    `name` is the suffix of plotly's axes, such as "2" for x2 and y2.
    """
    where = f"<b>{escape(panel.title)}</b><br>" if panel.title else ""
    where += f"{escape(panel.y_label)} %{{y}}<br>{escape(panel.x_label)} %{{x}}<br>"
    common = {
        "x": [escape(label) for label in panel.columns],
        "y": [escape(label) for label in panel.rows],
        "xaxis": f"x{name}",
        "yaxis": f"y{name}",
        "xgap": 0,
        "ygap": 0,
    }
    undefined = np.isnan(panel.values)
    if undefined.any():
        yield {
            "type": "heatmap",
            "z": [[1 if cell else None for cell in row] for row in undefined],
            "hovertemplate": f"{where}<b>undefined</b><extra></extra>",
            "name": "undefined",
            "colorscale": [[0, UNDEFINED], [1, UNDEFINED]],
            "showscale": False,
            **common,
        }
    if are_values_written(figure, panel):
        common["texttemplate"] = "%{z:.2f}"
    yield {
        "type": "heatmap",
        "z": [_round(row) for row in panel.values],
        "coloraxis": "coloraxis",
        "hovertemplate": f"{where}{escape(panel.unit)} <b>%{{z:.4~g}}</b><extra></extra>",
        "hoverongaps": False,
        **common,
    }


def make_line_traces(
    figure: Figure, panel: Lines, name: str, listed: set[str]
) -> Iterator[Mapping[str, Any]]:
    """Make the plotly traces of curves: all intervals, then all lines, so that no interval hides a
    line.

    `name` is the suffix of plotly's axes. `listed` holds the names that the legend has already,
    which are not listed again.
    """
    styles = choose_styles(figure)
    for line in panel.lines:
        if line.low is not None and line.high is not None:
            yield _make_interval(line, line.low, line.high, styles[line.name], name)
    for line in panel.lines:
        yield _make_line(panel, line, styles[line.name], name, listed)


def make_outline_traces(
    figure: Figure, panel: Picture, name: str, listed: set[str]
) -> Iterator[Mapping[str, Any]]:
    """Make the plotly traces of the outlines of a picture, one for each name.

    `name` is the suffix of plotly's axes. `listed` holds the names that the legend has already.
    """
    styles = choose_styles(figure)
    for own in dict.fromkeys(outline.name for outline in panel.outlines):
        x: list[float | None] = []
        y: list[float | None] = []
        labels: list[str] = []
        for outline in panel.outlines:
            if outline.name == own:
                left, top, right, bottom = (round(edge, 1) for edge in outline.box)
                x += [left, right, right, left, left, None]
                y += [top, top, bottom, bottom, top, None]
                labels += [escape(outline.label)] * 6
        yield {
            "type": "scatter",
            "x": x,
            "y": y,
            "mode": "lines",
            "line": {"color": styles[own].colour, "width": 2},
            "text": labels,
            "hovertemplate": f"{escape(own)}<br><b>%{{text}}</b><extra></extra>",
            "name": escape(own),
            "legendgroup": escape(own),
            "showlegend": escape(own) not in listed,
            "xaxis": f"x{name}",
            "yaxis": f"y{name}",
        }


def make_sheet_trace(panel: Sheet, name: str) -> Mapping[str, Any]:
    """Make an invisible point in the middle of each picture of a sheet, with its hover text."""
    places = [
        (x, y, f"{escape(row)}, {escape(column)}")
        for row, y in zip(panel.rows, panel.middles("y"), strict=True)
        for column, x in zip(panel.columns, panel.middles("x"), strict=True)
    ]
    x, y, texts = (list(values) for values in zip(*places, strict=True))
    return {
        "type": "scatter",
        "x": x,
        "y": y,
        "mode": "markers",
        "marker": {"opacity": 0, "size": 12},
        "text": texts,
        "hovertemplate": "%{text}<extra></extra>",
        "showlegend": False,
        "legendgroup": "",
        "xaxis": f"x{name}",
        "yaxis": f"y{name}",
    }


def _make_interval(
    line: Line, low: np.ndarray, high: np.ndarray, style: Style, name: str
) -> Mapping[str, Any]:
    """Make the band of a curve's interval, a polygon for each run of points."""
    x, y = [], []
    for run in find_runs(line):
        x += [*_round(line.x[run]), *_round(line.x[run][::-1]), None]
        y += [*_round(low[run]), *_round(high[run][::-1]), None]
    colour = f"rgba{_parse_colour(style.colour)}"
    return {
        "type": "scatter",
        "x": x,
        "y": y,
        "mode": "lines",
        "fill": "toself",
        "fillcolor": colour,
        "line": {"width": 1, "color": colour},
        "hoverinfo": "skip",
        "showlegend": False,
        "legendgroup": escape(line.name),
        "name": f"{escape(line.name)} interval",
        "xaxis": f"x{name}",
        "yaxis": f"y{name}",
    }


def _make_line(
    panel: Lines, line: Line, style: Style, name: str, listed: set[str]
) -> Mapping[str, Any]:
    """Make the points of a curve, with their hover texts."""
    hover = f"<b>{escape(line.name)}</b><br>{escape(panel.x_label)} %{{x:.4~g}}<br>"
    hover += f"{escape(panel.y_label)} %{{y:.4~g}}%{{text}}<extra></extra>"
    points: dict[str, Any] = {"mode": "lines"}
    if style.marker:
        marker = {"symbol": style.marker[0], "size": 6, "color": style.colour}
        points = {"mode": "lines+markers", "marker": marker}
    return {
        "type": "scatter",
        "x": _round(line.x),
        "y": _round(line.y),
        **points,
        "line": {
            "color": style.colour,
            "width": 1.5 if line.control else 2,
            "dash": style.dash[0],
        },
        "text": _describe_intervals(line),
        "hovertemplate": hover,
        "name": escape(line.name),
        "legendgroup": escape(line.name),
        "showlegend": escape(line.name) not in listed,
        "connectgaps": False,
        "xaxis": f"x{name}",
        "yaxis": f"y{name}",
    }


def _describe_intervals(line: Line) -> list[str]:
    """Describe the interval of each point in words, empty where there is none."""
    if line.low is None or line.high is None:
        return [""] * len(line.x)
    bounds = zip(_round(line.low), _round(line.high), strict=True)
    return [
        "" if low is None or high is None else f"<br>interval {low:g} to {high:g}"
        for low, high in bounds
    ]


def _parse_colour(colour: str) -> tuple[int, int, int, float]:
    red, green, blue = (int(colour[index : index + 2], 16) for index in (1, 3, 5))
    return red, green, blue, 0.16


def _round(array: np.ndarray) -> list[float | None]:
    """Round values to four significant digits, more than a screen shows; None where one is
    undefined."""
    return [float(f"{value:.4g}") if math.isfinite(value) else None for value in array.tolist()]


def escape(text: str) -> str:
    """Escape text for plotly, which reads a subset of HTML, mathematics between dollars and
    variables in braces."""
    return html.escape(text, quote=False).replace("$", "&#36;").replace("{", "&#123;")
