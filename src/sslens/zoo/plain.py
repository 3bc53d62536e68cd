"""The checkpoint files that most people have, read without torch: a zip or a safetensors file whose
tensors lie in it one by one.

Whatever is not exactly as torch and safetensors write it is left to these two libraries: they
decide what is damaged, refused or of another kind.
"""

import argparse
import io
import json
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np

from sslens.zoo.arrays import Array

#: what torch calls its storages, with the kind of their numbers and how NumPy reads them
STORAGES = {
    "DoubleStorage": ("float64", np.float64),
    "FloatStorage": ("float32", np.float32),
    "HalfStorage": ("float16", np.float16),
    "BFloat16Storage": ("bfloat16", np.uint16),
    "LongStorage": ("int64", np.int64),
    "IntStorage": ("int32", np.int32),
    "ShortStorage": ("int16", np.int16),
    "CharStorage": ("int8", np.int8),
    "ByteStorage": ("uint8", np.uint8),
    "BoolStorage": ("bool", np.bool_),
}
#: the same of safetensors
TYPES = {
    "F64": ("float64", np.float64),
    "F32": ("float32", np.float32),
    "F16": ("float16", np.float16),
    "BF16": ("bfloat16", np.uint16),
    "I64": ("int64", np.int64),
    "I32": ("int32", np.int32),
    "I16": ("int16", np.int16),
    "I8": ("int8", np.int8),
    "U8": ("uint8", np.uint8),
    "BOOL": ("bool", np.bool_),
}
#: bytes of a zip's header of an entry before its name
ZIP_HEADER = 30


class NotPlain(Exception):  # noqa: N818 (it is no error: torch reads the file instead)
    """The file does not have the form that this module reads."""


def read_pickle(path: Path) -> Mapping[Any, Any]:
    """Read the mapping in a zip file of torch's, with an `Array` for each tensor.

    Raises:
        NotPlain: it is no zip, holds no mapping, or anything in it is unusual.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            tree = _ZipReader(path, archive).load()
    except NotPlain:
        raise
    except Exception as error:  # damaged bytes raise a dozen kinds, and torch names them better
        raise NotPlain from error
    if not isinstance(tree, Mapping):
        raise NotPlain
    return tree


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Array]]:
    """Read the metadata and the tensors of a safetensors file.

    Raises:
        NotPlain: the header does not account for every byte, or names a number type that is not
            read here.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= path.stat().st_size - 8:
                raise NotPlain
            header = json.loads(file.read(length))
        metadata = header.pop("__metadata__", {})
        _require_whole(header, path.stat().st_size - 8 - length)
        values = np.memmap(path, np.uint8, "c") if header else np.empty(0, np.uint8)
        return metadata, dict(_list_tensors(header, values[8 + length :]))
    except NotPlain:
        raise
    except Exception as error:
        raise NotPlain from error


def _require_whole(header: Mapping[str, Any], count: int) -> None:
    """Every byte must belong to one tensor, of its size."""
    at = 0
    for entry in sorted(header.values(), key=lambda entry: entry["data_offsets"]):
        begin, end = entry["data_offsets"]
        if entry["dtype"] not in TYPES:
            raise NotPlain
        size = math.prod(entry["shape"]) * np.dtype(TYPES[entry["dtype"]][1]).itemsize
        if begin != at or end - begin != size:
            raise NotPlain
        at = end
    if at != count:
        raise NotPlain


def _list_tensors(header: Mapping[str, Any], values: np.ndarray) -> Iterator[tuple[str, Array]]:
    for name in sorted(header):  # the order in which safetensors gives them
        kind, dtype = TYPES[header[name]["dtype"]]
        begin, end = header[name]["data_offsets"]
        if begin == end:
            raw = np.empty(header[name]["shape"], dtype)
        else:
            raw = np.frombuffer(values[begin:end], dtype).reshape(header[name]["shape"])
        yield name, Array(raw, kind)


class _Storage(NamedTuple):
    """The numbers of one storage, mapped from the file."""

    kind: str
    values: np.ndarray


