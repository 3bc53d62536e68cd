"""Silhouettes: the outlines of the embedded scenes' classes, and the place of each pixel in the
outline of a posed object.

The outline of a class is joined from a few primitives and tabulated once as a signed distance,
negative inside. The unit is the radius of the outline's circumscribed circle; x points to the
right, y down, and objects face right.
"""

import functools
import re
from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Float64, Int32, Shaped

SIZE = 64  # pixels a side
FACINGS = ("left", "right")

#: one value a row under each name: kinds and classes as their numbers, lengths in pixels, angles in
#: degrees
Columns = dict[str, np.ndarray]
Column = Shaped[np.ndarray, " row"]
Points = Float64[np.ndarray, "height width"]
Fields = Float32[np.ndarray, "row 64 64"]
PerPixel = Float32[np.ndarray, "row 1 1"]


def _ellipse(x: Points, y: Points, cx: float, cy: float, rx: float, ry: float) -> Points:
    u, v = (x - cx) / rx, (y - cy) / ry
    radius = np.hypot(u, v)
    # to the first order, and exact for a circle
    return radius * (radius - 1) / np.maximum(np.hypot(u / rx, v / ry), 1e-9)


def _ring(x: Points, y: Points, cx: float, cy: float, radius: float, half_width: float) -> Points:
    return np.abs(np.hypot(x - cx, y - cy) - radius) - half_width


def _polygon(x: Points, y: Points, *corners: float) -> Points:
    ends = np.array(corners).reshape(-1, 2)
    squared, inside = np.full(x.shape, np.inf), np.zeros(x.shape, bool)
    for (ax, ay), (bx, by) in zip(ends, np.roll(ends, 1, axis=0), strict=True):
        ex, ey, px, py = bx - ax, by - ay, x - ax, y - ay
        along = np.clip((px * ex + py * ey) / (ex * ex + ey * ey), 0, 1)
        squared = np.minimum(squared, (px - along * ex) ** 2 + (py - along * ey) ** 2)
        if ey != 0:
            inside ^= ((ay > y) != (by > y)) & (px < ex * py / ey)
    return np.where(inside, -1, 1) * np.sqrt(squared)


def _bar(
    x: Points, y: Points, ax: float, ay: float, bx: float, by: float, half_width: float
) -> Points:
    px, py, ex, ey = x - ax, y - ay, bx - ax, by - ay
    along = np.clip((px * ex + py * ey) / (ex * ex + ey * ey), 0, 1)
    return np.hypot(px - along * ex, py - along * ey) - half_width


_PRIMITIVES: dict[str, Callable[..., Points]] = {
    "ellipse": _ellipse,
    "ring": _ring,
    "bar": _bar,
    "polygon": _polygon,
}
_SHAPES = {  # primitives, joined in order; "-" cuts one out of what was joined before
    "axe": (
        """bar -.05 -.85 -.22 .9 .09
        polygon -.3 -.68 .1 -.72 .5 -.98 .66 -.5 .52 -.02 .1 -.34 -.28 -.4"""
    ),
    "bird": (
        """ellipse 0 .12 .5 .3; ellipse .46 -.22 .24 .23; polygon .62 -.36 .98 -.16 .6 -.1
        polygon -.35 -.05 -.98 -.14 -.9 .12 -.4 .3; polygon -.32 .1 -.52 -.8 .22 0
        bar 0 .35 .08 .75 .05; bar .08 .75 .28 .75 .05; -ellipse .5 -.26 .07 .07"""
    ),
    "boat": (
        """polygon -.72 .36 .98 .26 .55 .78 -.58 .78; bar .08 .4 .08 -.95 .05
        polygon 0 -.9 0 .24 -.78 .24; polygon .18 -.55 .18 .2 .62 .17"""
    ),
    "boot": (
        """polygon -.5 -.9 .16 -.9 .14 -.1 .3 .14 .74 .26 .95 .5 .95 .74 -.46 .74
        polygon -.46 .6 -.05 .6 -.1 .95 -.46 .95"""
    ),
    "fish": (
        """ellipse .2 .05 .72 .36; polygon -.35 .04 -.98 -.38 -.78 .06 -.98 .5
        polygon -.3 -.1 -.22 -.74 .5 -.2; polygon 0 .3 -.16 .7 .3 .34
        -ellipse .58 -.06 .08 .08; -polygon .7 .14 1 .1 1 .26"""
    ),
    "key": (
        """ring -.58 0 .28 .13; bar -.22 0 .88 0 .11
        polygon .4 0 .58 0 .58 .36 .4 .36; polygon .74 0 .97 0 .97 .46 .74 .46"""
    ),
    "note": (
        """ellipse -.32 .66 .36 .26; bar -.02 .62 -.02 -.88 .07
        polygon -.05 -.95 .24 -.62 .56 -.38 .56 -.02 .36 .3 .38 -.1 -.02 -.36"""
    ),
    "snail": (
        """ellipse -.18 -.12 .54 .52
        polygon -.98 .58 -.6 .3 .3 .3 .48 -.16 .74 -.26 .9 -.06 .74 .58
        bar .62 -.15 .54 -.62 .05; bar .74 -.15 .88 -.55 .05; -ring -.18 -.1 .27 .045"""
    ),
    "teapot": (
        """ellipse -.02 .18 .52 .46; polygon .3 .42 .36 .02 .7 -.22 .78 -.46 .98 -.4 .84 .02
        ring -.52 .04 .29 .08; ellipse -.02 -.26 .3 .12; ellipse -.02 -.44 .1 .1
        polygon -.32 .5 .28 .5 .34 .7 -.38 .7"""
    ),
    "truck": (
        """polygon -.96 -.6 .28 -.6 .28 .3 -.96 .3
        polygon .36 -.28 .68 -.28 .96 .06 .96 .36 .36 .36; polygon -.96 .24 .9 .24 .9 .42 -.96 .42
        ellipse -.6 .46 .22 .22; ellipse .6 .46 .22 .22; -polygon .48 -.17 .64 -.17 .82 .06 .48 .06
        -ellipse -.6 .46 .08 .08; -ellipse .6 .46 .08 .08"""
    ),
}
CLASSES = tuple(_SHAPES)
_CELLS = 192  # of the table, a side
_REACH = 1.2  # half the table's width, in units of the circumscribed circle
_PIXELS = np.arange(SIZE, dtype=np.float32) - (SIZE - 1) / 2


