"""Tensors of a file before their numbers are read: in which storage they lie, and how."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from sslens.zoo.arrays import Array, decode_float8
from sslens.zoo.values import Named, Senseless

#: how NumPy reads the number types that torch has; types that NumPy lacks are read as their bits
DTYPES = {
    "float64": "<f8",
    "float32": "<f4",
    "float16": "<f2",
    "bfloat16": "<u2",
    "float8_e4m3fn": "|u1",
    "float8_e5m2": "|u1",
    "float8_e4m3fnuz": "|u1",
    "float8_e5m2fnuz": "|u1",
    "float8_e8m0fnu": "|u1",
    "int64": "<i8",
    "int32": "<i4",
    "int16": "<i2",
    "int8": "|i1",
    "uint64": "<u8",
    "uint32": "<u4",
    "uint16": "<u2",
    "uint8": "|u1",
    "bool": "|b1",
    "complex128": "<c16",
    "complex64": "<c8",
}
#: the most axes that NumPy arrays have
AXES = 32
#: the most numbers of a tensor, where axes of size 0 count as of size 1
WIDEST = 2**48
#: the largest whole number of an offset, a size or a stride
LARGEST = 2**62


@final
class Storage:
    """The numbers of one storage of a file, which are read when they are first asked for.

    Args:
        kind: the number type, as torch calls it; "bytes" for storages without one.
        nbytes: the bytes of all numbers.
        fetch: reads the bytes.
        begin: the byte of the file at which they begin; None where they cannot be read by
            themselves.
        crc: how many bytes from there have a checksum, and their CRC-32; None where there is none.
    """

    def __init__(
        self,
        kind: str,
        nbytes: int,
        fetch: Callable[[], np.ndarray],
        begin: int | None = None,
        crc: tuple[int, int] | None = None,
    ) -> None:
        self.kind, self.nbytes, self.begin, self.crc = kind, nbytes, begin, crc
        self._fetch = fetch
        self._bytes: np.ndarray | None = None

    def read(self) -> np.ndarray:
        """Return the bytes, [nbytes], which are read once."""
        if self._bytes is None:
            self._bytes = self._fetch()
        return self._bytes


@final
@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor in a storage: the number `offset` is its first, and `stride` numbers lie between
    neighbours along an axis."""

    storage: Storage
    kind: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def size(self) -> int:
        """The count of numbers."""
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        """The bytes of a number."""
        return int(DTYPES[self.kind][2:])

    @property
    def nbytes(self) -> int:
        """The bytes of a copy of the tensor."""
        return self.size * self.itemsize

    def raw(self) -> np.ndarray:
        """Read the numbers; of types that NumPy lacks their bits."""
        dtype = np.dtype(DTYPES[self.kind])
        if 0 in self.shape:
            return np.empty(self.shape, dtype)
        values = self.storage.read()
        numbers = values[: len(values) // dtype.itemsize * dtype.itemsize].view(dtype)
        steps = [dtype.itemsize * step for step in self.stride]
        return np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, steps)

    def load(self) -> Array:
        """Read the numbers as an array; float8 numbers are converted to float32, which holds them
        exactly."""
        raw = self.raw()
        if self.kind.startswith("float8"):
            return Array(decode_float8(raw, self.kind), self.kind)
        return Array(raw, self.kind)


@final
@dataclass(frozen=True)
class OddTensor:
    """A tensor without plain numbers: sparse, quantised, or on torch's meta device.

    Attributes:
        what: what it is, with an article.
    """

    what: str


def view_storage(storage: Any, offset: Any, shape: Any, stride: Any, kind: str) -> StoredTensor:
    """Describe a tensor in a storage.

    Raises:
        Senseless: the tensor reaches out of the storage, or its shape makes no sense.
    """
    if not isinstance(storage, Storage) or type(shape) is not tuple or type(stride) is not tuple:
        raise Senseless("a tensor has no storage or no shape")
    numbers = (offset, *shape, *stride)
    if any(type(number) is not int or not 0 <= number < LARGEST for number in numbers):
        raise Senseless("a tensor has a shape or a place of no whole numbers")
    if len(shape) != len(stride) or len(shape) > AXES:
        raise Senseless("a tensor has a shape of another length than its strides")
    if kind not in DTYPES:
        raise Senseless(f"a tensor has numbers of the type {kind[:40]}, which are not read here")
    if (
        math.prod(max(1, size) for size in shape) > WIDEST
    ):  # NumPy refuses it even where it is empty
        raise Senseless("a tensor has a shape of more numbers than any file")
    # along an axis of one number no step is taken, and torch writes any
    stride = tuple(
        step if size > 1 and 0 not in shape else 1 for size, step in zip(shape, stride, strict=True)
    )
    tensor = StoredTensor(storage, kind, offset, shape, stride)
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if 0 not in shape and (last + 1) * tensor.itemsize > storage.nbytes:
        raise Senseless("a tensor reaches beyond its storage")
    return tensor


def rebuild(
    storage: Any, offset: Any, shape: Any, stride: Any, *_: Any
) -> StoredTensor | OddTensor:
    """Describe a tensor as torch's `_rebuild_tensor_v2` is told to make it."""
    kind = storage.kind if isinstance(storage, Storage) else ""
    if kind.startswith(("q", "complex32")):
        return OddTensor(f"of the type {kind}")
    return view_storage(storage, offset, shape, stride, kind)


def rebuild_typed(
    storage: Any, offset: Any, shape: Any, stride: Any, _grad: Any, _hooks: Any, kind: Any, *_: Any
) -> StoredTensor | OddTensor:
    """Describe a tensor as torch's `_rebuild_tensor_v3` is told to make it: with a number type of
    its own."""
    name = kind.name.removeprefix("torch.") if isinstance(kind, Named) else "without a name"
    if name not in DTYPES:
        return OddTensor(f"of the type {name[:40]}")
    return view_storage(storage, offset, shape, stride, name)
