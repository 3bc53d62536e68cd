"""Where each panel lies, in CSS pixels from the upper left corner, and what of its labels is shown
there."""

import itertools
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sslens.figure.panels import Figure, Heatmap, Lines, Panel
from sslens.figure.style import axis_key, line_styles

WIDE, NARROW, PAPER = 960, 350, 720
"""The widths, in CSS pixels, that a figure is arranged for: a desktop, a phone, a printed page."""

SWITCH = 640
"""The room, in CSS pixels, below which the arrangement for a phone is taken."""

BAR, BAR_STRIP, INSET = 220.0, 58.0, 10.0
LARGEST_CELL = 72.0
GAP, MARGIN = 14.0, 16.0  # between panels, and to the right of the last
LETTER = 6.3  # the mean width of a letter at the size of a tick label
ENTRY = 32  # letters of a name in the legend: two names fit beside each other on paper


@dataclass(frozen=True)
class Place:
    """One panel's box, its title in lines, and whether its two axes carry labels."""

    panel: Panel
    title: tuple[str, ...]
    left: float
    top: float
    width: float
    height: float
    x_shown: bool
    y_shown: bool


@dataclass(frozen=True)
class Arrangement:
    """All boxes, how many entries a row of the legend above them holds, and the widths that the
    whole may be stretched between."""

    width: float
    height: float
    per_row: int
    places: tuple[Place, ...]
    least: float
    most: float


def stacked(figure: Figure) -> Figure:
    """The figure for a narrow screen, in the same reading order: lines one below another,
    neighbouring heatmaps two a row.

    A grid stays as it is where a panel has no title of its own: its place says what it is.

    >>> panel = Lines("CLS", "depth", "accuracy", (), (0.0, 1.0))
    >>> stacked(Figure("knn", ((panel, panel),))).panels == ((panel,), (panel,))
    True
    """
    shown = figure.shown()
    if len(figure.panels[0]) == 1 or not all(panel.title for panel in shown):
        return figure
    rows: list[tuple[Panel | None, ...]] = []
    for square, group in itertools.groupby(shown, lambda panel: isinstance(panel, Heatmap)):
        panels, each = [*group], 2 if square else 1
        rows += [(*panels[i : i + each], None)[:2] for i in range(0, len(panels), each)]
    pairs = Figure(figure.name, tuple(rows))
    if (
        sum(isinstance(panel, Heatmap) for panel in shown) > 1
        and arrange(pairs, NARROW).width <= NARROW
    ):
        return pairs
    return Figure(figure.name, tuple((panel,) for panel in shown))


