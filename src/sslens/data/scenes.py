"""The embedded images: generated 64 × 64 scenes whose class, factors, boxes and masks are known
exactly.

A scene is a pure function of (seed, index). Every draw is a hash of (seed, index, stream), so a
scene does not depend on the batch that it is rendered in, and each factor is independent of the
class and of the other factors by construction. Factors are the same bits on every machine; so are
the pixels, but for a level in a few where sines differ by more than their last bit.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

from sslens.data.patterns import (
    BACKGROUNDS,
    KINDS,
    TEXTURES,
    Keys,
    choice,
    drawn,
    hashed,
    patterned,
    random_bytes,
    stream,
    uniform,
)
from sslens.data.silhouettes import CLASSES as CLASSES
from sslens.data.silhouettes import (
    FACINGS,
    SIZE,
    Column,
    Columns,
    Fields,
    cells_under,
    coverage,
    over_pixels,
    plane,
    shape_table,
)
from sslens.errors import InputError, nearest

if TYPE_CHECKING:
    import pandas as pd

VERSION = 3  # in the ids and digests: raise it whenever a factor or a pixel changes

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
    "light_strength": "0 (flat, no shadow) to 1 (plain shading and a cast shadow)",
}
_RANGES = {
    "x": (-9.0, 9.0),
    "y": (-9.0, 9.0),
    "scale": (15.0, 22.0),
    "rotation": (-20.0, 20.0),  # below 45, so that facing stays defined
    "hue": (0.0, 360.0),
    "background_hue": (0.0, 360.0),
    "light_angle": (0.0, 360.0),
    "light_strength": (0.0, 1.0),
}
_OF_SCENE = (
    "background",
    "background_hue",
    "light_angle",
    "light_strength",
)  # shared by the objects of a scene
_DETECTION_RANGES = _RANGES | {"x": (-22.0, 22.0), "y": (-22.0, 22.0), "scale": (9.0, 16.0)}
_CAMERA_NOISE = 6.0  # standard deviation, in levels of 255
_RENDERED = 64  # scenes at a time: their fields fit a processor's cache
_VISIBLE_SHARE, _VISIBLE_AREA = 0.5, 30  # of an object's silhouette; pixels

Canvas = Float32[np.ndarray, "row 3 64 64"]
Colours = Float32[np.ndarray, "row 3 1 1"]
Pictures = UInt8[np.ndarray, "scene 64 64 3"]


# Pictures.


def _colour(hue: Column, saturation: Column, level: Column) -> Float32[np.ndarray, "scene 3 1 1"]:
    """RGB of a hue (degrees) at a grey level from 0 to 255, by a share (saturation) of the most
    colour that this level has.

    Grey is what ITU-R BT.601 weighs the channels to: pictures in grey show objects as plainly as
    those in colour.
    """
    away = np.cos(np.deg2rad(hue[:, None] - np.array([0.0, 120.0, 240.0])))
    away -= away @ np.array([[0.299], [0.587], [0.114]])
    room = np.where(away > 0, 255 - level[:, None], level[:, None]) / np.maximum(np.abs(away), 1e-6)
    rgb = level[:, None] + (saturation * room.min(axis=1))[:, None] * away
    return rgb.astype(np.float32)[:, :, None, None]


def _ground(key: Keys) -> Column:
    """The background's grey level."""
    return uniform(key, "ground", 106.0, 118.0)


def _two_colours(field: Fields, first: Colours, second: Colours) -> Canvas:
    canvas = field[:, None] * (second - first)
    canvas += first
    return canvas


def _backdrop(scenes: Columns, key: Keys) -> Canvas:
    pose = {"x": np.zeros(len(key)), "y": np.zeros(len(key))}
    pose |= {
        "angle": uniform(key, "bands", -90.0, 90.0),
        "period": uniform(key, "band width", 7.0, 20.0),
    }
    field = patterned("background", scenes["background"], hashed(key, stream("backdrop")), pose)
    ground, saturation = _ground(key), uniform(key, "ground saturation", 0.2, 0.9)
    step = uniform(key, "pattern contrast", 4.0, 8.0)
    other_hue = scenes["background_hue"] + uniform(key, "second hue", -20.0, 20.0)
    first = _colour(scenes["background_hue"], saturation, ground - step)
    return _two_colours(field, first, _colour(other_hue, saturation, ground + step))


