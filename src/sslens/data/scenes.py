"""The embedded images: generated 64 × 64 scenes whose class, factors, boxes and masks are known exactly.

A scene is a pure function of (seed, index). Every draw is a hash of (seed, index, stream), so a scene does not depend on the
batch that it is rendered in, and each factor is independent of the class and of the other factors by construction. Factors
are the same bits on every machine; so are the pixels, but for a level in a few where sines differ by more than their last bit.
"""

import functools
import itertools
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64, Shaped, UInt8, UInt64
from PIL import Image

from sslens.data.images import ImageSet
from sslens.errors import InputError, nearest
from sslens.store import digest

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1  # in the ids and digests: raise it whenever a factor or a pixel changes
SIZE = 64  # pixels a side

FACINGS = ("left", "right")
TEXTURES = ("plain", "stripes", "checks", "dots", "mottled")
BACKGROUNDS = ("gradient", "clouds", "stripes", "checks", "blobs", "fragments")

FACTORS = {
    "facing": "left or right: whether the silhouette is mirrored before it is rotated",
    "x": "centre of the object, pixels to the right of the image's centre",
    "y": "centre of the object, pixels below the image's centre",
    "scale": "radius of the object's circumscribed circle, pixels",
    "rotation": "clockwise on screen, degrees",
    "hue": "hue of the object, degrees on the colour circle",
    "texture": "surface of the object: " + ", ".join(TEXTURES),
    "background": "kind of background: " + ", ".join(BACKGROUNDS),
    "background_hue": "hue of the background's first colour, degrees on the colour circle",
    "light_angle": "where the light comes from, degrees clockwise on screen from the right",
    "light_strength": "0 (flat, no shadow) to 1 (strong shading and a dark cast shadow)",
}
_RANGES = {
    "x": (-8.0, 8.0),
    "y": (-8.0, 8.0),
    "scale": (15.0, 23.0),
    "rotation": (-40.0, 40.0),  # below 45, so that facing stays defined
    "hue": (0.0, 360.0),
    "background_hue": (0.0, 360.0),
    "light_angle": (0.0, 360.0),
    "light_strength": (0.0, 1.0),
}
_OF_SCENE = ("background", "background_hue", "light_angle", "light_strength")  # shared by the objects of a scene
_DETECTION_RANGES = _RANGES | {"x": (-22.0, 22.0), "y": (-22.0, 22.0), "scale": (9.0, 16.0)}
_CAMERA_NOISE = 6.0  # standard deviation, in levels of 255
_RENDERED = 64  # scenes at a time: their fields fit a processor's cache
_VISIBLE_SHARE, _VISIBLE_AREA = 0.5, 30  # of an object's silhouette; pixels

Columns = dict[str, np.ndarray]  # one value a row: kinds and classes as their numbers, pixels, degrees
Column = Shaped[np.ndarray, "row"]
Keys = UInt64[np.ndarray, "row"]
Points = Float64[np.ndarray, "height width"]
Fields = Float32[np.ndarray, "row 64 64"]
Canvas = Float32[np.ndarray, "row 3 64 64"]
Colours = Float32[np.ndarray, "row 3 1 1"]
PerPixel = Float32[np.ndarray, "row 1 1"]
Pictures = UInt8[np.ndarray, "scene 64 64 3"]
Pattern = Callable[[Keys, Columns], Fields]


# Silhouettes: signed distance, negative inside; x to the right, y down, facing right.


def _ellipse(x: Points, y: Points, cx: float, cy: float, rx: float, ry: float) -> Points:
    u, v = (x - cx) / rx, (y - cy) / ry
    radius = np.hypot(u, v)
    return radius * (radius - 1) / np.maximum(np.hypot(u / rx, v / ry), 1e-9)  # first order, exact for a circle


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


def _bar(x: Points, y: Points, ax: float, ay: float, bx: float, by: float, half_width: float) -> Points:
    px, py, ex, ey = x - ax, y - ay, bx - ax, by - ay
    along = np.clip((px * ex + py * ey) / (ex * ex + ey * ey), 0, 1)
    return np.hypot(px - along * ex, py - along * ey) - half_width


