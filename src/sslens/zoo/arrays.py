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
