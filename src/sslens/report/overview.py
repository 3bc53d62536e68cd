"""The pictures of the first screen, which need no script: models and controls at their places, as
an SVG element, and how well each separates the classes."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, final

import numpy as np

from sslens.comparisons.roles import PIXELS
from sslens.report.colours import COLOURED
from sslens.report.front import Overview, Point
from sslens.report.stills import LINE, Box, wrap_marks, write_mark
from sslens.report.writing.front import MEANINGS
from sslens.report.writing.numbers import spell_share
from sslens.statistics.estimate import Estimate

if TYPE_CHECKING:
    from markupsafe import Markup

#: the width of the picture in a wide and in a narrow window, and what its height may be, in pixels
WIDTHS, HEIGHTS = (576.0, 352.0), (240.0, 340.0)
#: pixels kept free of points above and below, for names
MARGIN = 20.0
#: the height of a line below the picture with what colours and lengths mean
LEGEND = 20.0
#: the width of a letter of a name, in pixels
WIDE = 7.0
#: letters of a name in one line; longer names go on in the next one
LETTERS = 28
#: in a wide and in a narrow window, points nearer than so many pixels to one that is named share
#: its name, with their number
AT_ONE_PLACE = (6.0, 18.0)
#: points from which on those at one place share a name
MANY = 16
#: rows of the table of accuracies
MOST_RANKS = 12
#: lengths that the bar below the picture may have, in units of 1 − CKA
LENGTHS = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)


@final
@dataclass(frozen=True)
class Rank:
    """A row of the table of accuracies.

    Attributes:
        name: the model's name.
        style: the class of its colour.
        bar: the accuracy and its interval on the common scale, as an SVG element.
        text: the accuracy in words, with its interval.
        read: of which features it is, in words; empty where a report of before does not tell.
    """

    name: str
    style: str
    bar: "Markup"
    text: str
    read: str = ""


def draw_overview(overview: Overview, width: float = WIDTHS[0]) -> str:
    """Draw models and controls at their places: near is alike. The area of a point grows with the
    number that sizes it; colours are families, and controls are hollow. A bar has a length of
    1 − CKA."""
    styles = _choose_styles(overview.points)
    places, scale, height = _fit([(p.x, p.y) for p in overview.points], width)
    radii = _size_points(overview.points)
    marks = []
    for point, (x, y), radius in zip(overview.points, places, radii, strict=True):
        marks.append(
            f'<circle class="point {styles[point.name]}" cx="{x:.1f}" cy="{y:.1f}"'
            f' r="{radius:.1f}"><title>{escape(describe_point(point))}</title></circle>'
        )
    size = width, height
    near = AT_ONE_PLACE[width < WIDTHS[0]]
    named = name_points([point.name for point in overview.points], places, near)
    names = [textwrap.wrap(text, LETTERS) for text in named.values()]
    spots = [places[row] for row in named]
    labels = list(_place_labels(names, spots, [radii[row] for row in named], size))
    for lines, (x, y), label in zip(names, spots, labels, strict=True):
        if abs(label[1] - y) > 2 * LINE:  # too far from its point to be seen as its name
            marks.append(
                f'<path class="lead" d="M{x:.1f} {y:.1f}L{label[0]:.1f} {label[1] - 4:.1f}"/>'
            )
        at, base, style = label
        marks += [write_mark(text, at, base + LINE * k, style) for k, text in enumerate(lines)]
    for line, items in enumerate(_list_legend(overview.points, styles, scale, width), 1):
        height = size[1] + LEGEND * line
        marks += [mark for at, item in items for mark in item.draw(at, height - 6)]
    return wrap_marks(marks, width, height)


def name_points(
    names: Sequence[str], places: Sequence[tuple[float, float]], near: float = AT_ONE_PLACE[0]
) -> dict[int, str]:
    """Choose which points are named, and how: of many points those at one place have one name, with
    the number of the others.

    Args:
        names: the name of each point.
        places: its place, in pixels.
        near: the distance within which points are at one place.

    >>> name_points(["a", "b"], [(0.0, 0.0), (0.0, 0.0)])
    {0: 'a', 1: 'b'}
    >>> crowd = [(0.0, 0.0)] * 16 + [(50.0, 0.0)]
    >>> name_points([f"random {number}" for number in range(17)], crowd)
    {0: 'random 0 and 15 more here', 16: 'random 16'}
    """
    if len(names) < MANY:
        return dict(enumerate(names))
    crowds: dict[int, int] = {}
    for row, (x, y) in enumerate(places):
        distances = {
            first: np.hypot(x - places[first][0], y - places[first][1]) for first in crowds
        }
        first = next((one for one, distance in distances.items() if distance < near), row)
        crowds[first] = crowds.get(first, 0) + 1
    return {
        row: names[row] if count == 1 else f"{names[row]} and {count - 1} more here"
        for row, count in crowds.items()
    }


def describe_point(point: Point) -> str:
    """The point's name, and what is known of it.

    >>> describe_point(Point("mae", 0.0, 0.0, note="20-NN 41.4%"))
    'mae: 20-NN 41.4%'
    """
    return f"{point.name}: {point.note}" if point.note else point.name


def _choose_styles(points: Sequence[Point]) -> dict[str, str]:
    """The class of each point's colour, by its name."""
    present = dict.fromkeys(point.family for point in points if not point.control)
    known = list(MEANINGS) if any(family in MEANINGS for family in present) else []
    families = list(dict.fromkeys([*known, *present]))  # JE and REC have one colour everywhere
    styles = {}
    for point in points:
        number = families.index(point.family) + 1 if point.family in families else 0
        styles[point.name] = (
            "control" if point.control else f"c{number if number <= COLOURED else 0}"
        )
    return styles


