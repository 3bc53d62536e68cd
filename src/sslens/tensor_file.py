"""Safetensors files: read strictly into memory of our own, and held against the checksums that this
package writes into them.

A safetensors file is the length of its header (8 bytes), the header, which is a JSON object of the
tensors' number types, shapes and places, and the tensors' bytes without gaps. The entry
`sslens.sums` of the metadata holds the CRC-32 of the header without that entry, and the CRC-32 of
each tensor in the order of the file. So a flipped bit is told wherever it is. CRC-32 was measured
to read 6.8 GB/s, where SHA-256 reads 2.0 and BLAKE2b 1.4.
"""

import json
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, final

from sslens.errors import is_whole
from sslens.whole_file import Altered, Steady, Sums, Unreadable, open_regular

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

#: the entry of the metadata that holds the checksums
SUMS = "sslens.sums"
#: bytes of the longest header that is read: 500 for each of the most tensors; the safetensors
#: library reads 100 MB, which takes seconds
LONGEST = 1 << 25
#: how NumPy reads each number type; types that NumPy lacks are read as their bits
TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "F8_E4M3": "|u1",
    "F8_E5M2": "|u1",
    "F8_E8M0": "|u1",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|b1",
    "C64": "<c8",
}
#: the same types, as torch calls them
KINDS = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "C64": "complex64",
}
#: the most tensors of a file; the largest training states have some ten thousand
MOST = 1 << 16
#: the most numbers of a tensor, where axes of size 0 count as of size 1
WIDEST = 2**48
#: the most axes that NumPy arrays have
AXES = 32


@final
@dataclass(frozen=True)
class Entry:
    """A tensor of a file: its number type as safetensors calls it, its shape, and the bytes of the
    file at which it begins and ends."""

    kind: str
    shape: tuple[int, ...]
    begin: int
    end: int


@final
@dataclass(frozen=True)
class Header:
    """The header of a file.

    Attributes:
        metadata: the texts by name, without the checksums.
        entries: the tensors in the order of their bytes.
        sums: the CRC-32 of each tensor; None in a file that was written without checksums.
    """

    metadata: Mapping[str, str]
    entries: Mapping[str, Entry]
    sums: Mapping[str, int] | None


def read_header(file: BinaryIO) -> Header:
    """Read and check the header: every byte of the file must belong to one tensor, of its size.

    Raises:
        Unreadable: the reason, in the words of the safetensors library where it has some.
    """
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8:
        raise Unreadable("Error while deserializing header: header too small")
    if length > LONGEST:
        raise Unreadable("Error while deserializing header: header too large")
    if not 2 <= length <= size - 8:
        raise Unreadable("Error while deserializing header: invalid header length")
    try:
        values = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=_take_pairs)
    except Unreadable:
        raise
    except (ValueError, RecursionError) as error:
        raise Unreadable("Error while deserializing header: invalid JSON in header") from error
    metadata = _check_metadata(values)
    if not is_whole("".join([*values, *metadata, *metadata.values()])):
        raise Unreadable("Error while deserializing header: a name holds half of a character")
    entries = _check_entries(values, 8 + length, size)
    sums = _check_sums(values, metadata, entries)
    return Header({k: v for k, v in metadata.items() if k != SUMS}, entries, sums)


def _take_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, which must say each name once."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise Unreadable("Error while deserializing header: it says a name twice")
    return values


def _check_metadata(values: Any) -> dict[str, str]:
    """The metadata, which must be texts."""
    metadata = values.get("__metadata__", {}) if isinstance(values, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise Unreadable("Error while deserializing header: its metadata are no texts")
    return metadata


def _check_entries(values: Mapping[str, Any], start: int, size: int) -> dict[str, Entry]:
    """The tensors in the order of their bytes, which must cover the rest of the file."""
    if len(values) > MOST:
        raise Unreadable(f"its header has {len(values):,} tensors, more than any network")
    entries = {}
    for name, value in values.items():
        if name == "__metadata__":
            continue
        if not isinstance(value, dict) or not isinstance(value.get("dtype"), str):
            raise Unreadable(f"Error while deserializing header: {name[:80]} has no number type")
        kind = value["dtype"]
        shape: Any = value.get("shape")
        places: Any = value.get("data_offsets")
        if kind not in TYPES:
            raise Unreadable(f"{name[:80]} has numbers of the type {kind[:20]}, not read here")
        if not _are_counts(shape) or not _are_counts(places) or len(places) != 2:
            raise Unreadable(f"Error while deserializing header: {name[:80]} has no shape or place")
        if math.prod(max(1, size) for size in shape) > WIDEST:
            raise Unreadable(
                f"Error while deserializing header: the shape of {name[:80]} is too large"
            )
        if len(shape) > AXES or math.prod(shape) * int(TYPES[kind][2:]) != places[1] - places[0]:
            raise Unreadable(
                f"Error while deserializing header: the shape of {name[:80]} does not fit"
            )
        entries[name] = Entry(kind, tuple(shape), start + places[0], start + places[1])
    ordered = sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end))
    at = start
    for name, entry in ordered:
        if entry.begin != at:
            raise Unreadable(
                f"Error while deserializing header: invalid offset for tensor {name[:80]}"
            )
        at = entry.end
    if at != size:
        raise Unreadable(
            "Error while deserializing header: incomplete metadata, file not fully covered"
        )
    return dict(ordered)


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(n) is int and 0 <= n < 2**62 for n in values)