def arrange(figure: Figure, width: int) -> Arrangement:
    """Columns of equal width; labels only on the outermost of neighbours with equal axes, and room
    only where they are.

    Lines under a wider grid of heatmaps take no cells of it: they share the whole width.

    >>> panel = Lines("", "depth", "accuracy", (), (0.0, 1.0))
    >>> [place.y_shown for place in arrange(Figure("knn", ((panel, panel),)), WIDE).places]
    [True, False]
    """
    counts = _counts(figure)
    cells = {
        (i, j): p for i, row in enumerate(figure.panels) for j, p in enumerate(row) if p is not None
    }
    under = {
        (i, j): cells.get((i + 1, j)) if counts[i] == counts[min(i + 1, len(counts) - 1)] else None
        for i, j in cells
    }
    x_shown = {
        cell: axis_key(under[cell], "x") != axis_key(panel, "x") for cell, panel in cells.items()
    }
    y_shown = {
        (i, j): axis_key(cells.get((i, j - 1)), "y") != axis_key(panel, "y")
        for (i, j), panel in cells.items()
    }
    columns = _columns(figure, counts, [cell for cell in cells if y_shown[cell]])
    spare = {count: sum(column.left) + MARGIN for count, column in columns.items()}
    least = max(spare[count] + count * column.least for count, column in columns.items())
    most = max(least, spare[max(counts)] + max(counts) * columns[max(counts)].most)
    across = min(max(float(width), least), most)
    room = min(across, max(SWITCH, least)) - columns[max(counts)].left[0] - MARGIN
    per_row = max(int(room // entry_width(figure)), 1)
    top, places = _header(figure, per_row), []
    for i, count in enumerate(counts):
        here = {j: cells[i, j] for j in range(count) if (i, j) in cells}
        left, wide = columns[count].left, (across - spare[count]) / count
        titles = {
            j: tuple(_wrapped(panel.title, wide * min(PAPER / width, 1.0)))
            for j, panel in here.items()
        }
        top += 10 + 17 * max(map(len, titles.values()), default=0)
        high = max((_height(panel, wide) for panel in here.values()), default=0.0)
        for j, panel in here.items():
            size = (wide, high)
            if isinstance(panel, Heatmap):
                cell = min(wide / len(panel.columns), high / len(panel.rows), LARGEST_CELL)
                size = (cell * len(panel.columns), cell * len(panel.rows))
            x = sum(left[: j + 1]) + wide * j
            places.append(Place(panel, titles[j], x, top, *size, x_shown[i, j], y_shown[i, j]))
        top += high + max(
            [10.0] + [_x_room(panel, wide) for j, panel in here.items() if x_shown[i, j]]
        )
    return Arrangement(across, top, per_row, tuple(places), least, most)


def _counts(figure: Figure) -> list[int]:
    """How many panels share the width, row by row: all cells, or the lines alone that lead a row
    under heatmaps."""
    maps, counts = any(isinstance(panel, Heatmap) for panel in figure.shown()), []
    for row in figure.panels:
        lead = [*itertools.takewhile(lambda panel: isinstance(panel, Lines), row)]
        counts.append(len(lead) if maps and lead and not any(row[len(lead) :]) else len(row))
    return counts


@dataclass(frozen=True)
class _Columns:
    """The room left of each column, and the least and the largest width of a panel that reads
    well."""

    left: tuple[float, ...]
    least: float
    most: float


def _columns(
    figure: Figure, counts: Sequence[int], labelled: Sequence[tuple[int, int]]
) -> dict[int, _Columns]:
    """The columns of the rows that have equally many; the first begins at the same place in all
    rows."""
    columns = {}
    for count in sorted(set(counts)):
        rows = [row for row, own in zip(figure.panels, counts, strict=True) if own == count]
        least, most = _widths([panel for row in rows for panel in row if panel is not None])
        left = [GAP] * count
        for i, j in labelled:
            # Labels of rows may lie in the empty cell beside their panel: a triangle of pairs is no
            # wider than its panels.
            inside = least if j and figure.panels[i][j - 1] is None else 0.0
            if (panel := figure.panels[i][j]) is not None and (counts[i] == count or j == 0):
                left[j] = max(left[j], _y_room(panel) - inside)
        columns[count] = _Columns(tuple(left), least, most)
    return columns


def _widths(panels: Sequence[Panel]) -> tuple[float, float]:
    maps = [panel for panel in panels if isinstance(panel, Heatmap)]
    if len(maps) < len(panels):
        return 240.0, 920.0
    return 110.0, min(440.0, LARGEST_CELL * max((len(panel.columns) for panel in maps), default=1))


def _height(panel: Panel, width: float) -> float:
    if isinstance(panel, Lines):
        return min(max(0.62 * width, 230.0), 360.0)
    cell = min(width / len(panel.columns), LARGEST_CELL)
    return min(cell * len(panel.rows), 1.5 * width)


def _y_room(panel: Panel) -> float:
    letters = max(map(len, map(short, panel.rows))) if isinstance(panel, Heatmap) else 5
    return LETTER * letters + 14 + (22 if panel.y_label else 0)


def _x_room(panel: Panel, width: float) -> float:
    letters = (
        max(map(len, map(short, panel.columns)))
        if isinstance(panel, Heatmap) and turned(panel, width)
        else 2
    )
    return max(LETTER * letters, 14.0) + 14 + (20 if panel.x_label else 0)


def _header(figure: Figure, per_row: int) -> float:
    maps = any(isinstance(panel, Heatmap) for panel in figure.shown())
    rows = math.ceil(len(line_styles(figure)) / per_row)
    return float(BAR_STRIP * maps + (20 * rows + 8) * bool(rows))


def entry_width(figure: Figure) -> float:
    """The width of an entry of the legend."""
    return 46 + 6.9 * max(
        (len(short(style.name, ENTRY)) for style in line_styles(figure).values()), default=0
    )


def turned(panel: Heatmap, width: float) -> bool:
    """Whether labels of columns stand upright: they are words that do not fit beneath their
    cells."""
    letters = max(map(len, map(short, panel.columns)))
    return letters > 3 and LETTER * letters + 6 > width / len(panel.columns)


def ticks(place: Place, axis: str) -> tuple[list[int], list[str]]:
    """The rows or columns of a heatmap whose labels fit beside each other, and these labels."""
    assert isinstance(place.panel, Heatmap)
    labels = [short(label) for label in (place.panel.columns if axis == "x" else place.panel.rows)]
    lying = axis == "x" and not turned(place.panel, place.width)
    each = LETTER * max(map(len, labels)) + 6 if lying else 15.0
    kept = _thinned(labels, place.width if axis == "x" else place.height, each)
    return kept, [labels[index] for index in kept]


def log_ticks(panel: Lines, span: float) -> list[float]:
    """The points of a logarithmic axis that have room for their values along `span` pixels."""
    values = np.unique(np.concatenate([np.zeros(0), *(line.x for line in panel.lines)])).tolist()
    return [values[index] for index in _thinned(values, span, 52.0)]


def _thinned(labels: Sequence[Any], span: float, each: float) -> list[int]:
    """Every n-th index, such that a label of `each` pixels fits beside the next along `span`
    pixels."""
    return list(range(0, len(labels), max(1, math.ceil(each * len(labels) / span))))


def short(label: str, keep: int = 21) -> str:
    """The label, or its beginning and end, of a pair those of both names; the whole is in the hover
    and in the table.

    >>> short("random vit_mini_patch8_64 #0")
    'random vit_…tch8_64 #0'
    >>> short("mae · random vit_mini_patch8_64 #0")
    'mae · random …8_64 #0'
    """
    first, between, second = label.partition(" · ")
    if between and len(label) > keep + 1:
        room = keep - 4
        own = max(room // 2, room - len(second)), max(room // 2, room - len(first))
        return f"{short(first, own[0])} · {short(second, own[1])}"
    return (
        label if len(label) <= keep + 1 else f"{label[: keep - keep // 2]}…{label[-(keep // 2) :]}"
    )


def cut(label: str, span: float) -> str:
    """The beginning of an axis's label, as much as fits beside the axis.

    >>> cut("block of random", 63.0)
    'block of …'
    """
    keep = int(span / LETTER)
    return label if len(label) <= keep else f"{label[: keep - 1]}…"


def _wrapped(title: str, width: float) -> list[str]:
    """At most two lines; a pair that is too long for one stands with a name in each."""
    letters = max(int(width / 7), 12)
    first, between, second = title.partition(" · ")
    if between and len(title) > letters:
        return [f"{short(first, letters - 3)} ·", short(second, letters - 1)]
    return textwrap.wrap(title, letters, max_lines=2, placeholder=" …")
