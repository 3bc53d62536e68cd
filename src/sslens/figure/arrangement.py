"""The arrangement of a figure: the box of each panel, in CSS pixels from the upper left corner, and
the labels for which there is room."""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from sslens.figure.panels import Figure, Heatmap, Lines, Panel
from sslens.figure.pictures import Picture
from sslens.figure.sheets import Sheet
from sslens.figure.style import choose_styles, make_axis_key

WIDE, NARROW, PAPER = 960, 350, 720
"""The widths, in CSS pixels, for which a figure is arranged: a desktop, a phone, a printed page."""

SWITCH = 640
"""The room, in CSS pixels, below which the arrangement for a phone is taken."""

BAR, BAR_STRIP, INSET = 220.0, 58.0, 10.0  # the colour bar's width, its strip's height, its left
LARGEST_CELL = 72.0  # the widest cell of a heatmap
GAP, MARGIN = 14.0, 16.0  # between panels, and to the right of the last
SMALL_PICTURE, LARGE_PICTURE = 96.0, 220.0  # the least and the largest width of a picture
SMALL_SHEET, LARGE_SHEET = 240.0, 620.0  # the same of a sheet of pictures
LETTER = 6.3  # the mean width of a letter at the size of a tick label


@dataclass(frozen=True)
class PanelBox:
    """The place of one panel.

    Attributes:
        panel: the panel.
        title: the lines of the panel's title.
        left: left edge, in CSS pixels from the figure's left edge.
        top: upper edge, in CSS pixels from the figure's upper edge.
        width: width in CSS pixels.
        height: height in CSS pixels.
        x_shown: whether the x axis carries labels.
        y_shown: whether the y axis carries labels.
    """

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
    """The places of all panels of a figure.

    Attributes:
        width: width of the figure in CSS pixels.
        height: height of the figure in CSS pixels.
        per_row: number of entries in a row of the legend above the panels.
        boxes: the place of each panel.
        least: smallest width to which the figure may be shrunk.
        most: largest width to which the figure may be stretched.
    """

    width: float
    height: float
    per_row: int
    boxes: tuple[PanelBox, ...]
    least: float
    most: float


def stack_panels(figure: Figure) -> Figure:
    """Rearrange a figure for a narrow screen, in the same reading order.

    Panels of lines are stacked; neighbouring heatmaps stand two in a row if they fit.

    A grid stays as it is where a panel has no title, because the panel's place in the grid then
    says what it is.

    >>> panel = Lines("CLS", "depth", "accuracy", (), (0.0, 1.0))
    >>> stack_panels(Figure("knn", ((panel, panel),))).panels == ((panel,), (panel,))
    True
    """
    shown = figure.shown()
    if len(figure.panels[0]) == 1 or not all(panel.title for panel in shown):
        return figure
    rows: list[tuple[Panel | None, ...]] = []
    for square, group in itertools.groupby(shown, lambda panel: not isinstance(panel, Lines)):
        panels, per_row = [*group], 2 if square else 1
        rows += [(*panels[i : i + per_row], None)[:2] for i in range(0, len(panels), per_row)]
    pairs = Figure(figure.name, tuple(rows))
    maps = sum(not isinstance(panel, Lines) for panel in shown)
    if maps > 1 and arrange(pairs, NARROW).width <= NARROW:
        return pairs
    return Figure(figure.name, tuple((panel,) for panel in shown))