_PRIMITIVES: dict[str, Callable[..., Points]] = {"ellipse": _ellipse, "ring": _ring, "bar": _bar, "polygon": _polygon}
_SHAPES = {  # primitives, joined in order; "-" cuts one out of what was joined before
    "axe": """bar -.05 -.85 -.22 .9 .09
        polygon -.3 -.68 .1 -.72 .5 -.98 .66 -.5 .52 -.02 .1 -.34 -.28 -.4""",
    "bird": """ellipse 0 .12 .5 .3; ellipse .46 -.22 .24 .23; polygon .62 -.36 .98 -.16 .6 -.1
        polygon -.35 -.05 -.98 -.14 -.9 .12 -.4 .3; polygon -.32 .1 -.52 -.8 .22 0
        bar 0 .35 .08 .75 .05; bar .08 .75 .28 .75 .05; -ellipse .5 -.26 .07 .07""",
    "boat": """polygon -.72 .36 .98 .26 .55 .78 -.58 .78; bar .08 .4 .08 -.95 .05
        polygon 0 -.9 0 .24 -.78 .24; polygon .18 -.55 .18 .2 .62 .17""",
    "boot": """polygon -.5 -.9 .16 -.9 .14 -.1 .3 .14 .74 .26 .95 .5 .95 .74 -.46 .74
        polygon -.46 .6 -.05 .6 -.1 .95 -.46 .95""",
    "fish": """ellipse .2 .05 .72 .36; polygon -.35 .04 -.98 -.38 -.78 .06 -.98 .5
        polygon -.3 -.1 -.22 -.74 .5 -.2; polygon 0 .3 -.16 .7 .3 .34
        -ellipse .58 -.06 .08 .08; -polygon .7 .14 1 .1 1 .26""",
    "key": """ring -.58 0 .28 .13; bar -.22 0 .88 0 .11
        polygon .4 0 .58 0 .58 .36 .4 .36; polygon .74 0 .97 0 .97 .46 .74 .46""",
    "note": """ellipse -.32 .66 .36 .26; bar -.02 .62 -.02 -.88 .07
        polygon -.05 -.95 .24 -.62 .56 -.38 .56 -.02 .36 .3 .38 -.1 -.02 -.36""",
    "snail": """ellipse -.18 -.12 .54 .52
        polygon -.98 .58 -.6 .3 .3 .3 .48 -.16 .74 -.26 .9 -.06 .74 .58
        bar .62 -.15 .54 -.62 .05; bar .74 -.15 .88 -.55 .05; -ring -.18 -.1 .27 .045""",
    "teapot": """ellipse -.02 .18 .52 .46; polygon .3 .42 .36 .02 .7 -.22 .78 -.46 .98 -.4 .84 .02
        ring -.52 .04 .29 .08; ellipse -.02 -.26 .3 .12; ellipse -.02 -.44 .1 .1
        polygon -.32 .5 .28 .5 .34 .7 -.38 .7""",
    "truck": """polygon -.96 -.6 .28 -.6 .28 .3 -.96 .3; polygon .36 -.28 .68 -.28 .96 .06 .96 .36 .36 .36
        polygon -.96 .24 .9 .24 .9 .42 -.96 .42; ellipse -.6 .46 .22 .22; ellipse .6 .46 .22 .22
        -polygon .48 -.17 .64 -.17 .82 .06 .48 .06; -ellipse -.6 .46 .08 .08; -ellipse .6 .46 .08 .08""",
}
CLASSES = tuple(_SHAPES)
_KINDS = {"class": CLASSES, "facing": FACINGS, "texture": TEXTURES, "background": BACKGROUNDS}
_CELLS, _REACH = 192, 1.2  # the table's cells a side, and its half-width in units of the circumscribed circle


def _signed_distance(name: str, x: Points, y: Points) -> Points:
    distance = np.full(x.shape, np.inf)
    for part in re.split(r"[;\n]\s*", _SHAPES[name]):
        primitive, *numbers = part.split()
        to_part = _PRIMITIVES[primitive.lstrip("-")](x, y, *map(float, numbers))
        distance = np.maximum(distance, -to_part) if primitive.startswith("-") else np.minimum(distance, to_part)
    return distance


@functools.cache
def _shape_table() -> tuple[Float32[np.ndarray, "cell"], Float32[np.ndarray, "cell"], Float32[np.ndarray, "cell"]]:
    """Signed distance, and the x and y of the bevelled surface's slope, of all classes on one grid, flat."""
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


