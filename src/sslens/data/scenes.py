"""The embedded images: generated 64 × 64 scenes with exactly known class, factors, boxes and masks.

A scene is a pure function of (seed, index). Every random number is a hash of (seed, index, name),
so a scene does not depend on the batch that it is rendered in, and each factor is independent of
the class and of the other factors. The factors are bit for bit the same on every machine. The
pixels are too, except where the machine's sines differ by more than their last bit: a few pixels
are then one level off.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

from sslens.data.painting import (
    Pictures,
    cover_by_occluder,
    expose,
    make_layers,
    paint_background,
    paint_clutter,
    paint_object,
    paint_pictures,
)
from sslens.data.patterns import (
    BACKGROUNDS,
    KINDS,
    OCCLUDERS,
    TEXTURES,
    Keys,
    choice,
    draw_columns,
    hash_name,
    hash_parts,
    uniform,
)
from sslens.data.silhouettes import CLASSES as CLASSES
from sslens.data.silhouettes import Column, Columns, cells_under, shape_table
from sslens.errors import InputError, nearest

if TYPE_CHECKING:
    import pandas as pd

VERSION = 4  # in the ids and digests: raise it whenever a factor or a pixel changes

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
    "brightness": "grey level of the background, of 255",
    "clutter": "how far the grey level of pieces behind the object is from the background's",
    "occluder": "what hides a part of the object: " + ", ".join(OCCLUDERS),
    "light_angle": "where the light comes from, degrees clockwise on screen from the right",
    "light_strength": "0 (flat, no shadow) to 1 (plain shading and a cast shadow)",
}
_RANGES = {
    "x": (-12.5, 12.5),
    "y": (-12.5, 12.5),
    "scale": (11.5, 25.5),
    "rotation": (-32.0, 32.0),  # below 45, so that facing stays defined
    "hue": (0.0, 360.0),
    "background_hue": (0.0, 360.0),
    "brightness": (65.0, 150.0),
    "clutter": (0.0, 15.0),
    "light_angle": (0.0, 360.0),
    "light_strength": (0.0, 1.0),
}
#: factors that the objects of a scene share
_OF_SCENE = (
    "background",
    "background_hue",
    "brightness",
    "clutter",
    "occluder",
    "light_angle",
    "light_strength",
)
_DETECTION_RANGES = _RANGES | {"x": (-26.0, 26.0), "y": (-26.0, 26.0), "scale": (4.0, 26.0)}
#: of each object in a scene of several at least so much is visible: a share of its silhouette, and
#: an area in pixels
_VISIBLE_SHARE, _VISIBLE_AREA = 0.5, 8


def _keys(seeds: int | Iterable[int], indices: Iterable[int], kind: str = "single") -> Keys:
    """The random key of each scene; one seed for all, or one each."""
    numbers = []
    seeds = [seeds] if isinstance(seeds, int) else seeds
    for what, given in (("seed", seeds), ("index", indices)):
        values = np.array(list(given))
        if values.size and (values.dtype.kind not in "iu" or values.min() < 0):
            raise InputError(
                f"{values.min()} is no {what} of a scene: give a whole number from 0 to 2^63 - 1."
            )
        numbers.append(values.astype(np.uint64))
    return hash_parts(hash_name(kind), *numbers)


def _draw_single(key: Keys) -> Columns:
    """Draw the class and the factors of scenes of one object."""
    return draw_columns(key, ("class", *FACTORS), _RANGES)


def _to_frame(columns: Columns, index: "pd.Index | None" = None) -> "pd.DataFrame":
    """Columns as a frame, with words in place of the numbers of kinds."""
    import pandas as pd

    worded = {
        name: np.array(KINDS[name])[columns[name]] if name in KINDS else columns[name]
        for name in ("class", *FACTORS)
    }
    return pd.DataFrame(worded, index=index)


def _from_frame(frame: "pd.DataFrame") -> tuple[Columns, Keys]:
    """The columns of a frame, each value checked, and the random key of each row."""
    missing = [name for name in ("class", *FACTORS) if name not in frame.columns]
    if missing or list(frame.index.names) != ["seed", "index"]:
        lacks = ", ".join(missing) or "the index (seed, index)"
        raise InputError(
            f"The frame of scenes lacks {lacks}: start from scenes.factors(seed, indices)."
        )
    columns: Columns = {name: frame[name].to_numpy(np.float64) for name in _RANGES}
    finite = all(np.isfinite(values).all() for values in columns.values())
    if not finite or (columns["scale"] <= 0).any():
        raise InputError(
            "The frame of scenes holds a number that is not finite or a scale that is not positive:"
            " correct it."
        )
    for name, kinds in KINDS.items():
        given = frame[name].astype(str).tolist()
        unknown = sorted(set(given) - set(kinds))
        if unknown:
            raise InputError(
                f"The frame of scenes has the {name} {unknown[0]!r}: {nearest(unknown[0], kinds)}."
            )
        columns[name] = np.array([kinds.index(value) for value in given], np.int64)
    seeds, indices = (frame.index.get_level_values(name) for name in ("seed", "index"))
    return columns, _keys(seeds, indices)


def labels(seed: int, indices: Iterable[int]) -> Int64[np.ndarray, " scene"]:
    """Return the class of each scene, as an index into `CLASSES`.

    >>> CLASSES[labels(0, [3])[0]]
    'snail'
    """
    classes: Int64[np.ndarray, " scene"] = _draw_single(_keys(seed, indices))["class"]
    return classes


def factors(seed: int | Sequence[int], indices: Iterable[int]) -> "pd.DataFrame":
    """Return the class and the factors (`FACTORS`) of single-object scenes, one row per scene.

    Args:
        seed: one seed for all scenes, or one for each scene.
        indices: the number of each scene under its seed.

    Returns:
        A frame that is indexed by (seed, index).

    Raises:
        InputError: the seed or an index is not a whole number from 0 to 2^63 - 1.

    >>> factors(0, [3, 1]).loc[:, ["class", "facing", "scale"]].round(3)
                class facing   scale
    seed index
    0    3      snail  right  14.251
         1        key  right  13.242
    """
    import pandas as pd

    rows = list(indices)
    columns = _draw_single(_keys(seed, rows))
    seeds = [seed] * len(rows) if isinstance(seed, int) else seed
    return _to_frame(columns, pd.MultiIndex.from_arrays([seeds, rows], names=["seed", "index"]))


def draw(frame: "pd.DataFrame") -> Pictures:
    """Paint the scenes of a frame from `factors`, in which columns may have been changed.

    Everything that is no factor (noise, phases, saturations) depends on the row's (seed, index)
    alone. A changed column is therefore an intervention on that factor alone.

    Raises:
        InputError: the frame lacks a factor or the index, or a value in it is unknown or out of
            range.

    >>> scene, picture = factors(0, [7]), render(0, [7])
    >>> bool((draw(scene) == picture).all())
    True
    >>> turned = draw(scene.assign(rotation=scene["rotation"] + 5))
    >>> 0 < float((turned != picture).mean()) < 0.5
    True
    """
    return paint_pictures(*_from_frame(frame))


def render(seed: int, indices: Iterable[int]) -> Pictures:
    """Paint single-object scenes: `draw(factors(seed, indices))` without a frame in between.

    Raises:
        InputError: the seed or an index is not a whole number from 0 to 2^63 - 1.

    >>> render(0, range(3)).shape
    (3, 64, 64, 3)
    """
    key = _keys(seed, indices)
    return paint_pictures(_draw_single(key), key)


def _silhouettes(columns: Columns) -> Bool[np.ndarray, "scene 64 64"]:
    return np.take(shape_table()[0], cells_under(columns)) < 0


def masks(frame: "pd.DataFrame") -> Bool[np.ndarray, "scene 64 64"]:
    """Compute the visible part of the object in each single-object scene of a frame from `factors`.

    A pixel belongs to it if the object covers the pixel's centre and the occluder does not.

    >>> masks(factors(0, range(2))).sum(axis=(1, 2)).tolist()
    [666, 129]
    """
    columns, key = _from_frame(frame)
    return _silhouettes(columns) & (cover_by_occluder(columns, key) < 0.5)


def boxes(masks: Bool[np.ndarray, "object height width"]) -> Float32[np.ndarray, "object 4"]:
    """Compute the tight box (x0, y0, x1, y1) of every mask, in pixels.

    x1 - x0 is the number of columns from the mask's first to its last one, both included.

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


