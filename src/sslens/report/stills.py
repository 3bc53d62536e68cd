"""Pictures that need no script: what a reader without JavaScript sees of a drawing, as SVG
elements."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from jaxtyping import Bool

from sslens.figure import Heatmap, Line, Lines, Panel, Picture, encode_picture
from sslens.figure.style import choose_bar_ticks
from sslens.report.colours import COLOURED, number_curves
from sslens.report.writing.numbers import typeset

#: 16 colours of viridis from its low to its high end; colours between them are mixed
VIRIDIS = (
    *("440154", "481a6c", "472f7d", "414487", "39568c", "31688e", "2a788e", "23888e"),
    *("1f988b", "22a884", "35b779", "54c568", "7ad151", "a5db36", "d2e21b", "fde725"),
)
#: values of a curve that differ by less, of the greatest, are even
EVEN = 0.05
LETTER, LINE = 6.6, 14.0  # the width of a letter, and the height of a line of labels, in pixels


Box = tuple[float, float, float, float]


def draw_still(panel: Panel, colours: Mapping[str, int] | None = None) -> str:
    """Draw a panel as one SVG element.

    Args:
        panel: a map, curves or pictures.
        colours: of curves by their names (`colours.choose_colours`); in their order unless given.

    >>> values, blocks = np.array([[1.0, 0.5]]), ("0", "1")
    >>> heatmap = Heatmap("", values, ("0",), blocks, "block", "block", (0.0, 1.0), "CKA")
    >>> draw_still(heatmap).count("<rect")  # two cells, and their frame
    3
    """
    if isinstance(panel, Heatmap):
        return _draw_map(panel)
    if isinstance(panel, Lines):
        return _draw_curves(panel, colours or {})
    source = encode_picture(panel.pixels) if isinstance(panel, Picture) else panel.encode()
    height, width = map(float, panel.size)
    marks = [f'<image href="{source}" width="{width:.0f}" height="{height:.0f}"/>']
    for one in panel.outlines if isinstance(panel, Picture) else ():
        left, top, right, bottom = one.box
        note, kind = escape(f"{one.name}: {one.label}"), one.name.replace(" ", "-")
        marks.append(
            f'<rect class="outline {kind}" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}"'
            f' height="{bottom - top:.1f}"><title>{note}</title></rect>'
        )
    return wrap_marks(marks, width, height)


def find_scale(panel: Heatmap) -> tuple[float, float]:
    """The values at the ends of a map's colours: the least and the greatest one; of a square of
    models, the diagonal is left out, where each is held against itself."""
    finite = panel.values[np.isfinite(panel.values) & ~_find_itself(panel)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _find_itself(panel: Heatmap) -> Bool[np.ndarray, "row column"]:
    """Where a square of models holds a model against itself: these cells have no colour."""
    if not panel.picks:
        return np.zeros(panel.values.shape, bool)
    return np.array(panel.rows)[:, None] == np.array(panel.columns)[None]


def _draw_map(panel: Heatmap) -> str:
    rows, columns = panel.rows, panel.columns
    low, high = find_scale(panel)
    itself = _find_itself(panel)
    cell = max(10.0, min(36.0, 420.0 / max(len(rows), len(columns))))
    left = LETTER * max(map(len, rows)) + 12
    across, down = cell * len(columns), cell * len(rows)
    marks = [
        write_mark(
            f"{panel.unit}: {typeset(f'{low:.3g}')} (dark) to {typeset(f'{high:.3g}')} (bright)",
            0.0,
            12.0,
        )
    ]
    for i, j in np.ndindex(*panel.values.shape):
        value = float(panel.values[i, j])
        x, y = left + cell * j, 24 + cell * (len(rows) - 1 - i)
        colour = mix_colour((value - low) / (high - low)) if np.isfinite(value) else "#d9d9d9"
        colour = "none" if itself[i, j] else colour
        marks.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{cell + 0.3:.1f}" height="{cell + 0.3:.1f}"'
            f' fill="{colour}"/>'
        )
    marks.append(
        f'<rect class="frame" x="{left:.1f}" y="24" width="{across:.1f}" height="{down:.1f}"/>'
    )
    for i, name in enumerate(rows):
        y = 28 + cell * (len(rows) - 0.5 - i)
        marks.append(write_mark(name, left - 6, y, "end"))
    long = LETTER * max(map(len, columns))
    turned = long + 4 > cell
    for j, name in enumerate(columns):
        x, y = left + cell * (j + 0.5), 24 + down + 14
        marks.append(write_mark(name, x, y, "turned" if turned else "middle", turn=turned))
    return wrap_marks(marks, left + across + 8, 24 + down + (long + 14 if turned else 22))


def mix_colour(share: float) -> str:
    """The colour of viridis at a share of its scale.

    >>> mix_colour(0.0), mix_colour(1.0)
    ('#440154', '#fde725')
    """
    place = min(max(share, 0.0), 1.0) * (len(VIRIDIS) - 1)
    below = min(int(place), len(VIRIDIS) - 2)
    one, other = (
        np.array([int(VIRIDIS[at][i : i + 2], 16) for i in (0, 2, 4)]) for at in (below, below + 1)
    )
    mixed = np.round(one + (place - below) * (other - one)).astype(int)
    return "#{:02x}{:02x}{:02x}".format(*mixed)


@dataclass(frozen=True)
class _Axes:
    """A pair of axes: the range of each, in values, and the box, in pixels."""

    x: tuple[float, float]
    y: tuple[float, float]
    box: Box

    def at(self, x: float, y: float) -> tuple[float, float]:
        left, top, right, bottom = self.box
        across = (x - self.x[0]) / ((self.x[1] - self.x[0]) or 1.0)
        up = (y - self.y[0]) / ((self.y[1] - self.y[0]) or 1.0)
        return left + across * (right - left), bottom - up * (bottom - top)


def choose_lines(lines: Sequence[Line]) -> tuple[list[Line], list[Line], list[Line]]:
    """Choose which curves have a colour, which are drawn as controls, and which are grey: the first
    eight models, the first four controls, and the others."""
    models = [line for line in lines if not line.control]
    controls = [line for line in lines if line.control]
    return models[:COLOURED], controls[:4], [*models[COLOURED:], *controls[4:]]


def choose_reach(panel: Lines) -> tuple[float, float]:
    """The least and the greatest value that are drawn: those of the curves, or 0 and the greatest
    where these are nearly even (`begins_at_zero`)."""
    low, high = _find_ends(np.concatenate([np.zeros(0), *(line.y for line in panel.lines)]))
    return (0.0, high) if begins_at_zero(panel) else (low, high)


def begins_at_zero(panel: Lines) -> bool:
    """Whether an axis begins at 0: that of sizes that are even within a twentieth, of which a scale
    that fits them would make a slope."""
    values = np.concatenate([np.zeros(0), *(line.y for line in panel.lines)])
    values = values[np.isfinite(values)]
    if not values.size or panel.limits is None or panel.limits[0] != 0:
        return False
    low, high = values.min(), values.max()
    return bool(low > 0 and high - low < EVEN * high)


def _draw_curves(panel: Lines, colours: Mapping[str, int]) -> str:
    coloured, controls, grey = choose_lines(panel.lines)
    places = np.concatenate([np.zeros(0), *(line.x for line in panel.lines)])
    places = np.log10(places) if panel.log_x else places
    axes = _Axes(
        _find_ends(places),
        choose_reach(panel),
        (50.0, 26.0, 400.0, 270.0),
    )
    marks = [
        write_mark(panel.y_label, 0.0, 12.0),
        write_mark(panel.x_label, 225.0, 304.0, "middle"),
    ]
    for value in choose_bar_ticks(*axes.y):
        y = axes.at(0.0, value)[1]
        marks.append(f'<path class="grid" d="M50 {y:.1f}H400"/>')
        marks.append(write_mark(typeset(f"{value:g}"), 44.0, y + 4, "end"))
    for value in choose_bar_ticks(*axes.x):
        text = f"{10**value:,.4g}" if panel.log_x else f"{value:g}"
        marks.append(write_mark(text, axes.at(value, 0.0)[0], 286.0, "middle"))
    styles = [*((line, "grey") for line in grey), *((line, "control") for line in controls)]
    numbers = number_curves([line.name for line in coloured], colours)
    styles += [(line, f"c{n}") for line, n in zip(coloured, numbers, strict=True)]
    for line, style in styles:
        x = np.log10(line.x) if panel.log_x else line.x
        marks.append(f'<path class="curve {style}" d="{_trace(axes, x, line.y)}"/>')
    marks += _label_ends(axes, [*coloured, *controls])
    names = LETTER * max((len(line.name) for line in [*coloured, *controls]), default=0)
    return wrap_marks(marks, max(600.0, 412.0 + names), 310.0)


def _find_ends(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    margin = 0.04 * (high - low) or 0.5
    return low - margin, high + margin


def _trace(axes: _Axes, x: np.ndarray, y: np.ndarray) -> str:
    """The path of a curve, which breaks where a value is undefined."""
    parts, pen = [], "M"
    for across, up in zip(x.tolist(), y.tolist(), strict=True):
        if not np.isfinite(up):
            pen = "M"
            continue
        left, top = axes.at(across, up)
        parts.append(f"{pen}{left:.1f} {top:.1f}")
        pen = "L"
    return "".join(parts)


def _label_ends(axes: _Axes, lines: Sequence[Line]) -> Iterator[str]:
    """Write the name of each curve at the height of its end, the names at least a line apart."""
    ends = [
        (axes.at(0.0, float(line.y[np.isfinite(line.y)][-1]))[1], line)
        for line in lines
        if np.isfinite(line.y).any()
    ]
    last = -LINE
    for y, line in sorted(ends, key=lambda end: end[0]):
        last = max(y + 4, last + LINE)
        yield write_mark(line.name, 408.0, last)


def write_mark(text: str, x: float, y: float, style: str = "", *, turn: bool = False) -> str:
    """Write a text at a place as an SVG element."""
    turned = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turn else ""
    named = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{named}{turned}>{escape(text)}</text>'


def wrap_marks(marks: Iterable[str], width: float, height: float) -> str:
    """Make one SVG element of several."""
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    return f'<svg {size} aria-hidden="true">{"".join(marks)}</svg>'