def _surface(objects: Columns, ground: Column, key: Keys) -> Canvas:
    """Lighter than the background: were it darker as often, that one bit would be the plainest
    thing that views share."""
    pose = {"x": objects["x"], "y": objects["y"], "period": uniform(key, "grain", 5.0, 10.0)}
    pose["angle"] = objects["rotation"] + uniform(key, "grain angle", -90.0, 90.0)
    texture = patterned("texture", objects["texture"], hashed(key, stream("surface")), pose)
    saturation, contrast = (
        uniform(key, "saturation", 0.3, 0.9),
        uniform(key, "contrast", 50.0, 75.0),
    )
    half = uniform(key, "grain contrast", 16.0, 32.0) / 2
    levels = (ground + contrast + half, ground + contrast - half)
    return _two_colours(texture, *(_colour(objects["hue"], saturation, level) for level in levels))


def _layers(objects: Columns, ground: Column, key: Keys) -> tuple[Fields, Fields, Canvas]:
    """Coverage, cast shadow and shaded colour of every object."""
    distance, slope_x, slope_y = shape_table()
    scale, strength, cells = (
        over_pixels(objects["scale"]),
        objects["light_strength"],
        cells_under(objects),
    )
    light, turn = np.deg2rad(objects["light_angle"]), np.deg2rad(objects["rotation"])
    flip = np.where(objects["facing"] == FACINGS.index("right"), 1.0, -1.0)
    shade = np.take(slope_x, cells) * over_pixels(0.35 * strength * flip * np.cos(light - turn))
    shade += np.take(slope_y, cells) * over_pixels(0.35 * strength * np.sin(light - turn))
    shade += 1
    colour = _surface(objects, ground, key)
    colour *= shade[:, None]
    reach = 0.14 * objects["scale"]
    behind = objects | {
        "x": objects["x"] - reach * np.cos(light),
        "y": objects["y"] - reach * np.sin(light),
    }
    shadow = np.clip(
        0.5 - np.take(distance, cells_under(behind)) * (scale / 3), 0, 1
    ) * over_pixels(0.3 * strength)
    return coverage(np.take(distance, cells) * -scale), shadow, colour


def _paint(canvas: Canvas, cover: Fields, shadow: Fields, colour: Canvas) -> None:
    """Lay one object over each canvas, in place; `colour` is used up."""
    canvas *= (1 - shadow)[:, None]
    colour -= canvas
    colour *= cover[:, None]
    canvas += colour