def _check_sums(
    values: Mapping[str, Any], metadata: Mapping[str, str], entries: Mapping[str, Entry]
) -> Mapping[str, int] | None:
    """The checksums of the tensors, after the header was held against its own."""
    if SUMS not in metadata:
        return None
    try:
        sums = [int(text, 16) for text in json.loads(metadata[SUMS])]
    except (ValueError, TypeError, RecursionError):
        sums = []
    if len(sums) != 1 + len(entries) or sums[0] != _sum_header(values):
        raise Altered("its header is not the one that was written")
    return dict(zip(entries, sums[1:], strict=True))


def _sum_header(values: Mapping[str, Any]) -> int:
    """The CRC-32 of a header without its checksums, in one spelling."""
    plain = {name: entry for name, entry in values.items() if name != "__metadata__"}
    metadata = values.get("__metadata__", {})
    plain["__metadata__"] = {name: text for name, text in metadata.items() if name != SUMS}
    return zlib.crc32(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode())


def has_checksums(path: Path) -> bool:
    """Whether a whole safetensors file was written with checksums."""
    with open_regular(path) as file:
        return read_header(file).sums is not None


def read(path: Path, names: Iterable[str] | None = None) -> "tuple[Header, dict[str, np.ndarray]]":
    """Read the header and the tensors of a file, or some of the tensors, by name in sorted order;
    numbers of types that NumPy lacks are their bits.

    Args:
        path: the file.
        names: the tensors that are read and held against their checksums; all unless given.

    Raises:
        OSError: the file cannot be read.
        Unreadable: it is cut off, damaged (`Altered`) or of another format, or was changed while it
            was read.
        InputError: it is a pipe or a device.
    """
    import numpy as np

    with open_regular(path) as file, Sums() as sums:
        steady = Steady(file)
        header = read_header(file)
        wanted = header.entries.keys() if names is None else set(names)
        tensors = {}
        for name, entry in header.entries.items():
            if name not in wanted:
                continue
            values = np.empty(entry.shape, TYPES[entry.kind])
            steady.fill(entry.begin, values)
            if header.sums is not None:
                wrong = f"the values of {name} are not those that were written"
                sums.require(values, header.sums[name], wrong)
            tensors[name] = values
        steady.require()
    return header, {name: tensors[name] for name in sorted(tensors)}


def read_torch(path: Path) -> "tuple[Mapping[str, str], dict[str, Tensor]]":
    """Read the metadata and the tensors of a file as torch's, in memory of their own.

    Raises:
        OSError, Unreadable, InputError: as for `read`.
    """
    header, values = read(path)
    tensors = {name: as_torch(v, KINDS[header.entries[name].kind]) for name, v in values.items()}
    return header.metadata, tensors


def as_torch(values: "np.ndarray", kind: str) -> "Tensor":
    """Return an array as a torch tensor that shares its memory; numbers of types that NumPy lacks
    are given as their bits.

    >>> import numpy as np
    >>> as_torch(np.array([0x3F80], np.uint16), "bfloat16").tolist()
    [1.0]
    """
    import torch

    dtype = getattr(torch, kind)
    tensor = torch.from_numpy(values)
    return tensor if tensor.dtype == dtype else tensor.view(dtype)


def as_entry(tensor: "Tensor") -> "tuple[str, np.ndarray]":
    """Return the number type of a torch tensor as safetensors calls it, and its values.

    >>> import torch
    >>> as_entry(torch.ones(2, dtype=torch.bfloat16))
    ('BF16', array([16256, 16256], dtype=uint16))
    """
    import torch

    kind = str(tensor.dtype).removeprefix("torch.")
    name = next(name for name, theirs in KINDS.items() if theirs == kind)
    tensor = tensor.detach().contiguous()
    if kind == "bfloat16":
        return name, tensor.view(torch.uint16).numpy()
    if kind.startswith("float8"):
        return name, tensor.view(torch.uint8).numpy()
    return name, tensor.numpy()


def sum_bytes(values: "np.ndarray") -> int:
    """Return the CRC-32 of an array's bytes.

    >>> import numpy as np
    >>> sum_bytes(np.frombuffer(b"123", np.uint8))
    2286445522
    """
    import numpy as np

    return zlib.crc32(np.ascontiguousarray(values).reshape(-1).view("u1").data)


def encode(
    tensors: "Mapping[str, tuple[str, np.ndarray]]", metadata: Mapping[str, str]
) -> Iterator[bytes | memoryview]:
    """Yield the bytes of a file with checksums, part by part; the same content gives the same
    bytes.

    Args:
        tensors: the number type as safetensors calls it and the values, by name.
        metadata: texts by name.
    """
    import numpy as np

    # as the library orders them: the widest numbers first, so that all are aligned
    order = sorted(tensors, key=lambda name: (-int(TYPES[tensors[name][0]][2:]), name))
    values: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    arrays: list[np.ndarray] = []
    at = 0
    for name in order:
        kind, array = tensors[name]
        arrays.append(np.ascontiguousarray(array).reshape(-1).view("u1"))
        end = at + arrays[-1].nbytes
        values[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [at, end]}
        at = end
    sums: Sequence[int] = [_sum_header(values), *map(sum_bytes, arrays)]
    values["__metadata__"][SUMS] = json.dumps([f"{value:08x}" for value in sums])
    text = json.dumps(values, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for array in arrays:
        yield array.data
