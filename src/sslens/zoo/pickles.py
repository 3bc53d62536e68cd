"""Files that are pickles: PyTorch's zip files, its files of before 1.6, and bare pickles such as
detectron2 releases. None is ever unpickled by Python: `machine.py` carries out the pickle."""

import contextlib
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, final

import numpy as np

from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.whole_file import Steady, Sums, Unreadable, open_regular
from sslens.zoo.machine import Machine
from sslens.zoo.makers import MAKERS
from sslens.zoo.stored import DTYPES, Storage
from sslens.zoo.values import Named, Senseless

#: what torch calls its storages, with the kind of their numbers
STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32",
    "QUInt4x2Storage": "quint4x2",
    "QUInt2x4Storage": "quint2x4",
    "UntypedStorage": "bytes",
}
#: the first number of PyTorch's files of before 1.6, and the version of their form
MAGIC, LEGACY = 0x1950A86A20F9469CFC6C, 1001
#: bytes of a zip's header of an entry before its name, and of its end
ZIP_HEADER, ZIP_END = 30, 22
#: bytes of the longest list of a zip's entries; one of a thousand tensors takes 0.1 MB
DIRECTORY = 1 << 24
#: what compressed parts of a zip may be in all when they are unpacked, for each byte of the file
UNPACKED = 4


@final
@dataclass(frozen=True, eq=False)
class Pickled:
    """What a file holds, its tensors not read yet.

    Attributes:
        form: "zip", "legacy" or "pickle".
        tree: the value of the pickle; tensors are described by `StoredTensor`, objects that were
            not built are `Foreign`.
        called: the names of the functions and classes that would have made such objects.
    """

    form: str
    tree: Any
    called: tuple[str, ...]


@contextlib.contextmanager
def open_pickle(path: Path) -> Iterator[Pickled]:
    """Read the pickle of a file; tensors can be read until the end of the `with` block.

    Raises:
        InputError: the file is cut off, damaged or no pickle of weights, or was written while it
            was read.
    """
    try:
        with open_regular(path) as file, Sums() as sums:
            steady = Steady(file)
            yield _read(path, file, steady, sums)
            steady.require()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from error
    except (Senseless, Unreadable) as error:
        raise make_damage_error(path, error) from error
    except MemoryError as error:
        raise InputError(
            f"{path} does not fit into this machine's memory"
            f" ({spell_count(path.stat().st_size, 'byte')})."
        ) from error


def _read(path: Path, file: BinaryIO, steady: Steady, sums: Sums) -> Pickled:
    start = file.read(4)
    if start.startswith(b"PK"):
        return _read_zip(path, file, steady, sums)
    text = bytearray(steady.size)
    steady.fill(0, np.frombuffer(text, np.uint8))
    return _read_stream(text)


def make_damage_error(path: Path, error: Exception) -> InputError:
    """Return the error of a file that is cut off or damaged, and the reader's reason."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    with contextlib.suppress(OSError):
        reason = f"{spell_count(path.stat().st_size, 'byte')}; {reason}"
    return InputError(
        f"{path} is cut off or damaged ({reason}): compare its size with the source's and get it"
        " again."
    )


def _find_kind(named: Any) -> str:
    """The kind of a storage's numbers, by the name of its class."""
    name = named.name.rpartition(".")[2] if isinstance(named, Named) else ""
    if name not in STORAGES or not named.name.startswith("torch."):
        raise Senseless("it refers to what is no storage")
    return STORAGES[name]


def _count_bytes(kind: str, count: Any) -> int:
    if type(count) is not int or not 0 <= count < 2**60:
        raise Senseless("a storage has no count of numbers")
    size = 4 if kind in ("qint32", "complex32") else 1
    return count * (int(DTYPES[kind][2:]) if kind in DTYPES else size)


# ------------------------------------------------------------------------------------------------
# a stream of pickles


def _read_name(given: Any) -> str:
    """The name of a storage: a text, or a number in some old files. Whatever else it might be is
    not even printed, for Python prints nested values by recursion."""
    if type(given) not in (str, int):
        raise Senseless("a storage has no name")
    return str(given)