def _exposed(canvas: Canvas, scenes: Columns, key: Keys) -> Pictures:
    """The picture under the scene's light, with the camera's noise."""
    light, strength = (
        np.deg2rad(scenes["light_angle"]),
        scenes["light_strength"] * 0.04 / (SIZE / 2),
    )
    canvas *= plane(strength * np.cos(light), strength * np.sin(light), np.ones(len(key)))[:, None]
    noise = (
        random_bytes(key, "camera", SIZE * SIZE * 3 // 8)
        .reshape(-1, 3, SIZE, SIZE)
        .astype(np.float32)
    )
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
        _paint(canvas, *_layers(rows, _ground(key[part]), key[part]))
        images[part] = _exposed(canvas, rows, key[part])
    return images


# What the rest of the package sees.


def _keys(seeds: int | Iterable[int], indices: Iterable[int], kind: str = "single") -> Keys:
    numbers = []
    for what, given in (("seed", [seeds] if isinstance(seeds, int) else seeds), ("index", indices)):
        values = np.array(list(given))
        if values.size and (values.dtype.kind not in "iu" or values.min() < 0):
            raise InputError(
                f"{values.min()} is no {what} of a scene: give a whole number from 0 to 2^63 - 1."
            )
        numbers.append(values.astype(np.uint64))
    return hashed(stream(kind), *numbers)


def _single_columns(key: Keys) -> Columns:
    return drawn(key, ("class", *FACTORS), _RANGES)


def _frame(columns: Columns, index: "pd.Index | None" = None) -> "pd.DataFrame":
    import pandas as pd

    worded = {
        name: np.array(KINDS[name])[columns[name]] if name in KINDS else columns[name]
        for name in ("class", *FACTORS)
    }
    return pd.DataFrame(worded, index=index)


def _columns(frame: "pd.DataFrame") -> tuple[Columns, Keys]:
    missing = [name for name in ("class", *FACTORS) if name not in frame.columns]
    if missing or list(frame.index.names) != ["seed", "index"]:
        lacks = ", ".join(missing) or "the index (seed, index)"
        raise InputError(
            f"The frame of scenes lacks {lacks}: start from scenes.factors(seed, indices)."
        )
    columns: Columns = {name: frame[name].to_numpy(np.float64) for name in _RANGES}
    if (
        not all(np.isfinite(values).all() for values in columns.values())
        or (columns["scale"] <= 0).any()
    ):
        raise InputError(
            "The frame of scenes holds a number that is not finite or a scale that is not positive:"
            " correct it."
        )
    for name, known in KINDS.items():
        given = frame[name].astype(str).tolist()
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise InputError(
                f"The frame of scenes has the {name} {unknown[0]!r}: {nearest(unknown[0], known)}."
            )
        columns[name] = np.array([known.index(value) for value in given], np.int64)
    return columns, _keys(
        frame.index.get_level_values("seed"), frame.index.get_level_values("index")
    )


def labels(seed: int, indices: Iterable[int]) -> Int64[np.ndarray, " scene"]:
    """The class of each scene, as a number in `CLASSES`.

    >>> CLASSES[labels(0, [3])[0]]
    'snail'
    """
    found: Int64[np.ndarray, " scene"] = _single_columns(_keys(seed, indices))["class"]
    return found


def factors(seed: int | Sequence[int], indices: Iterable[int]) -> "pd.DataFrame":
    """Class and factors (`FACTORS`) of single-object scenes, one row a scene, by (seed, index); a
    seed each, or one for all.

    Raises:
        InputError: the seed or an index is not a whole number from 0 to 2^63 - 1.

    >>> factors(0, [3, 1]).loc[:, ["class", "facing", "scale"]].round(3)
                class facing   scale
    seed index
    0    3      snail  right  16.375
         1        key  right  15.871
    """
    import pandas as pd

    rows = list(indices)
    columns = _single_columns(_keys(seed, rows))
    seeds = [seed] * len(rows) if isinstance(seed, int) else seed
    return _frame(columns, pd.MultiIndex.from_arrays([seeds, rows], names=["seed", "index"]))


def draw(frame: "pd.DataFrame") -> Pictures:
    """The pictures of the scenes of a frame from `factors`, whose columns may have been changed.

    What is not a factor (noise, phases, saturations) stays that of the row's (seed, index): a
    changed column is an intervention on that factor alone.

    Raises:
        InputError: the frame lacks a factor or the index, or a value in it is unknown or out of
            range.

    >>> scene = factors(0, [7])
    >>> turned = draw(scene.assign(rotation=scene["rotation"] + 5))
    >>> bool((draw(scene) == render(0, [7])).all()), 0 < float((turned != render(0, [7])).mean()) < 0.5
    (True, True)
    """
    return _pictures(*_columns(frame))


def render(seed: int, indices: Iterable[int]) -> Pictures:
    """The pictures of single-object scenes: `draw(factors(seed, indices))` without a frame in
    between.

    Raises:
        InputError: the seed or an index is not a whole number from 0 to 2^63 - 1.

    >>> render(0, range(3)).shape
    (3, 64, 64, 3)
    """
    key = _keys(seed, indices)
    return _pictures(_single_columns(key), key)


def _silhouettes(columns: Columns) -> Bool[np.ndarray, "scene 64 64"]:
    return np.take(shape_table()[0], cells_under(columns)) < 0


def masks(frame: "pd.DataFrame") -> Bool[np.ndarray, "scene 64 64"]:
    """The silhouettes of the single-object scenes of a frame from `factors`: the pixels whose
    centre the object covers.

    >>> masks(factors(0, range(2))).sum(axis=(1, 2)).tolist()
    [526, 185]
    """
    return _silhouettes(_columns(frame)[0])


def boxes(masks: Bool[np.ndarray, "object height width"]) -> Float32[np.ndarray, "object 4"]:
    """The tight box (x0, y0, x1, y1) of every mask, in pixels: x1 - x0 is the number of columns
    that the mask touches.

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
    """A scene of 1 to 6 objects, in the order in which they were painted: a later object hides an
    earlier one.

    `labels` are numbers into `CLASSES`; `masks` are the visible parts, disjoint; `boxes` are tight
    around them (see `boxes`); `factors` has one row an object.
    """

    image: UInt8[np.ndarray, "64 64 3"]
    labels: Int64[np.ndarray, " object"]
    boxes: Float32[np.ndarray, "object 4"]
    masks: Bool[np.ndarray, "object 64 64"]
    factors: "pd.DataFrame"


def _spread(key: Keys, scale: Column) -> tuple[Column, Column]:
    """Places of the objects of one scene: of three that are drawn for each, the farthest from the
    objects before it."""
    tries = hashed(key[:, None], np.arange(3, dtype=np.uint64))
    xs, ys = (uniform(tries, name, *_DETECTION_RANGES[name]) for name in ("x", "y"))
    x, y = xs[:, 0].copy(), ys[:, 0].copy()
    for row in range(1, len(key)):
        gaps = np.hypot(xs[row] - x[:row, None], ys[row] - y[:row, None]) / (
            scale[row] + scale[:row, None]
        )
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
    return visible, bool(
        (area >= np.maximum(_VISIBLE_SHARE * whole.sum(axis=(1, 2)), _VISIBLE_AREA)).all()
    )


def detection_scene(seed: int, index: int) -> Scene:
    """Scene `index` of 1 to 6 objects, under one light and on one background.

    Of each object at least half of what lies in the image, and 30 pixels, is visible: where a draw
    of the objects fails that, all of them are drawn again (2 % of scenes): their number stays
    uniform. Objects tend to keep apart: their places, other than all else, are not independent of
    each other.

    Raises:
        InputError: the seed or the index is not a whole number from 0 to 2^63 - 1.

    >>> scene = detection_scene(0, 5)
    >>> [CLASSES[label] for label in scene.labels]
    ['teapot', 'snail', 'truck', 'key', 'truck', 'fish']
    >>> scene.masks.sum(axis=(1, 2)).tolist(), scene.boxes[0].tolist()
    ([240, 171, 207, 103, 274, 223], [8.0, 28.0, 37.0, 47.0])
    """
    scene_key = _keys(seed, [index], "detection")
    count = 1 + int(choice(scene_key, "objects", 6)[0])
    scene = drawn(scene_key, _OF_SCENE, _RANGES)
    for attempt in itertools.count():
        key = hashed(scene_key, attempt, np.arange(count, dtype=np.uint64))
        own = drawn(
            key, ("class", *(name for name in FACTORS if name not in _OF_SCENE)), _DETECTION_RANGES
        )
        own["x"], own["y"] = _spread(key, own["scale"])
        objects = own | {name: np.repeat(values, count) for name, values in scene.items()}
        visible, enough = _visible(objects)
        if enough:
            break
    canvas = _backdrop(scene, scene_key)
    for cover, shadow, colour in zip(
        *_layers(objects, np.repeat(_ground(scene_key), count), key), strict=True
    ):
        _paint(canvas, cover[None], shadow[None], colour[None])
    image = _exposed(canvas, scene, scene_key)[0]
    return Scene(image, objects["class"], boxes(visible), visible, _frame(objects))
