"""NumPy's archives (.npz): arrays by name in a zip file, read without running anything."""

import io
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sslens.errors import InputError
from sslens.whole_file import Steady, Unreadable, open_regular
from sslens.zoo.arrays import Array
from sslens.zoo.pickles import UNPACKED, _require_small_directory, make_damage_error
from sslens.zoo.values import Senseless

#: where the length of the first entry's name is in a zip file, and where the name begins
_LENGTH, _NAME = 26, 30
SUFFIX = ".npy"
#: number types that are read, with what torch calls them; two bytes without a type are bfloat16
_KINDS = {
    "f2": "float16",
    "f4": "float32",
    "f8": "float64",
    "i1": "int8",
    "i2": "int16",
    "i4": "int32",
    "i8": "int64",
    "u1": "uint8",
    "b1": "bool",
    "V2": "bfloat16",
}


def is_numpy_zip(start: bytes) -> bool:
    """Whether a file begins as a zip whose first entry is an array of NumPy's.

    Args:
        start: the first bytes of the file.

    >>> made = io.BytesIO()
    >>> np.savez(made, cls=np.zeros(2))
    >>> is_numpy_zip(made.getvalue()[:512]), is_numpy_zip(b"PK")
    (True, False)
    """
    if not start.startswith(b"PK\3\4") or len(start) < _NAME:
        return False
    length = int.from_bytes(start[_LENGTH : _LENGTH + 2], "little")
    return start[_NAME : _NAME + length].endswith(SUFFIX.encode())


def read_numpy_zip(path: Path) -> Mapping[str, Array]:
    """Read all arrays of an archive, by their names.

    Raises:
        InputError: the file is cut off or damaged, holds objects of Python's, or was written while
            it was read.
    """
    try:
        with open_regular(path) as file:
            steady = Steady(file)
            content = np.empty(steady.size, np.uint8)
            steady.fill(0, content)
            _require_small_directory(file, steady.size)
            steady.require()
        return _read(path, content)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from error
    except (Senseless, Unreadable) as error:
        raise make_damage_error(path, error) from error


def _read(path: Path, content: np.ndarray) -> Mapping[str, Array]:
    """The arrays of an archive that is in memory."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(content.data))
        entries = archive.infolist()
    except Exception as error:  # a damaged list of entries raises a dozen kinds
        raise make_damage_error(path, error) from error
    if sum(entry.file_size for entry in entries) > UNPACKED * content.size:
        raise Senseless("its arrays are beyond the file's size")
    arrays: dict[str, Array] = {}
    for entry in entries:
        name = entry.filename.removesuffix(SUFFIX)
        if name == entry.filename:
            raise InputError(f"{path} is no archive of arrays: it holds {name[:80]}.")
        try:
            text = archive.read(entry)
        except Exception as error:  # a damaged entry raises as many
            raise make_damage_error(path, error) from error
        arrays[name] = _read_array(path, name, text)
    return arrays


def _read_array(path: Path, name: str, text: bytes) -> Array:
    """One array, whose header is held against the bytes that follow it."""
    stream = io.BytesIO(text)
    try:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, columns_first, dtype = read(stream)
        kind = dtype.str[1:]
        whole = all(type(side) is int and side >= 0 for side in shape) and len(shape) <= 16
    except Exception as error:  # so does a damaged header
        raise make_damage_error(path, error) from error
    if dtype.hasobject:
        raise InputError(
            f"{path} was refused, and nothing in it was run: {name[:80]} holds objects of Python's."
            " Save its arrays of numbers alone."
        )
    if kind not in _KINDS or dtype.str[0] == ">" or not whole:
        raise Senseless(f"{name[:80]} has numbers of the type {dtype.str[:20]}")
    begin = stream.tell()
    if math.prod(shape) * dtype.itemsize != len(text) - begin:
        raise Senseless(f"{name[:80]} has another size than its header says")
    plain = np.dtype(np.uint16) if kind == "V2" else dtype
    values = np.frombuffer(text, plain, offset=begin)
    values = values.reshape(shape[::-1]).T if columns_first else values.reshape(shape)
    return Array(values, _KINDS[kind])