def _fit(
    points: Sequence[tuple[float, float]], width: float
) -> tuple[list[tuple[float, float]], float, float]:
    """Move and scale points into the picture, by one factor for both directions; returns them, the
    factor and the height of the picture."""
    array = np.array(points, np.float64).reshape(-1, 2)
    low, high = (array.min(0), array.max(0)) if len(array) else (np.zeros(2), np.ones(2))
    left, right = 0.08 * width, 0.2 * width
    spans = np.maximum(high - low, 1e-12)
    wide = width - left - right
    height = float(np.clip(wide * spans[1] / spans[0] + 2 * MARGIN, *HEIGHTS))
    room = np.array([wide, height - 2 * MARGIN])
    scale = float((room / spans).min())
    start = np.array([left, MARGIN]) + (room - scale * (high - low)) / 2
    placed = start + scale * (array - low)
    placed[:, 1] = height - placed[:, 1]
    return [(float(x), float(y)) for x, y in placed], scale, height


def _size_points(points: Sequence[Point]) -> list[float]:
    """The radius of each point, from 5 to 13 pixels: the area grows with the size."""
    known = [point.size for point in points if point.size is not None]
    if len(set(known)) < 2:
        return [7.0] * len(points)
    low, high = min(known), max(known)
    shares = [0.0 if p.size is None else (p.size - low) / (high - low) for p in points]
    return [float(np.sqrt(25.0 + 144.0 * share)) for share in shares]


def _place_labels(
    names: Sequence[Sequence[str]],
    places: Sequence[tuple[float, float]],
    radii: Sequence[float],
    size: tuple[float, float],
) -> Iterator[tuple[float, float, str]]:
    """Place the lines of each name beside its point where they cover least: on its right, left,
    above or below, or one to seven lines further down or up; yields where the first line begins or
    ends, and its style."""
    taken = [(x - r, y - r, x + r, y + r) for (x, y), r in zip(places, radii, strict=True)]
    for lines, (x, y), r in zip(names, places, radii, strict=True):
        long, more = WIDE * max(map(len, lines), default=0), LINE * (len(lines) - 1)
        sides = ((x + r + 4, ""), (x - r - 4, "end"))
        options = [(*side, y + 4) for side in sides]
        options += [(x, "middle", y - r - 5 - more), (x, "middle", y + r + 14)]
        options += [
            (*side, y + 4 + LINE * step)
            for step in (1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6, -6, 7, -7)
            for side in sides
        ]
        begins = {"": 0.0, "middle": long / 2, "end": long}
        boxes = [
            (at - begins[style], base - 11, at - begins[style] + long, base + 3 + more)
            for at, style, base in options
        ]
        costs = [
            sum(_overlap(box, other) for other in taken) + 1000 * _leave(box, *size)
            for box in boxes
        ]
        best = int(np.argmin(costs))
        taken.append(boxes[best])
        at, style, base = options[best]
        yield at, base, style


def _overlap(one: Box, other: Box) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return max(across, 0.0) * max(down, 0.0)


def _leave(box: Box, width: float, height: float) -> float:
    """By how many pixels a box leaves the picture."""
    return max(-box[0], 0.0, box[2] - width) + max(-box[1], 0.0, box[3] - height)


