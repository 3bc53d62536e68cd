"""The place of each tensor in a checkpoint file, so that some tensors can be read without the
others."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from sslens.tensor_file import read_header
from sslens.whole_file import open_regular
from sslens.zoo.plain import explain
from sslens.zoo.stored import StoredTensor

#: what safetensors calls the types that weights have
FLOATS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
}


class Checked(NamedTuple):
    """Bytes of a file of which the checksum is known.

    Attributes:
        begin: the byte at which they begin.
        nbytes: the number of bytes.
        crc: their CRC-32.
    """

    begin: int
    nbytes: int
    crc: int


class Place(NamedTuple):
    """The place of a tensor in a file.

    Attributes:
        begin: the byte at which it begins; None where the tensor cannot be read by itself.
        dtype: the number type.
        shape: the size along each axis.
        stride: the step along each axis, in numbers.
        checked: the bytes with a checksum that the tensor is part of; None where there is none.
    """

    begin: int | None
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    checked: Checked | None = None

    @property
    def numbers(self) -> int:
        """Count of numbers from the tensor's first to its last one, including numbers in between
        that belong to other tensors."""
        if 0 in self.shape:
            return 0
        return 1 + sum(
            (size - 1) * stride for size, stride in zip(self.shape, self.stride, strict=True)
        )

    @property
    def nbytes(self) -> int:
        """Bytes from the tensor's first number to its last one."""
        return self.numbers * self.dtype.itemsize


def locate_in_safetensors(path: Path) -> dict[str, Place]:
    """Find the place of each floating-point tensor; only the file's header is read.

    Raises:
        InputError: the file is truncated, or not of this format.
    """
    with explain(path), open_regular(path) as file:
        header = read_header(file)
    places = {}
    for name, entry in sorted(header.entries.items()):
        if entry.kind in FLOATS:
            stride = torch.empty(entry.shape, device="meta").stride()
            checked = None
            if header.sums is not None:
                checked = Checked(entry.begin, entry.end - entry.begin, header.sums[name])
            places[name] = Place(entry.begin, FLOATS[entry.kind], entry.shape, stride, checked)
    return places


def locate_in_pickle(tensors: Mapping[str, StoredTensor]) -> dict[str, Place]:
    """Find the places of the tensors of a state dict; `begin` is None where the file packs
    them."""
    places = {}
    for key, value in tensors.items():
        dtype = getattr(torch, value.kind)
        place = Place(0, dtype, value.shape, value.stride)
        start = value.storage.begin
        if place.numbers:
            begin = None if start is None else start + value.offset * dtype.itemsize
            crc = value.storage.crc
            checked = None if start is None or crc is None else Checked(start, *crc)
            place = place._replace(begin=begin, checked=checked)
        places[key] = place
    return places
