"""Painting: the pixels of the embedded scenes, from each scene's factors and random key.

A background and its clutter are painted first, then each object with its cast shadow, then what
hides a part of the object. At the end the scene's light and the camera's noise are laid over the
whole picture.
"""

import numpy as np
from jaxtyping import Float32, UInt8

from sslens.data.patterns import (
    OCCLUDERS,
    Keys,
    draw_columns,
    draw_fields,
    hash_name,
    hash_parts,
    random_bytes,
    uniform,
)
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

#: every scene is painted on a background of this grey level, of 255; the exposure then makes the
#: whole picture, its contrasts and its noise darker alike
GROUND = 150.0
CAMERA_NOISE = 4.0  # standard deviation, in levels of 255 before exposure
_CONTRAST = (40.0, 90.0)  # of an object with its background, in levels before exposure
_PIECES = 4  # of clutter in a scene
#: of light: by how much it changes a surface that is turned to it, and the brightness from the
#: middle of the picture to its border. With 0.25 and 0.04, MoCo-v3 told scenes apart by the angle
#: of the light
_SHADING, _GRADIENT = 0.15, 0.02
#: a colour's saturation, as a share of the most that is possible at its level: little, so that no
#: objective can do its task by colour alone
_GROUND_SATURATION, _SATURATION = (0.005, 0.02), (0.03, 0.07)
_TOGETHER = 64  # scenes that are painted at a time: their fields fit a processor's cache

Canvas = Float32[np.ndarray, "row 3 64 64"]
Colour = Float32[np.ndarray, "row 3 1 1"]
Pictures = UInt8[np.ndarray, "scene 64 64 3"]


def _colour(hue: Column, saturation: Column, level: Column) -> Float32[np.ndarray, "scene 3 1 1"]:
    """RGB of a hue (degrees) at a grey level from 0 to 255.

    The saturation is a share of the most colour that is possible at this level. The grey level of a
    colour is the weighted sum of its channels by ITU-R BT.601, so that a picture turned grey shows
    objects as plainly as the picture in colour.
    """
    away = np.cos(np.deg2rad(hue[:, None] - np.array([0.0, 120.0, 240.0])))
    away -= away @ np.array([[0.299], [0.587], [0.114]])
    room = np.where(away > 0, 255 - level[:, None], level[:, None]) / np.maximum(np.abs(away), 1e-6)
    rgb = level[:, None] + (saturation * room.min(axis=1))[:, None] * away
    return rgb.astype(np.float32)[:, :, None, None]


def _blend(field: Fields, first: Colour, second: Colour) -> Canvas:
    """The first colour where a field is 0, the second where it is 1, and between them elsewhere."""
    canvas = field[:, None] * (second - first)
    canvas += first
    return canvas


def paint_background(scenes: Columns, key: Keys) -> Canvas:
    """Paint the background of each scene: a pattern in two similar colours."""
    pose = {"x": np.zeros(len(key)), "y": np.zeros(len(key))}
    pose |= {
        "angle": uniform(key, "bands", -90.0, 90.0),
        "period": uniform(key, "band width", 7.0, 20.0),
    }
    pattern_key = hash_parts(key, hash_name("backdrop"))
    field = draw_fields("background", scenes["background"], pattern_key, pose)
    saturation = uniform(key, "ground saturation", *_GROUND_SATURATION)
    step = uniform(key, "pattern contrast", 0.5, 1.5)
    other_hue = scenes["background_hue"] + uniform(key, "second hue", -20.0, 20.0)
    first = _colour(scenes["background_hue"], saturation, GROUND - step)
    return _blend(field, first, _colour(other_hue, saturation, GROUND + step))


def paint_clutter(canvas: Canvas, scenes: Columns, key: Keys) -> None:
    """Paint pieces of silhouettes onto each canvas, in place, behind the object.

    The pieces come from all classes, so that a piece of an outline does not tell the class of the
    scene's object. The factor clutter says how far their grey level is from the background's.
    """
    ranges = {
        "x": (-32.0, 32.0),
        "y": (-32.0, 32.0),
        "scale": (8.0, 18.0),
        "rotation": (-180.0, 180.0),
        "cut": (0.0, 2 * np.pi),
        "hue": (0.0, 360.0),
        "saturation": _GROUND_SATURATION,
    }
    for number in range(_PIECES):
        piece_key = hash_parts(key, hash_name("piece"), number)
        piece = draw_columns(piece_key, ("class", "facing", *ranges), ranges)
        a, b = np.cos(piece["cut"]), np.sin(piece["cut"])
        outside = np.take(shape_table()[0], cells_under(piece)) * over_pixels(piece["scale"])
        np.maximum(outside, plane(a, b, -a * piece["x"] - b * piece["y"]), out=outside)
        darker = uniform(piece_key, "darker") < 0.5
        level = GROUND + np.where(darker, -1, 1) * scenes["clutter"]
        colour = _colour(piece["hue"], piece["saturation"], level)
        canvas += coverage(-outside)[:, None] * (colour - canvas)


