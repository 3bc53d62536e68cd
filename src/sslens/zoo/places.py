"""The place of each tensor in a checkpoint file, so that some tensors can be read without the
others."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from sslens.zoo.files import open_safetensors

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


class Place(NamedTuple):
    """The place of a tensor in a file.

    Attributes:
        begin: the byte at which it begins; None where the tensor cannot be read by itself.
        dtype: the number type.
        shape: the size along each axis.
        stride: the step along each axis, in numbers.
    """

    begin: int | None
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]

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
    with (
        open_safetensors(path),
        path.open("rb") as file,
    ):  # opened: what the header says has been checked
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    places = {}
    for name, about in header.items():
        if name != "__metadata__" and about["dtype"] in FLOATS:
            stride = torch.empty(about["shape"], device="meta").stride()
            begin = 8 + length + about["data_offsets"][0]
            places[name] = Place(begin, FLOATS[about["dtype"]], tuple(about["shape"]), stride)
    return places


def locate_in_mapping(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Place]:
    """Find the places of tensors that are memory-mapped from the file.

    Only Linux tells where a file is mapped; on other systems `begin` is None.
    """
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        lines = []
    name = os.path.realpath(path)
    mapped = []
    for addresses, _, offset, _, _, *file in (line.split(maxsplit=5) for line in lines):
        if file == [name]:
            begin, end = (int(address, 16) for address in addresses.split("-"))
            mapped.append((begin, end, int(offset, 16)))
    places = {}
    for key, value in tensors.items():
        place = Place(0, value.dtype, tuple(value.shape), value.stride())
        at = value.data_ptr()
        offsets = [
            offset - begin for begin, end, offset in mapped if begin <= at <= end - place.nbytes
        ]
        if place.numbers:
            place = place._replace(begin=at + offsets[0] if offsets else None)
        places[key] = place
    return places