@final
class _ZipReader(pickle.Unpickler):
    """Reads the pickle of a zip. It knows what tensors and settings are made with, and nothing else
    is ever called; all that a pickle could change is made anew for each file."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        names = archive.namelist()
        pickles = [name for name in names if name.endswith("data.pkl")]
        if len(pickles) != 1 or any(name.endswith("constants.pkl") for name in names):
            raise NotPlain
        self.root = pickles[0].removesuffix("data.pkl")
        order = f"{self.root}byteorder"
        if order in names and archive.read(order) != b"little":
            raise NotPlain
        text = archive.read(pickles[0])
        if not text.startswith(b"\x80\x02"):  # the protocol that torch writes
            raise NotPlain
        super().__init__(io.BytesIO(text))
        self.path, self.archive = path, archive
        self.map = np.memmap(path, np.uint8, "c")
        self.storages: dict[str, _Storage] = {}
        self.known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("argparse", "Namespace"): type("Namespace", (argparse.Namespace,), {}),
            ("torch._utils", "_rebuild_tensor_v2"): lambda *given: _rebuild(*given[:4]),
            ("torch._utils", "_rebuild_parameter"): lambda *given: given[0],
            # numbers of NumPy's stand in DINO's training files
            ("numpy", "dtype"): type("FloatType", (_FloatType,), {}),
            ("numpy.core.multiarray", "scalar"): lambda *given: _read_number(*given),
            ("numpy._core.multiarray", "scalar"): lambda *given: _read_number(*given),
            ("_codecs", "encode"): lambda *given: _encode(*given),
        } | {("torch", name): name for name in STORAGES}

    def find_class(self, module: str, name: str) -> Any:
        """What the pickle may name."""
        if (module, name) not in self.known:
            raise NotPlain
        return self.known[module, name]

    def persistent_load(self, given: Any) -> _Storage:
        """The storage that the pickle names."""
        word, name, key, _, count = given
        if word != "storage" or name not in STORAGES:
            raise NotPlain
        if key not in self.storages:
            kind, dtype = STORAGES[name]
            self.storages[key] = _Storage(kind, self._numbers(key, np.dtype(dtype), count))
        return self.storages[key]

    def _numbers(self, key: str, dtype: "np.dtype[Any]", count: int) -> np.ndarray:
        entry = self.archive.getinfo(f"{self.root}data/{key}")
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != count * dtype.itemsize:
            raise NotPlain
        header = self.map[entry.header_offset : entry.header_offset + ZIP_HEADER].tobytes()
        lengths = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
        begin = entry.header_offset + ZIP_HEADER + sum(lengths)
        if begin + entry.file_size > len(self.map):
            raise NotPlain
        if not count:
            return np.empty(0, dtype)
        return np.frombuffer(self.map[begin : begin + entry.file_size], dtype)


class _FloatType:
    """NumPy's dtype of float64, the one that training files may name."""

    def __init__(self, name: Any, *_: Any) -> None:
        if name != "f8":
            raise NotPlain

    def __setstate__(self, state: Any) -> None:
        if state[1] != "<":
            raise NotPlain


def _read_number(kind: Any, text: Any) -> np.float64:
    if not isinstance(kind, _FloatType) or type(text) is not bytes or len(text) != 8:
        raise NotPlain
    return np.float64(np.frombuffer(text, "<f8")[0])


def _encode(text: Any, encoding: Any) -> bytes:
    if type(text) is not str or encoding != "latin1":
        raise NotPlain
    return text.encode("latin1")


def _rebuild(storage: Any, offset: Any, size: Any, stride: Any) -> Array:
    """A tensor as torch makes it of a storage."""
    if not isinstance(storage, _Storage) or len(size) != len(stride):
        raise NotPlain
    if any(type(number) is not int or number < 0 for number in (offset, *size, *stride)):
        raise NotPlain
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 in size:
        return Array(np.empty(size, storage.values.dtype), storage.kind)
    if last >= len(storage.values):
        raise NotPlain
    itemsize = storage.values.itemsize
    raw = np.lib.stride_tricks.as_strided(
        storage.values[offset:], size, [itemsize * step for step in stride]
    )
    return Array(raw, storage.kind)