def _paint_surface(objects: Columns, key: Keys) -> Canvas:
    """Paint the texture of each object, without light.

    It is always lighter than the background. If it were darker for half of the objects, that one
    bit would be the plainest thing about an image: two views share it, and MAE's CLS token held
    little else.
    """
    pose = {"x": objects["x"], "y": objects["y"], "period": uniform(key, "grain", 5.0, 10.0)}
    pose["angle"] = objects["rotation"] + uniform(key, "grain angle", -90.0, 90.0)
    pattern_key = hash_parts(key, hash_name("surface"))
    texture = draw_fields("texture", objects["texture"], pattern_key, pose)
    saturation = uniform(key, "saturation", *_SATURATION)
    contrast = uniform(key, "contrast", *_CONTRAST)
    half = uniform(key, "grain contrast", 6.0, 14.0) / 2
    levels = (GROUND + contrast + half, GROUND + contrast - half)
    return _blend(texture, *(_colour(objects["hue"], saturation, level) for level in levels))


def make_layers(objects: Columns, key: Keys) -> tuple[Fields, Fields, Canvas]:
    """Make the layers of every object, one object a row.

    Args:
        objects: the class and the factors of the objects, by column.
        key: random key of each object.

    Returns:
        The share of each pixel that the object covers, the darkness of its cast shadow (both 0 to
        1), and its shaded colour (0 to 255).
    """
    distance, slope_x, slope_y = shape_table()
    scale, strength = over_pixels(objects["scale"]), objects["light_strength"]
    cells = cells_under(objects)
    light, turn = np.deg2rad(objects["light_angle"]), np.deg2rad(objects["rotation"])
    flip = np.where(objects["facing"] == FACINGS.index("right"), 1.0, -1.0)
    shade = np.take(slope_x, cells) * over_pixels(_SHADING * strength * flip * np.cos(light - turn))
    shade += np.take(slope_y, cells) * over_pixels(_SHADING * strength * np.sin(light - turn))
    shade += 1
    colour = _paint_surface(objects, key)
    colour *= shade[:, None]
    reach = 0.14 * objects["scale"]
    behind = objects | {
        "x": objects["x"] - reach * np.cos(light),
        "y": objects["y"] - reach * np.sin(light),
    }
    blurred = 0.5 - np.take(distance, cells_under(behind)) * (scale / 3)
    shadow = np.clip(blurred, 0, 1) * over_pixels(0.3 * strength)
    return coverage(np.take(distance, cells) * -scale), shadow, colour


def paint_object(canvas: Canvas, cover: Fields, shadow: Fields, colour: Canvas) -> None:
    """Paint one object onto each canvas, in place, with the layers of `make_layers`.

    The function also overwrites `colour`.
    """
    canvas *= (1 - shadow)[:, None]
    colour -= canvas
    colour *= cover[:, None]
    canvas += colour


def cover_by_occluder(scenes: Columns, key: Keys) -> Fields:
    """Compute the share of each pixel, 0 to 1, that the scene's occluder covers: a bar across the
    picture, beside the middle of the object, a tenth to a fifth of the object's radius wide."""
    angle = uniform(key, "bar angle", 0.0, 2 * np.pi)
    distance = uniform(key, "bar distance", 0.35, 0.8) * scenes["scale"]
    half_width = over_pixels(uniform(key, "bar width", 0.05, 0.1) * scenes["scale"])
    a, b = np.cos(angle), np.sin(angle)
    away = np.abs(plane(a, b, -a * scenes["x"] - b * scenes["y"] - distance))
    present = scenes["occluder"] == OCCLUDERS.index("bar")
    return coverage(half_width - away) * over_pixels(present)


def paint_occluder(canvas: Canvas, scenes: Columns, key: Keys) -> None:
    """Paint what hides a part of the object onto each canvas, in place."""
    saturation = uniform(key, "bar saturation", *_GROUND_SATURATION)
    level = GROUND + uniform(key, "bar contrast", -20.0, 20.0)
    colour = _colour(uniform(key, "bar hue", 0.0, 360.0), saturation, level)
    canvas += cover_by_occluder(scenes, key)[:, None] * (colour - canvas)


def expose(canvas: Canvas, scenes: Columns, key: Keys) -> Pictures:
    """Turn canvases into pictures: add the scene's light and the camera's noise, and round to 8
    bits.

    The function overwrites `canvas`.
    """
    light = np.deg2rad(scenes["light_angle"])
    strength = scenes["light_strength"] * _GRADIENT / (SIZE / 2)
    canvas *= plane(strength * np.cos(light), strength * np.sin(light), np.ones(len(key)))[:, None]
    noise_bytes = random_bytes(key, "camera", SIZE * SIZE * 3 // 8)
    noise = noise_bytes.reshape(-1, 3, SIZE, SIZE).astype(np.float32)
    noise -= np.float32(127.5)
    noise *= np.float32(CAMERA_NOISE * 12**0.5 / 256)
    canvas += noise
    canvas *= over_pixels(scenes["brightness"] / GROUND)[:, None]
    canvas += np.float32(0.5)
    return np.ascontiguousarray(np.clip(canvas, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1))


def paint_pictures(scenes: Columns, key: Keys) -> Pictures:
    """Paint scenes of one object each.

    Args:
        scenes: the class and the factors of the scenes, by column.
        key: the random key of each scene.
    """
    images = np.empty((len(key), SIZE, SIZE, 3), np.uint8)
    for start in range(0, len(key), _TOGETHER):
        part = slice(start, start + _TOGETHER)
        rows = {name: values[part] for name, values in scenes.items()}
        canvas = paint_background(rows, key[part])
        paint_clutter(canvas, rows, key[part])
        paint_object(canvas, *make_layers(rows, key[part]))
        paint_occluder(canvas, rows, key[part])
        images[part] = expose(canvas, rows, key[part])
    return images
