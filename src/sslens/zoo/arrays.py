"""Tensors of a file as NumPy arrays of its bytes, without torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

#: kinds of floating-point numbers, as torch calls them; NumPy has no bfloat16 and no float8
FLOATS = ("float64", "float32", "float16", "bfloat16")


@final
@dataclass(frozen=True, eq=False)
class Array:
    """A tensor of a file.

    Attributes:
        raw: the numbers, perhaps mapped from the file; bfloat16 numbers are their bits as uint16.
        kind: the number type, as torch calls it: "float32", "bfloat16", "int64".

    >>> one = Array(np.array([1.0, 2.0, 3.0, 4.0], np.float32), "float32").reshape(2, 2)
    >>> one.transpose(1, 0).values.tolist(), (one[:, :1] + one[:, 1:]).values.tolist()
    ([[1.0, 3.0], [2.0, 4.0]], [[3.0], [7.0]])
    """

    raw: np.ndarray
    kind: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The size along each axis."""
        return tuple(self.raw.shape)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.raw.ndim

    @property
    def size(self) -> int:
        """The count of numbers."""
        return int(self.raw.size)

    @property
    def is_floating(self) -> bool:
        """Whether the numbers are floating-point numbers."""
        return self.kind in FLOATS or self.kind.startswith("float8")

    @property
    def values(self) -> np.ndarray:
        """The numbers; bfloat16 numbers are converted to float32, which holds them exactly."""
        if self.kind != "bfloat16":
            return self.raw
        return (self.raw.astype(np.uint32) << 16).view(np.float32).reshape(self.shape)

    def as_float32(self) -> "Array":
        """Return the array in float32 if its numbers are floating-point numbers, else the array
        itself."""
        if not self.is_floating or self.kind == "float32":
            return self
        with np.errstate(over="ignore"):  # what overflows is refused as no finite number
            return Array(np.asarray(self.values, np.float32), "float32")

    def reshape(self, *shape: int) -> "Array":
        """Return the numbers in another shape."""
        return Array(self.raw.reshape(shape), self.kind)

    def transpose(self, *axes: int) -> "Array":
        """Return the array with its axes in another order."""
        return Array(self.raw.transpose(axes), self.kind)

    def __getitem__(self, part: Any) -> "Array":
        return Array(self.raw[part], self.kind)

    def __add__(self, other: "Array") -> "Array":
        """The sum, rounded to the kind of both."""
        total = np.asarray(self.values + other.values)
        if self.kind != "bfloat16":
            return Array(total, self.kind)
        bits = np.ascontiguousarray(total).view(np.uint32)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16  # to the nearest, ties to even
        return Array(rounded.astype(np.uint16), "bfloat16")


#: bits of the mantissa and bias of the exponent of the 8-bit floating-point numbers
_FLOAT8 = {
    "float8_e4m3fn": (3, 7),
    "float8_e4m3fnuz": (3, 8),
    "float8_e5m2": (2, 15),
    "float8_e5m2fnuz": (2, 16),
}


def decode_float8(bits: np.ndarray, kind: str) -> np.ndarray:
    """Convert 8-bit floating-point numbers to float32, which holds them exactly.

    A number with sign s, exponent e of bias b and mantissa m of k bits is (−1)ˢ 2ᵉ⁻ᵇ (1 + m/2ᵏ),
    and (−1)ˢ 2¹⁻ᵇ m/2ᵏ where e = 0 (Micikevicius et al., 2022). "float8_e8m0fnu" is 2ᵉ⁻¹²⁷.

    Args:
        bits: the numbers as uint8.
        kind: the number type, as torch calls it.

    >>> decode_float8(np.array([0x38, 0xC4, 0x01], np.uint8), "float8_e4m3fn").tolist()
    [1.0, -3.0, 0.001953125]
    """
    code = np.arange(256)
    if kind == "float8_e8m0fnu":
        table = np.exp2(code - 127.0)
        table[255] = np.nan
        return table.astype(np.float32)[bits]
    mantissa, bias = _FLOAT8[kind]
    exponent, rest = (code & 0x7F) >> mantissa, (code & (1 << mantissa) - 1) / (1 << mantissa)
    table = np.where(exponent, np.exp2(exponent - bias) * (1 + rest), np.exp2(1.0 - bias) * rest)
    table = np.where(code > 127, -table, table)
    if kind.endswith("fnuz"):
        table[128] = np.nan
    elif kind == "float8_e5m2":
        table[[0x7C, 0xFC]] = np.inf, -np.inf
        table[[*range(0x7D, 0x80), *range(0xFD, 0x100)]] = np.nan
    else:
        table[[0x7F, 0xFF]] = np.nan
    return table.astype(np.float32)[bits]


def join(arrays: Sequence[Array]) -> Array:
    """Concatenate arrays of one kind along the first axis.

    >>> one, two = (Array(np.zeros(count, np.float32), "float32") for count in (1, 2))
    >>> join([one, two]).shape
    (3,)
    """
    kinds = {array.kind for array in arrays}
    if len(kinds) == 1:
        return Array(np.concatenate([array.raw for array in arrays]), arrays[0].kind)
    # as torch promotes them: of the kinds that files have, float64 alone is wider than float32
    wide = "float64" if "float64" in kinds else "float32"
    return Array(np.concatenate([array.values for array in arrays]).astype(wide), wide)