@final
@dataclass(frozen=True)
class _Item:
    """An item of the legend: a point of a style, or a bar of a length in pixels, and words; or the
    next line of the words of the item before it."""

    words: str
    style: str = ""
    length: float = 10.0
    goes_on: bool = False

    @property
    def width(self) -> float:
        return self.length + 8 + WIDE * len(self.words)

    def wrap(self, width: float) -> "Iterator[_Item]":
        """The item in as many lines as its words need in a picture of this width."""
        letters = max(1, int((width - self.length - 12) / WIDE))
        for number, words in enumerate(textwrap.wrap(self.words, letters) or [""]):
            yield replace(self, words=words, goes_on=number > 0)

    def draw(self, x: float, base: float) -> Iterator[str]:
        """The SVG elements of the item, from `x` on and on a line of text."""
        y = base - 4
        if self.goes_on:
            pass
        elif self.style:
            yield f'<circle class="point {self.style}" cx="{x + 5:.1f}" cy="{y:.1f}" r="5"/>'
        else:
            yield f'<path class="scale" d="M{x:.1f} {y:.1f}H{x + self.length:.1f}"/>'
        yield write_mark(self.words, x + self.length + 6, base)


def _list_legend(
    points: Sequence[Point], styles: Mapping[str, str], scale: float, width: float
) -> Iterator[list[tuple[float, _Item]]]:
    """The lines of the legend, each item with its place: what the colours mean, and a bar of a
    known length."""
    families = {styles[point.name]: point.family for point in points if not point.control}
    told = any(families.values())  # else all have one colour, which means nothing
    items = [
        _Item(family or "no known family", style)
        for style, family in families.items()
        if told or family
    ]
    if any(point.control for point in points):
        items.append(_Item("a control", "control"))
    length = next((one for one in LENGTHS if one * scale <= 90), None)
    if length is not None:
        items.append(_Item(f"1 − CKA of {length:g}", length=length * scale))
    line: list[tuple[float, _Item]] = []
    at = 4.0
    for item in [part for whole in items for part in whole.wrap(width)]:
        if line and (item.goes_on or at + item.width > width):
            yield line
            line, at = [], 4.0
        line.append((at, item))
        at += item.width + 12
    if line:
        yield line


def find_reach(points: Sequence[Point], chance: float | None = None) -> tuple[float, float]:
    """Find the least and the greatest number between which accuracies are drawn: the ends of their
    intervals, and chance."""
    ends = [end for p in points for end in (p.low, p.high, p.size) if end is not None]
    ends += [chance] if ends and chance is not None else []
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.01, high + 0.01)


def choose_ranked(points: Sequence[Point]) -> list[Point]:
    """Choose the points of which the accuracy is listed, the best first: of more than twelve the
    best models, with raw pixels and the best other control."""
    known = sorted(
        (point for point in points if point.size is not None),
        key=lambda point: -(point.size or 0.0),
    )
    if len(known) <= MOST_RANKS:
        return known
    controls = [point for point in known if point.control]
    kept = [point for point in controls if point.name != PIXELS][:1]
    kept += [point for point in controls if point.name == PIXELS]
    kept += [point for point in known if not point.control][: MOST_RANKS - len(kept)]
    return [point for point in known if point in kept]


def list_ranks(overview: Overview) -> list[Rank]:
    """List models and controls by how well they separate the classes (`choose_ranked`)."""
    from markupsafe import Markup

    known, styles = choose_ranked(overview.points), _choose_styles(overview.points)
    reach = find_reach(known, overview.chance)
    return [
        Rank(
            point.name,
            styles[point.name],
            Markup(_draw_bar(point, styles[point.name], reach, overview.chance)),
            spell_share(_read(point)),
            point.read,
        )
        for point in known
    ]


def _read(point: Point) -> Estimate:
    """The accuracy of a point, with its interval if it has one."""
    value, low, high = (
        float("nan") if one is None else one for one in (point.size, point.low, point.high)
    )
    return Estimate(value, low, high)


def _draw_bar(point: Point, style: str, reach: tuple[float, float], chance: float | None) -> str:
    """Draw an accuracy as a point and its interval as a line, with chance as a dashed line."""
    low, high = reach

    def at(value: float) -> str:
        return f"{4 + 92 * (value - low) / (high - low):.2f}%"

    marks = ""
    if chance is not None:
        marks += f'<line class="chance" x1="{at(chance)}" x2="{at(chance)}" y1="0" y2="16"/>'
    if point.low is not None and point.high is not None:
        marks += f'<line class="{style}" x1="{at(point.low)}" x2="{at(point.high)}" y1="8" y2="8"/>'
    marks += f'<circle class="point {style}" cx="{at(point.size or 0.0)}" cy="8" r="4"/>'
    return f'<svg class="bar" aria-hidden="true">{marks}</svg>'