def _place(key: Keys, scale: Column) -> tuple[Column, Column]:
    """Place the objects of one scene (x, y): three places are drawn for each object, and the one
    that is farthest from the objects before it is taken."""
    tries = hash_parts(key[:, None], np.arange(3, dtype=np.uint64))
    xs, ys = (uniform(tries, name, *_DETECTION_RANGES[name]) for name in ("x", "y"))
    x, y = xs[:, 0].copy(), ys[:, 0].copy()
    for row in range(1, len(key)):
        distances = np.hypot(xs[row] - x[:row, None], ys[row] - y[:row, None])
        gaps = distances / (scale[row] + scale[:row, None])
        best = gaps.min(axis=0).argmax()
        x[row], y[row] = xs[row, best], ys[row, best]
    return x, y


def _spread_by_ratio(values: Column, low: float, high: float) -> Column:
    """Turn values that are uniform in a range into values with a uniform logarithm there, so that
    each doubling of the size is as frequent as the next one."""
    return low * (high / low) ** ((values - low) / (high - low))


def _visible_parts(objects: Columns) -> tuple[Bool[np.ndarray, "row 64 64"], bool]:
    """The visible part of every object, and whether enough of every object is visible."""
    whole = _silhouettes(objects)
    visible = whole.copy()
    covered = np.logical_or.accumulate(whole[::-1], axis=0)[::-1]
    visible[:-1] &= ~covered[1:]
    least = np.maximum(_VISIBLE_SHARE * whole.sum(axis=(1, 2)), _VISIBLE_AREA)
    return visible, bool((visible.sum(axis=(1, 2)) >= least).all())