# Draws: splitmix64's finaliser over (seed, index, stream), in exact 64-bit arithmetic.


def _hash(*parts: int | UInt64[np.ndarray, "..."]) -> UInt64[np.ndarray, "..."]:
    state = np.zeros(1, np.uint64)
    for part in parts:
        state = (state ^ np.asarray(part, np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return state


def _bytes(key: Keys, name: str, words: int) -> UInt8[np.ndarray, "row byte"]:
    counters = np.arange(words, dtype=np.uint64)
    return _hash(_hash(key, _stream(name))[:, None] + counters).astype("<u8", copy=False).view(np.uint8)


def _stream(name: str) -> int:
    return zlib.crc32(name.encode())


def _uniform(
    key: UInt64[np.ndarray, "*shape"], name: str, low: float = 0.0, high: float = 1.0
) -> Float64[np.ndarray, "*shape"]:
    return low + (high - low) * ((_hash(key, _stream(name)) >> np.uint64(11)) * 2.0**-53)


def _choice(key: Keys, name: str, count: int) -> Int64[np.ndarray, "row"]:
    high_bits = _hash(key, _stream(name)) >> np.uint64(32)
    return ((high_bits * np.uint64(count)) >> np.uint64(32)).astype(np.int64)


def _drawn(key: Keys, names: Iterable[str], ranges: Mapping[str, tuple[float, float]]) -> Columns:
    columns: Columns = {}
    for name in names:
        kinds = _KINDS.get(name)
        columns[name] = _choice(key, name, len(kinds)) if kinds else _uniform(key, name, *ranges[name])
    return columns


# Patterns: fields from 0 to 1 over the image. A pose holds the x, y, angle and period of each, for those that have them.

_PIXELS = np.arange(SIZE, dtype=np.float32) - (SIZE - 1) / 2


def _per_pixel(values: Column) -> PerPixel:
    return values.astype(np.float32)[:, None, None]


def _plane(a: Column, b: Column, c: Column) -> Fields:
    """a x + b y + c at the pixels' centres, the origin at the image's centre."""
    return _per_pixel(a) * _PIXELS + (_per_pixel(b) * _PIXELS[:, None] + _per_pixel(c))


def _wave(turns: Fields) -> Fields:
    """Distance to the nearest whole turn: a triangle from 0 to 1/2, which no two machines round differently, as sines are."""
    turns -= np.rint(turns)
    return np.abs(turns, out=turns)


def _edge(distance: Fields) -> Fields:
    """Coverage of a pixel whose centre lies `distance` pixels inside an edge."""
    distance += np.float32(0.5)
    return np.clip(distance, 0, 1, out=distance)


def _bands(key: Keys, pose: Columns, across: bool = False) -> tuple[Fields, PerPixel]:
    """Signed distance in pixels to the edges of bands half a period wide, and the period."""
    turn = np.deg2rad(pose["angle"]) + across * np.pi / 2
    a, b = np.cos(turn) / pose["period"], np.sin(turn) / pose["period"]
    phase = _uniform(key, "phase across" if across else "phase") - a * pose["x"] - b * pose["y"]
    period = _per_pixel(pose["period"])
    return (_wave(_plane(a, b, phase)) - np.float32(0.25)) * period, period


def _stripes(key: Keys, pose: Columns) -> Fields:
    return _edge(_bands(key, pose)[0])


def _checks(key: Keys, pose: Columns) -> Fields:
    one, other = _stripes(key, pose), _edge(_bands(key, pose, across=True)[0])
    return one + other - 2 * one * other


def _dots(key: Keys, pose: Columns) -> Fields:
    (one, period), (other, _) = _bands(key, pose), _bands(key, pose, across=True)
    quarter = period / 4
    return _edge(np.float32(0.32) * period - np.sqrt((one + quarter) ** 2 + (other + quarter) ** 2))


def _plain(key: Keys, pose: Columns) -> Fields:
    return np.zeros((len(key), SIZE, SIZE), np.float32)


def _gradient(key: Keys, pose: Columns) -> Fields:
    turn = np.deg2rad(2 * pose["angle"])  # the whole circle
    return np.clip(_plane(np.cos(turn) / 70, np.sin(turn) / 70, np.full(len(key), 0.5)), 0, 1)


@functools.cache
def _interpolation(step: int) -> Float32[np.ndarray, "64 point"]:
    """Smoothstep weights of lattice points `step` pixels apart, in 64ths: with 8-bit values every sum is exact."""
    place = (np.arange(SIZE) + 0.5) / step
    left = place.astype(int)
    far = np.rint(64 * (place - left) ** 2 * (3 - 2 * (place - left))) / 64
    weights = np.zeros((SIZE, SIZE // step + 1), np.float32)
    weights[np.arange(SIZE), left], weights[np.arange(SIZE), left + 1] = 1 - far, far
    return weights


def _noise(key: Keys, step: int) -> Fields:
    """Value noise from 0 to 1 that varies over about `step` pixels."""
    weights = _interpolation(step)
    points = weights.shape[1]
    lattice = _bytes(key, f"noise {step}", -(-points * points // 8))[:, : points * points].reshape(-1, points, points)
    return weights @ (lattice.astype(np.float32) / 256) @ weights.T


def _clouds(key: Keys, pose: Columns) -> Fields:
    return np.clip(1.6 * (_noise(key, 16) * 0.6 + _noise(key, 8) * 0.28 + _noise(key, 4) * 0.12) - 0.3, 0, 1)


def _blobs(key: Keys, pose: Columns) -> Fields:
    return _edge((_noise(key, 16) * 0.55 + _noise(key, 8) * 0.45 - 0.5) * 24)


def _mottled(key: Keys, pose: Columns) -> Fields:
    return np.clip(2 * _noise(key, 4) - 0.5, 0, 1)


def _fragments(key: Keys, pose: Columns) -> Fields:
    """Silhouettes of all classes, each cut in two: a piece of an outline tells nothing of the object."""
    field = _plain(key, pose)
    ranges = {"x": (-32.0, 32.0), "y": (-32.0, 32.0), "scale": (10.0, 20.0), "rotation": (-180.0, 180.0)}
    ranges |= {"cut": (0.0, 2 * np.pi), "level": (0.4, 1.0)}
    for number in range(4):
        piece = _drawn(_hash(key, number), ("class", "facing", *ranges), ranges)
        a, b = np.cos(piece["cut"]), np.sin(piece["cut"])
        outside = np.take(_shape_table()[0], _cells(piece)) * _per_pixel(piece["scale"])
        np.maximum(outside, _plane(a, b, -a * piece["x"] - b * piece["y"]), out=outside)
        np.maximum(field, _edge(-outside) * _per_pixel(piece["level"]), out=field)
    return field


_PATTERNS: dict[str, Pattern] = {"plain": _plain, "stripes": _stripes, "checks": _checks, "dots": _dots}
_PATTERNS |= {"mottled": _mottled, "gradient": _gradient, "clouds": _clouds, "blobs": _blobs, "fragments": _fragments}


def _patterned(factor: str, chosen: Column, key: Keys, pose: Columns) -> Fields:
    field = np.empty((len(key), SIZE, SIZE), np.float32)
    for number, kind in enumerate(_KINDS[factor]):
        rows = np.flatnonzero(chosen == number)
        if len(rows):
            field[rows] = _PATTERNS[kind](key[rows], {name: values[rows] for name, values in pose.items()})
    return field


# Pictures.


def _cells(objects: Columns) -> Int32[np.ndarray, "scene 64 64"]:
    """The cell of the shape table under every pixel."""
    turn = np.deg2rad(objects["rotation"])
    per_pixel = _CELLS / (2 * _REACH) / objects["scale"]
    flip = np.where(objects["facing"] == FACINGS.index("right"), per_pixel, -per_pixel)
    x, y = objects["x"], objects["y"]
    last, cells = np.int32(_CELLS - 1), []
    for a, b in ((flip * np.cos(turn), flip * np.sin(turn)), (-per_pixel * np.sin(turn), per_pixel * np.cos(turn))):
        place = _plane(a, b, _CELLS / 2 - a * x - b * y)
        cells.append(np.clip(place, 0, last, out=place).astype(np.int32))
    column, row = cells
    row *= np.int32(_CELLS)
    row += column
    row += (objects["class"] * _CELLS * _CELLS).astype(np.int32)[:, None, None]
    return row


def _colour(hue: Column, saturation: Column, value: Column) -> Float32[np.ndarray, "scene 3 1 1"]:
    """RGB from 0 to 255 of hue (degrees), saturation and value."""
    place = (np.array([5.0, 3.0, 1.0]) + hue[:, None] / 60) % 6
    grey = np.clip(np.minimum(place, 4 - place), 0, 1)
    return (255 * value[:, None] * (1 - saturation[:, None] * grey)).astype(np.float32)[:, :, None, None]


def _two_colours(field: Fields, first: Colours, second: Colours) -> Canvas:
    canvas = field[:, None] * (second - first)
    canvas += first
    return canvas


def _backdrop(scenes: Columns, key: Keys) -> Canvas:
    pose = {"x": np.zeros(len(key)), "y": np.zeros(len(key))}
    pose |= {"angle": _uniform(key, "bands", -90.0, 90.0), "period": _uniform(key, "band width", 7.0, 20.0)}
    field = _patterned("background", scenes["background"], _hash(key, _stream("backdrop")), pose)
    first = scenes["background_hue"]
    colours = [
        _colour(hue, _uniform(key, f"saturation {name}", 0.1, 0.6), _uniform(key, f"value {name}", 0.3, 0.9))
        for name, hue in (("first", first), ("second", first + _uniform(key, "second hue", -60.0, 60.0)))
    ]
    return _two_colours(field, *colours)


def _surface(objects: Columns, key: Keys) -> Canvas:
    pose = {"x": objects["x"], "y": objects["y"], "period": _uniform(key, "grain", 5.0, 10.0)}
    pose["angle"] = objects["rotation"] + _uniform(key, "grain angle", -90.0, 90.0)
    texture = _patterned("texture", objects["texture"], _hash(key, _stream("surface")), pose)
    saturation, value = _uniform(key, "saturation", 0.45, 0.95), _uniform(key, "value", 0.55, 1.0)
    dark = value * _uniform(key, "dark", 0.4, 0.7)
    return _two_colours(texture, *(_colour(objects["hue"], saturation, level) for level in (value, dark)))


def _layers(objects: Columns, key: Keys) -> tuple[Fields, Fields, Canvas]:
    """Coverage, cast shadow and shaded colour of every object."""
    distance, slope_x, slope_y = _shape_table()
    scale, strength, cells = _per_pixel(objects["scale"]), objects["light_strength"], _cells(objects)
    light, turn = np.deg2rad(objects["light_angle"]), np.deg2rad(objects["rotation"])
    flip = np.where(objects["facing"] == FACINGS.index("right"), 1.0, -1.0)
    shade = np.take(slope_x, cells) * _per_pixel(0.6 * strength * flip * np.cos(light - turn))
    shade += np.take(slope_y, cells) * _per_pixel(0.6 * strength * np.sin(light - turn))
    shade += 1
    colour = _surface(objects, key)
    colour *= shade[:, None]
    reach = 0.14 * objects["scale"]
    behind = objects | {"x": objects["x"] - reach * np.cos(light), "y": objects["y"] - reach * np.sin(light)}
    shadow = np.clip(0.5 - np.take(distance, _cells(behind)) * (scale / 3), 0, 1) * _per_pixel(0.55 * strength)
    return _edge(np.take(distance, cells) * -scale), shadow, colour


def _paint(canvas: Canvas, cover: Fields, shadow: Fields, colour: Canvas) -> None:
    """Lay one object over each canvas, in place; `colour` is used up."""
    canvas *= (1 - shadow)[:, None]
    colour -= canvas
    colour *= cover[:, None]
    canvas += colour


def _exposed(canvas: Canvas, scenes: Columns, key: Keys) -> Pictures:
    """The picture under the scene's light, with the camera's noise."""
    light, strength = np.deg2rad(scenes["light_angle"]), scenes["light_strength"] * 0.3 / (SIZE / 2)
    canvas *= _plane(strength * np.cos(light), strength * np.sin(light), np.ones(len(key)))[:, None]
    noise = _bytes(key, "camera", SIZE * SIZE * 3 // 8).reshape(-1, 3, SIZE, SIZE).astype(np.float32)
    noise -= np.float32(127.5)
    noise *= np.float32(_CAMERA_NOISE * 12**0.5 / 256)
    canvas += noise
    canvas += np.float32(0.5)
    return np.ascontiguousarray(np.clip(canvas, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1))


def _pictures(scenes: Columns, key: Keys) -> Pictures:
    images = np.empty((len(key), SIZE, SIZE, 3), np.uint8)
    for start in range(0, len(key), _RENDERED):
        part = slice(start, start + _RENDERED)
        rows = {name: values[part] for name, values in scenes.items()}
        canvas = _backdrop(rows, key[part])
        _paint(canvas, *_layers(rows, key[part]))
        images[part] = _exposed(canvas, rows, key[part])
    return images


# What the rest of the package sees.


def _keys(seeds: int | Iterable[int], indices: Iterable[int], kind: str = "single") -> Keys:
    numbers = []
    for what, given in (("seed", [seeds] if isinstance(seeds, int) else seeds), ("index", indices)):
        values = np.array(list(given))
        if values.size and (values.dtype.kind not in "iu" or values.min() < 0):
            raise InputError(f"{values.min()} is no {what} of a scene: give a whole number from 0 to 2^63 - 1.")
        numbers.append(values.astype(np.uint64))
    return _hash(_stream(kind), *numbers)


def _single_columns(key: Keys) -> Columns:
    return _drawn(key, ("class", *FACTORS), _RANGES)


def _frame(columns: Columns, index: "pd.Index | None" = None) -> "pd.DataFrame":
    import pandas as pd

    worded = {
        name: np.array(_KINDS[name])[columns[name]] if name in _KINDS else columns[name] for name in ("class", *FACTORS)
    }
    return pd.DataFrame(worded, index=index)


def _columns(frame: "pd.DataFrame") -> tuple[Columns, Keys]:
    missing = [name for name in ("class", *FACTORS) if name not in frame.columns]
    if missing or list(frame.index.names) != ["seed", "index"]:
        lacks = ", ".join(missing) or "the index (seed, index)"
        raise InputError(f"The frame of scenes lacks {lacks}: start from scenes.factors(seed, indices).")
    columns: Columns = {name: frame[name].to_numpy(np.float64) for name in _RANGES}
    if not all(np.isfinite(values).all() for values in columns.values()) or (columns["scale"] <= 0).any():
        raise InputError(
            "The frame of scenes holds a number that is not finite or a scale that is not positive: correct it."
        )
    for name, known in _KINDS.items():
        given = frame[name].astype(str).tolist()
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise InputError(f"The frame of scenes has the {name} {unknown[0]!r}: {nearest(unknown[0], known)}.")
        columns[name] = np.array([known.index(value) for value in given], np.int64)
    return columns, _keys(frame.index.get_level_values("seed"), frame.index.get_level_values("index"))


def factors(seed: int, indices: Iterable[int]) -> "pd.DataFrame":
    """Class and factors (`FACTORS`) of single-object scenes, one row a scene, indexed by (seed, index).

    Raises:
        InputError: the seed or an index is not a whole number from 0 to 2^63 - 1.

    >>> factors(0, [3, 1]).loc[:, ["class", "facing", "scale"]].round(3)
                class facing   scale
    seed index
    0    3      snail  right  16.572
         1        key  right  15.995
    """
    import pandas as pd

    rows = list(indices)
    columns = _single_columns(_keys(seed, rows))
    return _frame(columns, pd.MultiIndex.from_product([[seed], rows], names=["seed", "index"]))


def draw(frame: "pd.DataFrame") -> Pictures:
    """The pictures of the scenes of a frame from `factors`, whose columns may have been changed.

    What is not a factor (noise, phases, saturations) stays that of the row's (seed, index): a changed column is an
    intervention on that factor alone.

    Raises:
        InputError: the frame lacks a factor or the index, or a value in it is unknown or out of range.

    >>> scene = factors(0, [7])
    >>> turned = draw(scene.assign(rotation=scene["rotation"] + 5))
    >>> bool((draw(scene) == render(0, [7])).all()), 0 < float((turned != render(0, [7])).mean()) < 0.5
    (True, True)
    """
    return _pictures(*_columns(frame))


def render(seed: int, indices: Iterable[int]) -> Pictures:
    """The pictures of single-object scenes: `draw(factors(seed, indices))` without a frame in between.

    Raises:
        InputError: the seed or an index is not a whole number from 0 to 2^63 - 1.

    >>> render(0, range(3)).shape
    (3, 64, 64, 3)
    """
    key = _keys(seed, indices)
    return _pictures(_single_columns(key), key)


def _silhouettes(columns: Columns) -> Bool[np.ndarray, "scene 64 64"]:
    return np.take(_shape_table()[0], _cells(columns)) < 0


def masks(frame: "pd.DataFrame") -> Bool[np.ndarray, "scene 64 64"]:
    """The silhouettes of the single-object scenes of a frame from `factors`: the pixels whose centre the object covers.

    >>> masks(factors(0, range(2))).sum(axis=(1, 2)).tolist()
    [573, 190]
    """
    return _silhouettes(_columns(frame)[0])


def boxes(masks: Bool[np.ndarray, "object height width"]) -> Float32[np.ndarray, "object 4"]:
    """The tight box (x0, y0, x1, y1) of every mask, in pixels: x1 - x0 is the number of columns that the mask touches.

    Raises:
        InputError: a mask is empty.

    >>> mask = np.zeros((1, 4, 4), bool)
    >>> mask[0, 1, 2] = mask[0, 2, 3] = True
    >>> boxes(mask).tolist()
    [[2.0, 1.0, 4.0, 3.0]]
    """
    if not masks.any(axis=(1, 2)).all():
        raise InputError("A mask without a pixel has no box: leave it out.")
    edges = []
    for axis in (1, 2):
        touched = np.logical_or.reduce(masks, axis=axis)
        edges.append((touched.argmax(axis=1), touched.shape[1] - touched[:, ::-1].argmax(axis=1)))
    (x0, x1), (y0, y1) = edges
    return np.stack([x0, y0, x1, y1], axis=1).astype(np.float32)


@final
@dataclass(frozen=True, eq=False)
class Scene:
    """A scene of 1 to 6 objects, in the order in which they were painted: a later object hides an earlier one.

    `labels` are numbers into `CLASSES`; `masks` are the visible parts, disjoint; `boxes` are tight around them (see `boxes`);
    `factors` has one row an object.
    """

    image: UInt8[np.ndarray, "64 64 3"]
    labels: Int64[np.ndarray, "object"]
    boxes: Float32[np.ndarray, "object 4"]
    masks: Bool[np.ndarray, "object 64 64"]
    factors: "pd.DataFrame"


def _spread(key: Keys, scale: Column) -> tuple[Column, Column]:
    """Places of the objects of one scene: of three that are drawn for each, the farthest from the objects before it."""
    tries = _hash(key[:, None], np.arange(3, dtype=np.uint64))
    xs, ys = (_uniform(tries, name, *_DETECTION_RANGES[name]) for name in ("x", "y"))
    x, y = xs[:, 0].copy(), ys[:, 0].copy()
    for row in range(1, len(key)):
        gaps = np.hypot(xs[row] - x[:row, None], ys[row] - y[:row, None]) / (scale[row] + scale[:row, None])
        best = gaps.min(axis=0).argmax()
        x[row], y[row] = xs[row, best], ys[row, best]
    return x, y


def _visible(objects: Columns) -> tuple[Bool[np.ndarray, "row 64 64"], bool]:
    """The visible part of every object, and whether it is enough of each."""
    whole = _silhouettes(objects)
    visible = whole.copy()
    covered = np.logical_or.accumulate(whole[::-1], axis=0)[::-1]
    visible[:-1] &= ~covered[1:]
    area = visible.sum(axis=(1, 2))
    return visible, bool((area >= np.maximum(_VISIBLE_SHARE * whole.sum(axis=(1, 2)), _VISIBLE_AREA)).all())


def detection_scene(seed: int, index: int) -> Scene:
    """Scene `index` of 1 to 6 objects, under one light and on one background.

    Of each object at least half of what lies in the image, and 30 pixels, is visible: where a draw of the objects fails that,
    all of them are drawn again (2 % of scenes): their number stays uniform. Objects tend to keep apart: their places, other
    than all else, are not independent of each other.

    Raises:
        InputError: the seed or the index is not a whole number from 0 to 2^63 - 1.

    >>> scene = detection_scene(0, 5)
    >>> [CLASSES[label] for label in scene.labels]
    ['teapot', 'snail', 'truck', 'key', 'truck', 'fish']
    >>> scene.masks.sum(axis=(1, 2)).tolist(), scene.boxes[0].tolist()
    ([238, 172, 202, 102, 273, 221], [8.0, 28.0, 36.0, 47.0])
    """
    scene_key = _keys(seed, [index], "detection")
    count = 1 + int(_choice(scene_key, "objects", 6)[0])
    scene = _drawn(scene_key, _OF_SCENE, _RANGES)
    for attempt in itertools.count():
        key = _hash(scene_key, attempt, np.arange(count, dtype=np.uint64))
        own = _drawn(key, ("class", *(name for name in FACTORS if name not in _OF_SCENE)), _DETECTION_RANGES)
        own["x"], own["y"] = _spread(key, own["scale"])
        objects = own | {name: np.repeat(values, count) for name, values in scene.items()}
        visible, enough = _visible(objects)
        if enough:
            break
    canvas = _backdrop(scene, scene_key)
    for cover, shadow, colour in zip(*_layers(objects, key), strict=True):
        _paint(canvas, cover[None], shadow[None], colour[None])
    image = _exposed(canvas, scene, scene_key)[0]
    return Scene(image, objects["class"], boxes(visible), visible, _frame(objects))


_BLOCK, _BLOCKS = 16, 512  # scenes a block; blocks kept: 100 MB of pixels
_ID = re.compile(rf"scenes-v{VERSION}/seed([0-9]+)/([0-9]{{6,}})")


@functools.lru_cache(maxsize=_BLOCKS)
def _block(seed: int, number: int) -> Pictures:
    return render(seed, range(number * _BLOCK, (number + 1) * _BLOCK))


@final
@dataclass(frozen=True)
class SceneSource:
    """The pictures of scenes `start`, `start + 1`, … of a seed, rendered when they are asked for."""

    seed: int
    start: int

    def image(self, row: int) -> Image.Image:
        """The picture of scene `start + row`."""
        number, within = divmod(self.start + row, _BLOCK)
        return Image.fromarray(_block(self.seed, number)[within])

    def digests(self, rows: Sequence[int]) -> list[str]:
        """What decides a scene's pixels, hashed: the generator's version, the seed and the index."""
        return [digest({"scenes": VERSION, "seed": self.seed, "index": self.start + int(row)}) for row in rows]


def scene_images(count: int, seed: int = 0, start: int = 0) -> ImageSet:
    """Single-object scenes `start` to `start + count - 1` of a seed, labelled with their class.

    Raises:
        InputError: the count is less than 1, or the seed or start is negative.

    >>> images = scene_images(3, start=8000)
    >>> images.ids[0], images.classes[images.labels[0]]
    ('scenes-v1/seed0/008000', 'axe')
    """
    if count < 1 or start < 0:
        raise InputError(f"{count} scenes from {start} on: ask for at least 1, from a start of at least 0.")
    rows = range(start, start + count)
    labels = _single_columns(_keys(seed, rows))["class"]
    ids = tuple(f"scenes-v{VERSION}/seed{seed}/{row:06d}" for row in rows)
    return ImageSet(name=f"scenes-v{VERSION}", ids=ids, labels=labels, classes=CLASSES, source=SceneSource(seed, start))


def factors_of(images: ImageSet) -> "pd.DataFrame":
    """Class and factors of the scenes of an ImageSet, in its order, recovered from the ids; indexed by (seed, index).

    Raises:
        InputError: an id is not that of a scene of this version.

    >>> factors_of(scene_images(3).take([2, 0])).equals(factors(0, [2, 0]))
    True
    """
    import pandas as pd

    seeds, indices = [], []
    for name in images.ids:
        found = _ID.fullmatch(name)
        if not found:
            raise InputError(
                f'{images.name}: "{name}" is no scene of this version, and only of scenes are the factors known: '
                f"take images with ids such as scenes-v{VERSION}/seed0/000017, from scene_images."
            )
        seeds.append(int(found[1]))
        indices.append(int(found[2]))
    index = pd.MultiIndex.from_arrays([seeds, indices], names=["seed", "index"])
    return _frame(_single_columns(_keys(seeds, indices)), index)