def _read_stream(text: bytearray) -> Pickled:
    """A bare pickle, or PyTorch's file of before 1.6: five pickles, then the storages in turn."""
    storages: dict[str, Storage] = {}
    places: dict[str, tuple[int, int]] = {}

    def refer(given: Any) -> Storage | Named:
        if type(given) is tuple and len(given) == 4 and isinstance(given[1], Named):
            return given[1]  # a class with its source, where a network was saved as an object
        if type(given) is not tuple or len(given) < 5 or given[0] != "storage":
            raise Senseless("it refers to what is no storage")
        key, kind = _read_name(given[2]), _find_kind(given[1])
        if len(given) > 5 and given[5] is not None:
            raise Senseless("its storages are parts of others, as before PyTorch 0.4")
        if key not in storages:
            nbytes = _count_bytes(kind, given[4])

            def fetch() -> np.ndarray:
                begin, end = places[key]
                return np.frombuffer(text, np.uint8)[begin:end]

            storages[key] = Storage(kind, nbytes, fetch)
        return storages[key]

    machine = Machine(text, MAKERS, refer)
    tree = machine.run()
    if type(tree) is not int or tree != MAGIC:
        if storages:
            raise Senseless("it refers to tensors, and has none")
        return Pickled("pickle", tree, tuple(machine.called))
    if machine.run() != LEGACY:
        raise Senseless("it is of another version of PyTorch's old form")
    about = machine.run()
    if type(about) is not dict or about.get("little_endian") is not True:
        raise Senseless("its numbers begin with their highest byte")
    tree, keys, at = machine.run(), machine.run(), machine.at
    for key in keys if type(keys) is list else ():
        if type(key) is not str or key not in storages or at + 8 > len(text):
            raise Senseless("its storages are cut off, or others than its pickle names")
        count, storage = struct.unpack_from("<q", text, at)[0], storages[key]
        places[key] = at + 8, at + 8 + storage.nbytes
        at = places[key][1]
        if at > len(text) or count < 0:
            raise Senseless("its storages are cut off")
    if places.keys() != storages.keys():
        raise Senseless("some of its storages are missing")
    return Pickled("legacy", tree, tuple(machine.called))


# ------------------------------------------------------------------------------------------------
# zip files


def _read_zip(path: Path, file: BinaryIO, steady: Steady, sums: Sums) -> Pickled:
    _require_small_directory(file, steady.size)
    try:
        archive = zipfile.ZipFile(file)
    except Exception as error:  # a damaged list of entries raises a dozen kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Senseless(reason) from error
    _require_checkpoint(path, archive.namelist())
    zipped = _Zipped(archive, steady, sums)
    machine = Machine(zipped.read(f"{zipped.root}data.pkl").tobytes(), MAKERS, zipped.refer)
    return Pickled("zip", machine.run(), tuple(machine.called))


def _require_small_directory(file: BinaryIO, size: int) -> None:
    """Refuse a zip whose list of entries would take longer to read than all weights."""
    tail = min(size, ZIP_END + 20 + 0xFFFF)
    file.seek(size - tail)
    end = file.read(tail)
    at = end.rfind(b"PK\5\6")
    if at < 0 or at + ZIP_END > len(end):
        raise Senseless("File is not a zip file")
    length, begin = struct.unpack_from("<II", end, at + 12)
    if length == 0xFFFFFFFF or begin == 0xFFFFFFFF:  # a file of over 4 GB says it in another place
        place = end.rfind(b"PK\6\7", 0, at)
        record = struct.unpack_from("<Q", end, place + 8)[0] if place >= 0 else size
        file.seek(min(record, size))
        text = file.read(56)
        if len(text) < 56 or not text.startswith(b"PK\6\6"):
            raise Senseless("File is not a zip file")
        length = struct.unpack_from("<Q", text, 40)[0]
    if length > DIRECTORY:
        raise Senseless(f"the list of its entries takes {spell_count(length, 'byte')}")


def _require_checkpoint(path: Path, names: list[str]) -> None:
    if any(name.endswith("constants.pkl") for name in names):
        raise InputError(
            f"{path} is a TorchScript program, not weights: save the network's state_dict()"
            " instead."
        )
    if not any(name.endswith("data.pkl") for name in names):
        held = ", ".join(names[:3]) or "nothing"
        raise InputError(
            f"{path} is a zip file of something else (it holds {held}), not a PyTorch checkpoint."
        )