def arrange(figure: Figure, width: int) -> Arrangement:
    """Arrange a figure's panels in columns of equal width.

    Of neighbouring panels with equal axes only the outermost one carries labels, and only there is
    room left for labels. Panels of lines below a wider grid of heatmaps are not aligned with the
    grid's columns, but share the whole width.

    >>> panel = Lines("", "depth", "accuracy", (), (0.0, 1.0))
    >>> [box.y_shown for box in arrange(Figure("knn", ((panel, panel),)), WIDE).boxes]
    [True, False]
    """
    counts = _count_panels(figure)
    cells = _list_cells(figure)
    x_shown, y_shown = _choose_labelled(cells, counts)
    columns = _measure_columns(figure, counts, [cell for cell in cells if y_shown[cell]])
    spare = {count: sum(column.left) + MARGIN for count, column in columns.items()}
    least = max(spare[count] + count * column.least for count, column in columns.items())
    most = max(least, spare[max(counts)] + max(counts) * columns[max(counts)].most)
    across = min(max(float(width), least), most)
    room = min(across, max(SWITCH, least)) - columns[max(counts)].left[0] - MARGIN
    per_row = max(int(room // measure_entry(figure)), 1)
    top, boxes = _measure_header(figure, per_row), []
    for i, count in enumerate(counts):
        here = {j: cells[i, j] for j in range(count) if (i, j) in cells}
        left, wide = columns[count].left, (across - spare[count]) / count
        if all(isinstance(panel, Picture) for panel in here.values()):
            wide = min(wide, LARGE_PICTURE)
        shrunk = min(PAPER / width, 1.0)
        titles = {
            j: tuple(_wrap_title(panel.title, _measure_title_room(here, j, wide) * shrunk))
            for j, panel in here.items()
        }
        top += 10 + 17 * max(map(len, titles.values()), default=0)
        high = max((_measure_height(panel, wide) for panel in here.values()), default=0.0)
        below = [10.0]
        for j, panel in here.items():
            size = (wide, high)
            if isinstance(panel, Heatmap):
                cell = min(wide / len(panel.columns), high / len(panel.rows), LARGEST_CELL)
                size = (cell * len(panel.columns), cell * len(panel.rows))
            x = sum(left[: j + 1]) + wide * j
            boxes.append(PanelBox(panel, titles[j], x, top, *size, x_shown[i, j], y_shown[i, j]))
            below += [_measure_x_room(panel, size[0])] * x_shown[i, j]
        top += high + max(below)
    return Arrangement(across, top, per_row, tuple(boxes), least, most)


Cell: TypeAlias = tuple[int, int]


def _list_cells(figure: Figure) -> dict[Cell, Panel]:
    """List the panels by row and column, without the empty cells."""
    return {
        (i, j): panel
        for i, row in enumerate(figure.panels)
        for j, panel in enumerate(row)
        if panel is not None
    }


def _choose_labelled(
    cells: Mapping[Cell, Panel], counts: Sequence[int]
) -> tuple[dict[Cell, bool], dict[Cell, bool]]:
    """Choose whether the x axis and the y axis of each panel carry labels: not if the panel below,
    or on the left, has the same axis."""
    x_shown, y_shown = {}, {}
    for (i, j), panel in cells.items():
        in_line = counts[i] == counts[min(i + 1, len(counts) - 1)]
        below = cells.get((i + 1, j)) if in_line else None
        x_shown[i, j] = make_axis_key(below, "x") != make_axis_key(panel, "x")
        y_shown[i, j] = make_axis_key(cells.get((i, j - 1)), "y") != make_axis_key(panel, "y")
    return x_shown, y_shown


def _count_panels(figure: Figure) -> list[int]:
    """Count the panels that share the width, row by row: all cells, or only the lines at the
    beginning of a row below heatmaps, or whatever stands at the beginning of a row above or below
    pictures."""
    maps, pictures = (
        any(isinstance(panel, kind) for panel in figure.shown())
        for kind in (Heatmap, Picture | Sheet)
    )
    alone: tuple[type, ...] = (Lines,) if maps else ()
    alone = (Lines, Heatmap) if pictures else alone
    counts = []
    for row in figure.panels:
        first = [*itertools.takewhile(lambda panel: isinstance(panel, alone), row)]
        counts.append(len(first) if first and not any(row[len(first) :]) else len(row))
    return counts


@dataclass(frozen=True)
class _Columns:
    """The room on the left of each column, and the least and the largest width at which a panel
    reads well."""

    left: tuple[float, ...]
    least: float
    most: float


def _measure_columns(
    figure: Figure, counts: Sequence[int], labelled: Sequence[tuple[int, int]]
) -> dict[int, _Columns]:
    """Measure the columns of all rows with so many panels, by that number; the first column begins
    at the same place in all rows."""
    columns = {}
    for count in sorted(set(counts)):
        rows = [row for row, own in zip(figure.panels, counts, strict=True) if own == count]
        least, most = _measure_widths([panel for row in rows for panel in row if panel is not None])
        left = [GAP] * count
        for i, j in labelled:
            # Labels of rows may lie in the empty cell beside their panel, so that a triangle of
            # pairs is no wider than its panels.
            inside = least if j and figure.panels[i][j - 1] is None else 0.0
            if (panel := figure.panels[i][j]) is not None and (counts[i] == count or j == 0):
                left[j] = max(left[j], _measure_y_room(panel) - inside)
        columns[count] = _Columns(tuple(left), least, most)
    return columns


def _measure_widths(panels: Sequence[Panel]) -> tuple[float, float]:
    maps = [panel for panel in panels if isinstance(panel, Heatmap)]
    pictures = [panel for panel in panels if isinstance(panel, Picture)]
    if any(isinstance(panel, Sheet) for panel in panels):
        return SMALL_SHEET, LARGE_SHEET
    if len(maps) + len(pictures) < len(panels):
        return 240.0, 920.0
    if not maps:
        return SMALL_PICTURE, LARGE_PICTURE
    return 110.0, min(440.0, LARGEST_CELL * max((len(panel.columns) for panel in maps), default=1))


def _measure_height(panel: Panel, width: float) -> float:
    if isinstance(panel, Picture | Sheet):
        return width * panel.ratio
    if isinstance(panel, Lines):
        return min(max(0.62 * width, 230.0), 360.0)
    cell = min(width / len(panel.columns), LARGEST_CELL)
    return min(cell * len(panel.rows), 1.5 * width)


def _measure_y_room(panel: Panel) -> float:
    if isinstance(panel, Picture):
        return 0.0
    letters = 5
    if isinstance(panel, Heatmap | Sheet):
        letters = max(map(len, panel.rows))
    return LETTER * letters + 14 + (22 if panel.y_label else 0)


def _measure_x_room(panel: Panel, width: float) -> float:
    if isinstance(panel, Picture):
        return 6.0
    letters = 2
    if isinstance(panel, Heatmap) and are_labels_turned(panel, width):
        letters = max(map(len, panel.columns))
    return max(LETTER * letters, 14.0) + 14 + (20 if panel.x_label else 0)


def _measure_header(figure: Figure, per_row: int) -> float:
    maps = any(isinstance(panel, Heatmap) for panel in figure.shown())
    rows = math.ceil(len(choose_styles(figure)) / per_row)
    return float(BAR_STRIP * maps + (20 * rows + 8) * bool(rows))


def measure_entry(figure: Figure) -> float:
    """Return the width of an entry of the legend, in CSS pixels."""
    names = [style.name for style in choose_styles(figure).values()]
    return 46 + 6.9 * max(map(len, names), default=0)


def are_labels_turned(panel: Heatmap, width: float) -> bool:
    """Whether the labels of the columns are rotated, because they are too long for their cells.

    `width` is the panel's width in CSS pixels.
    """
    letters = max(map(len, panel.columns))
    return letters > 3 and LETTER * letters + 6 > width / len(panel.columns)


def choose_ticks(box: PanelBox, axis: str) -> tuple[list[int], list[str]]:
    """Choose which rows ("y") or columns ("x") of a heatmap or sheet are labelled, as many as fit.

    Returns:
        The indices of the labelled rows or columns, and their labels.
    """
    assert isinstance(box.panel, Heatmap | Sheet)
    labels = list(box.panel.columns if axis == "x" else box.panel.rows)
    turned = isinstance(box.panel, Heatmap) and are_labels_turned(box.panel, box.width)
    lying = axis == "x" and not turned
    pixels = LETTER * max(map(len, labels)) + 6 if lying else 15.0
    indices = _thin_out(labels, box.width if axis == "x" else box.height, pixels)
    return indices, [labels[index] for index in indices]


def choose_log_ticks(panel: Lines, span: float) -> list[float]:
    """Choose the x values of a logarithmic axis that are labelled, as many as fit in `span` CSS
    pixels."""
    values = np.unique(np.concatenate([np.zeros(0), *(line.x for line in panel.lines)])).tolist()
    return [values[index] for index in _thin_out(values, span, 52.0)]


def _thin_out(labels: Sequence[Any], span: float, pixels: float) -> list[int]:
    """Take every n-th index, so that labels of so many `pixels` fit beside each other along `span`
    pixels."""
    return list(range(0, len(labels), max(1, math.ceil(pixels * len(labels) / span))))


def fit_label(label: str, span: float) -> str:
    """Fit an axis's label in `span` CSS pixels: a model's name is left out whole where it does
    not fit, for the title has it; another label is cut off at its end.

    >>> fit_label("block of random", 120.0), fit_label("block of random", 63.0)
    ('block of random', 'block')
    >>> fit_label("accuracies", 50.0)
    'accura…'
    """
    keep = int(span / LETTER)
    if len(label) > keep:
        label = label.partition(" of ")[0]
    return label if len(label) <= keep else f"{label[: keep - 1]}…"


def _measure_title_room(row: Mapping[int, Panel], place: int, width: float) -> float:
    """Return the room of a panel's title: a picture's may run on above pictures without one."""
    after = itertools.takewhile(
        lambda other: isinstance(row.get(other), Picture) and not row[other].title,
        range(place + 1, max(row) + 1),
    )
    run_on = len([*after]) if isinstance(row[place], Picture) else 0
    return width + run_on * (width + GAP)


def _wrap_title(title: str, width: float) -> list[str]:
    """Wrap a title into lines; a pair that is too long for one has each name on lines of its own. A
    name is wrapped after a mark between its words, and never cut.

    >>> _wrap_title("mae · random vit_mini_patch8_64 #0", 98.0)
    ['mae ·', 'random vit_', 'mini_patch8_64', '#0']
    """
    letters = max(int(width / 7), 12)
    first, between, second = title.partition(" · ")
    if between and len(title) > letters:
        return [*_wrap_name(f"{first} ·", letters), *_wrap_name(second, letters)]
    return _wrap_name(title, letters)


def _wrap_name(name: str, letters: int) -> list[str]:
    """Wrap a name at spaces and after other marks, or within a word where there are none."""
    lines = [""]
    for part in re.findall(r"[^\s_\-./]*(?:[_\-./]+|\s+|$)", name):
        if len(lines[-1].rstrip()) + len(part.rstrip()) > letters and lines[-1]:
            lines.append("")
        lines[-1] += part
        while len(lines[-1].rstrip()) > letters:
            lines[-1:] = [lines[-1][:letters], lines[-1][letters:]]
    return [line.strip() for line in lines if line.strip()]
