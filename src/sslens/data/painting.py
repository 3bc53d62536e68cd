"""Painting: the pixels of the embedded scenes, from each scene's factors and random key.

A background is painted first, then each object with its cast shadow; at the end the scene's light
and the camera's noise are laid over the whole picture.
"""

import numpy as np
from jaxtyping import Float32, UInt8

from sslens.data.patterns import Keys, draw_fields, hash_name, hash_parts, random_bytes, uniform
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

_CAMERA_NOISE = 6.0  # standard deviation, in levels of 255
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


def ground_level(key: Keys) -> Column:
    """Draw the grey level of each scene's background, between 106 and 118 of 255."""
    return uniform(key, "ground", 106.0, 118.0)


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
    ground, saturation = ground_level(key), uniform(key, "ground saturation", 0.2, 0.9)
    step = uniform(key, "pattern contrast", 4.0, 8.0)
    other_hue = scenes["background_hue"] + uniform(key, "second hue", -20.0, 20.0)
    first = _colour(scenes["background_hue"], saturation, ground - step)
    return _blend(field, first, _colour(other_hue, saturation, ground + step))


def _paint_surface(objects: Columns, ground: Column, key: Keys) -> Canvas:
    """Paint the texture of each object, without light.

    It is always lighter than the background. If it were darker for half of the objects, that one
    bit would be the plainest thing that two views of an image share.
    """
    pose = {"x": objects["x"], "y": objects["y"], "period": uniform(key, "grain", 5.0, 10.0)}
    pose["angle"] = objects["rotation"] + uniform(key, "grain angle", -90.0, 90.0)
    pattern_key = hash_parts(key, hash_name("surface"))
    texture = draw_fields("texture", objects["texture"], pattern_key, pose)
    saturation = uniform(key, "saturation", 0.3, 0.9)
    contrast = uniform(key, "contrast", 50.0, 75.0)
    half = uniform(key, "grain contrast", 16.0, 32.0) / 2
    levels = (ground + contrast + half, ground + contrast - half)
    return _blend(texture, *(_colour(objects["hue"], saturation, level) for level in levels))


def make_layers(objects: Columns, ground: Column, key: Keys) -> tuple[Fields, Fields, Canvas]:
    """Make the layers of every object, one object a row.

    Args:
        objects: the class and the factors of the objects, by column.
        ground: grey level of each object's background, of 255.
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
    shade = np.take(slope_x, cells) * over_pixels(0.35 * strength * flip * np.cos(light - turn))
    shade += np.take(slope_y, cells) * over_pixels(0.35 * strength * np.sin(light - turn))
    shade += 1
    colour = _paint_surface(objects, ground, key)
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


def expose(canvas: Canvas, scenes: Columns, key: Keys) -> Pictures:
    """Turn canvases into pictures: add the scene's light and the camera's noise, and round to 8
    bits.

    The function overwrites `canvas`.
    """
    light = np.deg2rad(scenes["light_angle"])
    strength = scenes["light_strength"] * 0.04 / (SIZE / 2)
    canvas *= plane(strength * np.cos(light), strength * np.sin(light), np.ones(len(key)))[:, None]
    noise_bytes = random_bytes(key, "camera", SIZE * SIZE * 3 // 8)
    noise = noise_bytes.reshape(-1, 3, SIZE, SIZE).astype(np.float32)
    noise -= np.float32(127.5)
    noise *= np.float32(_CAMERA_NOISE * 12**0.5 / 256)
    canvas += noise
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
        paint_object(canvas, *make_layers(rows, ground_level(key[part]), key[part]))
        images[part] = expose(canvas, rows, key[part])
    return images