def detection_scene(seed: int, index: int) -> Scene:
    """Paint scene `index` of 1 to 6 objects, under one light and on one background.

    Radii are from 4 to 26 pixels, each doubling as frequent as the next one. Of each object at
    least 8 pixels are visible, and at least half of the part that lies in the image. In 4 % of the
    scenes a draw of the objects fails this: all objects are then drawn again, in the same number,
    so that the number of objects stays uniform. Objects tend to keep apart: their places depend on
    each other, and large objects are rarer beside many others.

    Raises:
        InputError: the seed or the index is not a whole number from 0 to 2^63 - 1.

    >>> scene = detection_scene(0, 5)
    >>> [CLASSES[label] for label in scene.labels]
    ['teapot', 'snail', 'truck', 'key', 'truck', 'fish']
    >>> scene.masks.sum(axis=(1, 2)).tolist(), scene.boxes[0].tolist()
    ([531, 98, 131, 55, 339, 356], [0.0, 25.0, 42.0, 53.0])
    """
    scene_key = _keys(seed, [index], "detection")
    count = 1 + int(choice(scene_key, "objects", 6)[0])
    scene = draw_columns(scene_key, _OF_SCENE, _RANGES)
    scene["occluder"] = np.full(1, OCCLUDERS.index("none"))  # objects hide each other
    own_factors = [name for name in FACTORS if name not in _OF_SCENE]
    for attempt in itertools.count():
        key = hash_parts(scene_key, attempt, np.arange(count, dtype=np.uint64))
        own = draw_columns(key, ("class", *own_factors), _DETECTION_RANGES)
        own["scale"] = _spread_by_ratio(own["scale"], *_DETECTION_RANGES["scale"])
        own["x"], own["y"] = _place(key, own["scale"])
        objects = own | {name: np.repeat(values, count) for name, values in scene.items()}
        visible, enough = _visible_parts(objects)
        if enough:
            break
    canvas = paint_background(scene, scene_key)
    paint_clutter(canvas, scene, scene_key)
    layers = make_layers(objects, key)
    for cover, shadow, colour in zip(*layers, strict=True):
        paint_object(canvas, cover[None], shadow[None], colour[None])
    image = expose(canvas, scene, scene_key)[0]
    return Scene(image, objects["class"], boxes(visible), visible, _to_frame(objects))