def _signed_distance(name: str, x: Points, y: Points) -> Points:
    distance = np.full(x.shape, np.inf)
    for part in re.split(r"[;\n]\s*", _SHAPES[name]):
        primitive, *numbers = part.split()
        to_part = _PRIMITIVES[primitive.lstrip("-")](x, y, *map(float, numbers))
        cut_out = primitive.startswith("-")
        distance = np.maximum(distance, -to_part) if cut_out else np.minimum(distance, to_part)
    return distance


@functools.cache
def shape_table() -> tuple[
    Float32[np.ndarray, " cell"], Float32[np.ndarray, " cell"], Float32[np.ndarray, " cell"]
]:
    """Tabulate the outlines of all classes on a grid of 192 × 192 cells each.

    Returns:
        Three flat tables, class by class: the signed distance to the outline (negative inside), and
        the slope of the bevelled surface along x and along y.

    >>> [values.size == len(CLASSES) * 192 * 192 for values in shape_table()]
    [True, True, True]
    """
    centres = (np.arange(_CELLS) + 0.5) * (2 * _REACH / _CELLS) - _REACH
    x, y = np.meshgrid(centres, centres)
    distances = []
    for name in CLASSES:
        inside = _signed_distance(name, x, y) < 0
        cx, cy = ((values[inside].min() + values[inside].max()) / 2 for values in (x, y))
        radius = np.hypot(x[inside] - cx, y[inside] - cy).max()
        distances.append(_signed_distance(name, x * radius + cx, y * radius + cy) / radius)
    distance = np.stack(distances)
    bevel = np.clip(1 + distance / 0.22, 0, 1)
    slopes = [np.gradient(distance, centres, axis=axis) * bevel for axis in (2, 1)]
    flat = [values.astype(np.float32).ravel() for values in (distance, *slopes)]
    return flat[0], flat[1], flat[2]


def over_pixels(values: Column) -> PerPixel:
    """Reshape one value per row to [row, 1, 1], so that it broadcasts over the row's pixels.

    >>> over_pixels(np.array([1, 2])).shape
    (2, 1, 1)
    """
    return values.astype(np.float32)[:, None, None]


def plane(a: Column, b: Column, c: Column) -> Fields:
    """Compute a x + b y + c at the centre of each pixel.

    x and y are in pixels from the image's centre, x to the right and y down.

    >>> plane(np.array([1]), np.array([0]), np.array([2]))[0, 0, :3].tolist()
    [-29.5, -28.5, -27.5]
    """
    return over_pixels(a) * _PIXELS + (over_pixels(b) * _PIXELS[:, None] + over_pixels(c))


def coverage(distance: Fields) -> Fields:
    """Turn the distance to an object's edge into the share of each pixel that the object covers.

    Args:
        distance: signed distance from the pixel's centre to the object's edge, in pixels, positive
            inside. The function overwrites this array with the result.

    >>> coverage(np.full((1, 64, 64), 0.25, np.float32))[0, 0, 0].item()
    0.75
    """
    distance += np.float32(0.5)
    return np.clip(distance, 0, 1, out=distance)


def cells_under(objects: Columns) -> Int32[np.ndarray, "scene 64 64"]:
    """Find the cell of `shape_table` that each pixel falls into, for posed objects.

    Args:
        objects: the columns class, facing, x, y, scale and rotation, one object a row.

    Returns:
        Flat indices into the tables.

    >>> one = {"class": 1, "facing": 1, "x": 0, "y": 0, "scale": 20, "rotation": 0}
    >>> columns = {name: np.array([value]) for name, value in one.items()}
    >>> cell = cells_under(columns)[0, 32, 33]  # half a pixel down, one and a half to the right
    >>> cell.item() == 192 * 192 + (96 + 4 // 2) * 192 + (96 + 3 * 4 // 2)  # 4 cells a pixel
    True
    """
    turn = np.deg2rad(objects["rotation"])
    per_pixel = _CELLS / (2 * _REACH) / objects["scale"]
    flip = np.where(objects["facing"] == FACINGS.index("right"), per_pixel, -per_pixel)
    x, y = objects["x"], objects["y"]
    last, cells = np.int32(_CELLS - 1), []
    for a, b in (
        (flip * np.cos(turn), flip * np.sin(turn)),
        (-per_pixel * np.sin(turn), per_pixel * np.cos(turn)),
    ):
        place = plane(a, b, _CELLS / 2 - a * x - b * y)
        cells.append(np.clip(place, 0, last, out=place).astype(np.int32))
    column, row = cells
    row *= np.int32(_CELLS)
    row += column
    row += (objects["class"] * _CELLS * _CELLS).astype(np.int32)[:, None, None]
    return row