@final
class _Zipped:
    """The parts of a zip: each is read once, into memory of its own, and held against its CRC."""

    def __init__(self, archive: zipfile.ZipFile, steady: Steady, sums: Sums) -> None:
        self._archive, self._steady, self._sums = archive, steady, sums
        self._storages: dict[str, Storage] = {}
        self._left = {zipfile.ZIP_STORED: steady.size, zipfile.ZIP_DEFLATED: UNPACKED * steady.size}
        names = archive.namelist()
        roots = [name.removesuffix("data.pkl") for name in names if name.endswith("data.pkl")]
        if len(roots) != 1:
            raise Senseless(f"it has {len(roots)} pickles")
        self.root = roots[0]
        order = f"{self.root}byteorder"
        if order in names and self.read(order).tobytes() != b"little":
            raise Senseless("its numbers begin with their highest byte")

    def refer(self, given: Any) -> Storage:
        """Describe the storage that the pickle names."""
        if type(given) is not tuple or len(given) != 5 or given[0] != "storage":
            raise Senseless("it refers to what is no storage")
        key, kind = _read_name(given[2]), _find_kind(given[1])
        if key not in self._storages:
            nbytes, name = _count_bytes(kind, given[4]), f"{self.root}data/{key}"
            entry = self._find(name)
            if entry.file_size < nbytes:
                raise Senseless(f"{name} is smaller than the storage that it holds")
            stored = entry.compress_type == zipfile.ZIP_STORED
            begin = self._locate(entry) if stored else None
            crc = (entry.file_size, entry.CRC) if entry.CRC else None  # see `read`
            self._storages[key] = Storage(kind, nbytes, lambda: self.read(name), begin, crc)
        storage = self._storages[key]
        if storage.kind != kind:
            raise Senseless("a storage has two number types")
        return storage

    def _find(self, name: str) -> zipfile.ZipInfo:
        try:
            return self._archive.getinfo(name)
        except KeyError:
            raise Senseless(f"it has no {name[:80]}, which its pickle refers to") from None

    def _locate(self, entry: zipfile.ZipInfo) -> int:
        """The byte at which an entry's content begins."""
        header = np.empty(ZIP_HEADER, np.uint8)
        self._steady.fill(entry.header_offset, header)
        text = header.tobytes()
        if not text.startswith(b"PK\3\4") or entry.flag_bits & 1:
            raise Senseless(f"{entry.filename[:80]} is not where the list of entries has it")
        return entry.header_offset + ZIP_HEADER + sum(struct.unpack_from("<HH", text, 26))

    def read(self, name: str) -> np.ndarray:
        """Read an entry's bytes."""
        entry = self._find(name)
        left = self._left.get(entry.compress_type, -1) - entry.file_size
        if left < 0:
            raise Senseless(f"{name[:80]} is packed in another way, or beyond the file's size")
        self._left[entry.compress_type] = left
        begin = self._locate(entry)
        if begin + entry.compress_size > self._steady.size:
            raise Senseless(f"{name[:80]} ends beyond the file")
        content = np.empty(entry.compress_size, np.uint8)
        self._steady.fill(begin, content)
        if entry.compress_type == zipfile.ZIP_DEFLATED:
            content = self._unpack(content, entry)
        if len(content) != entry.file_size:
            raise Senseless(f"{name[:80]} has another size than the list of entries says")
        # 0 is what PyTorch writes where it was told to spare the CRC
        if entry.CRC:
            wrong = f"{name[:80]} is not what was written: its CRC differs"
            if name.startswith(f"{self.root}data/"):
                self._sums.require(content, entry.CRC, wrong)
            elif zlib.crc32(content.data) != entry.CRC:  # the pickle: known before it is read
                raise Senseless(wrong)
        return content

    def _unpack(self, content: np.ndarray, entry: zipfile.ZipInfo) -> np.ndarray:
        unpacker = zlib.decompressobj(-15)
        try:
            text = bytearray(unpacker.decompress(content.tobytes(), entry.file_size + 1))
        except zlib.error as error:
            raise Senseless(f"{entry.filename[:80]} cannot be unpacked") from error
        return np.frombuffer(text, np.uint8)
