"""Patterns: the random numbers of the embedded scenes, and the fields of their textures and
backgrounds.

Every random number is a hash of a key and a name, so it depends on no other random number, nor on
the machine. A key is itself a hash, such as of a seed and an index.
"""

import functools
import zlib
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8, UInt64

from sslens.data.silhouettes import (
    CLASSES,
    FACINGS,
    SIZE,
    Column,
    Columns,
    Fields,
    PerPixel,
    coverage,
    over_pixels,
    plane,
)

TEXTURES = ("plain", "stripes", "checks", "dots", "mottled")
BACKGROUNDS = ("gradient", "clouds", "stripes", "checks", "blobs")
OCCLUDERS = ("none", "bar")
KINDS = {
    "class": CLASSES,
    "facing": FACINGS,
    "texture": TEXTURES,
    "background": BACKGROUNDS,
    "occluder": OCCLUDERS,
}

Keys = UInt64[np.ndarray, " row"]
Pattern = Callable[[Keys, Columns], Fields]


# Draws.


def hash_parts(*parts: int | UInt64[np.ndarray, "..."]) -> UInt64[np.ndarray, "..."]:
    """Hash whole numbers to 64 bits: splitmix64's step and finaliser (Steele, Lea and Flood, 2014),
    chained over the parts in exact 64-bit arithmetic.

    >>> hex(hash_parts(0).item())  # the first output of splitmix64 from seed 0
    '0xe220a8397b1dcdaf'
    """
    state = np.zeros(1, np.uint64)
    for part in parts:
        state = (state ^ np.asarray(part, np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return state


def random_bytes(key: Keys, name: str, words: int) -> UInt8[np.ndarray, "row byte"]:
    """Draw 8 · `words` random bytes for each key, the same on machines of either byte order.

    >>> random_bytes(hash_parts(0), "camera", words=3).shape
    (1, 24)
    """
    counters = np.arange(words, dtype=np.uint64)
    random_words = hash_parts(hash_parts(key, hash_name(name))[:, None] + counters)
    return random_words.astype("<u8", copy=False).view(np.uint8)


def hash_name(name: str) -> int:
    """Turn a name into a number for `hash_parts`: its CRC-32.

    >>> hex(hash_name("123456789"))
    '0xcbf43926'
    """
    return zlib.crc32(name.encode())


def uniform(
    key: UInt64[np.ndarray, "*shape"], name: str, low: float = 0.0, high: float = 1.0
) -> Float64[np.ndarray, "*shape"]:
    """Draw one number for each key, uniform in [low, high), in steps of 2⁻⁵³ · (high − low).

    >>> uniform(hash_parts(np.arange(4, dtype=np.uint64)), "x", -8.0, 8.0).round(2).tolist()
    [5.9, -1.84, -6.75, -5.0]
    """
    return low + (high - low) * ((hash_parts(key, hash_name(name)) >> np.uint64(11)) * 2.0**-53)


def choice(key: Keys, name: str, count: int) -> Int64[np.ndarray, " row"]:
    """Draw one whole number for each key, uniform from 0 to count − 1.

    >>> np.bincount(choice(hash_parts(np.arange(3000, dtype=np.uint64)), "class", 3)).tolist()
    [1017, 982, 1001]
    """
    high_bits = hash_parts(key, hash_name(name)) >> np.uint64(32)
    return ((high_bits * np.uint64(count)) >> np.uint64(32)).astype(np.int64)


def draw_columns(
    key: Keys, names: Iterable[str], ranges: Mapping[str, tuple[float, float]]
) -> Columns:
    """Draw a column of random numbers for each name.

    A name in `KINDS` gets indices into its kinds; any other name gets numbers that are uniform in
    its range.

    >>> columns = draw_columns(hash_parts(0), ("facing", "x"), {"x": (3.0, 3.0)})
    >>> columns["facing"].item() in (0, 1), columns["x"].tolist()
    (True, [3.0])
    """
    columns: Columns = {}
    for name in names:
        kinds = KINDS.get(name)
        columns[name] = (
            choice(key, name, len(kinds)) if kinds else uniform(key, name, *ranges[name])
        )
    return columns


# Fields.


def _wave(turns: Fields) -> Fields:
    """Distance to the nearest whole turn, in place: a triangle wave from 0 to 1/2.

    All machines round it alike, which is not so for a sine.
    """
    turns -= np.rint(turns)
    return np.abs(turns, out=turns)


def _bands(key: Keys, pose: Columns, across: bool = False) -> tuple[Fields, PerPixel]:
    """Signed distance in pixels to the edges of bands half a period wide, and the period."""
    turn = np.deg2rad(pose["angle"]) + across * np.pi / 2
    a, b = np.cos(turn) / pose["period"], np.sin(turn) / pose["period"]
    phase = uniform(key, "phase across" if across else "phase") - a * pose["x"] - b * pose["y"]
    period = over_pixels(pose["period"])
    return (_wave(plane(a, b, phase)) - np.float32(0.25)) * period, period


def _stripes(key: Keys, pose: Columns) -> Fields:
    return coverage(_bands(key, pose)[0])


def _checks(key: Keys, pose: Columns) -> Fields:
    one, other = _stripes(key, pose), coverage(_bands(key, pose, across=True)[0])
    return one + other - 2 * one * other


def _dots(key: Keys, pose: Columns) -> Fields:
    (one, period), (other, _) = _bands(key, pose), _bands(key, pose, across=True)
    quarter = period / 4
    radius = np.sqrt((one + quarter) ** 2 + (other + quarter) ** 2)
    return coverage(np.float32(0.32) * period - radius)


def _plain(key: Keys, pose: Columns) -> Fields:
    return np.zeros((len(key), SIZE, SIZE), np.float32)


def _gradient(key: Keys, pose: Columns) -> Fields:
    turn = np.deg2rad(2 * pose["angle"])  # the whole circle
    return np.clip(plane(np.cos(turn) / 70, np.sin(turn) / 70, np.full(len(key), 0.5)), 0, 1)


@functools.cache
def _interpolation(step: int) -> Float32[np.ndarray, "64 point"]:
    """Smoothstep weights of lattice points `step` pixels apart, rounded to 64ths, so that every sum
    of 8-bit values is exact."""
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
    lattice = random_bytes(key, f"noise {step}", -(-points * points // 8))[:, : points * points]
    lattice = lattice.reshape(-1, points, points)
    return weights @ (lattice.astype(np.float32) / 256) @ weights.T


def _clouds(key: Keys, pose: Columns) -> Fields:
    octaves = _noise(key, 16) * 0.6 + _noise(key, 8) * 0.28 + _noise(key, 4) * 0.12
    return np.clip(1.6 * octaves - 0.3, 0, 1)


def _blobs(key: Keys, pose: Columns) -> Fields:
    return coverage((_noise(key, 16) * 0.55 + _noise(key, 8) * 0.45 - 0.5) * 24)


def _mottled(key: Keys, pose: Columns) -> Fields:
    return np.clip(2 * _noise(key, 4) - 0.5, 0, 1)


_PATTERNS: dict[str, Pattern] = {
    "plain": _plain,
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "mottled": _mottled,
    "gradient": _gradient,
    "clouds": _clouds,
    "blobs": _blobs,
}


def draw_fields(factor: str, chosen: Column, key: Keys, pose: Columns) -> Fields:
    """Draw the field, from 0 to 1, of each row's texture or background.

    Args:
        factor: "texture" or "background".
        chosen: the number of each row's kind in `KINDS`.
        key: the random key of each row.
        pose: x and y (pixels), angle (degrees) and period (pixels), as far as the kinds need them.

    >>> field = draw_fields("texture", np.array([TEXTURES.index("plain")]), hash_parts(0), {})
    >>> field.shape, field.max().item()
    ((1, 64, 64), 0.0)
    """
    field = np.empty((len(key), SIZE, SIZE), np.float32)
    for number, kind in enumerate(KINDS[factor]):
        rows = np.flatnonzero(chosen == number)
        if len(rows):
            own_pose = {name: values[rows] for name, values in pose.items()}
            field[rows] = _PATTERNS[kind](key[rows], own_pose)
    return field
