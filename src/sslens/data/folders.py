"""The images of a folder, listed and checked, with an index of what is known of them.

`check` reads a set once before anything else does; `FolderImages` remembers what was read, so that
a second run lists and reads only what has changed.
"""

import hashlib
import io
import itertools
import os
import re
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, final

import numpy as np
from jaxtyping import Int64, Shaped, UInt8
from PIL import Image

from sslens.data.images import ImageSet, decode, read_rgb, reason
from sslens.errors import InputError
from sslens.store import home, write_beside

SUFFIXES = ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif", "ppm")
OnBad = Literal["stop", "skip"]
Progress = Callable[[int, int], None]

_UNKNOWN = -1  # as a time of change
_SPLIT = re.compile(r"(train|val|valid|validation|test|dev|eval)\d*", re.IGNORECASE)
# the coarsest clock of a file system (FAT's): a younger time stamp can hide a later change
_SETTLED_NS = 2_000_000_000
_THREADS = min(16, (os.cpu_count() or 1) + 4)
_TASK = 32  # files that one thread takes at a time
_SAVED_EVERY = 2048  # tasks (65,536 files) after which what was read is written down


def from_folder(path: Path) -> ImageSet:
    """The images of a folder and of the folders in it, in the order of (folder, file name).

    An image's id is its path below the folder. Where every image lies in a subfolder, the first
    name of that path is its class; where one lies at the top, the images have no classes. Hidden
    files, and files without an image's suffix, do not count. Links are followed.

    Raises:
        InputError: it holds no image, or only folders such as `train` and `val`, of which one must
            be chosen.
    """
    root = path.resolve()
    source = FolderImages(root)
    if not source.ids:
        raise InputError(
            f"{path} holds no image ({_other_files(root)}): images end in {', '.join(SUFFIXES)}."
        )
    tops = [folder.split("/", 1)[0] for folder, _ in source.folders]
    counts = [count for _, count in source.folders]
    classes = sorted({top for top, count in zip(tops, counts, strict=True) if count})
    if all(_SPLIT.fullmatch(name) for name in classes):
        raise InputError(
            f"{path} holds {', '.join(classes)}, which are no classes: choose one, such as"
            f" {path / classes[0]}."
        )
    if "" in classes:
        return ImageSet(root.name, source.ids, None, (), source)
    number = {name: at for at, name in enumerate(classes)}
    labels = np.repeat(np.array([number.get(top, -1) for top in tops], np.int64), counts)
    return ImageSet(root.name, source.ids, labels, tuple(classes), source)


def _other_files(root: Path) -> str:
    suffixes = Counter(
        Path(name).suffix or "no suffix" for _, _, names in os.walk(root) for name in names
    )
    found = ", ".join(f"{count} × {suffix}" for suffix, count in suffixes.most_common(5))
    return f"its files: {found}" if found else "it is empty"


def check(images: ImageSet, on_bad: OnBad = "stop", progress: Progress | None = None) -> ImageSet:
    """Read every image of a set once: hash it and decode it to its end, before hours are spent on
    the others.

    What is read is remembered beside the folder's index: a file whose size and time of change are
    as remembered is not read again. Images in memory and generated ones cannot be broken and are
    not read.

    Args:
        images: the set.
        on_bad: "stop" at the first file that cannot be decoded, or "skip" such files: the set comes
            back without them, with their ids and reasons in `skipped`.
        progress: called with (files done, files in all).

    Raises:
        InputError: a file cannot be decoded and `on_bad` is "stop", or none can.

    >>> from sslens.data.images import from_arrays
    >>> check(from_arrays(np.zeros((4, 2, 2), np.uint8)))
    <ImageSet array: 4 images>
    """
    source = images.source
    if not isinstance(source, FolderImages):
        return images
    rows = list(range(len(images))) if images.rows is None else images.rows.tolist()
    bad = source.examine(rows, on_bad, progress)
    if not bad:
        return images
    row, why = next(iter(bad.items()))
    if on_bad == "stop":
        raise InputError(
            f"{source.path(row)} cannot be decoded ({why}): "
            "repair or remove it, or leave such files out with --on-bad skip."
        )
    if len(bad) == len(images):
        raise InputError(
            f"None of the {len(images)} images of {source.root} can be decoded, "
            f"beginning with {source.ids[row]} ({why}): give a folder of readable images."
        )
    good = images.take([at for at, row in enumerate(rows) if row not in bad])
    return replace(
        good, skipped=(*images.skipped, *((source.ids[row], why) for row, why in bad.items()))
    )


@final
class FolderImages:
    """The image files below a folder, and of each its SHA-256 with its size and time of change when
    it was read.

    This index is kept in the store. When the folder is opened again, a directory is listed again
    only if its own time of change differs; a file is read again only if its size or time of change
    does. A file that is rewritten with both kept is therefore not noticed. Time stamps younger than
    two seconds are not trusted. A damaged index is made anew.

    Raises:
        InputError: the folder cannot be listed, or a file's name is not UTF-8.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._kept_at = home() / "indexes" / f"{hashlib.sha256(os.fsencode(root)).hexdigest()}.npz"
        known = _read_index(self._kept_at)
        listings = dict(sorted(_listings(root, known)))
        self._changed = {folder: listing.changed_ns for folder, listing in listings.items()}
        self.folders = [(folder, len(listing.names)) for folder, listing in listings.items()]
        self._names = [name for listing in listings.values() for name in listing.names]
        self.ids = tuple(
            f"{folder}/{name}" if folder else name
            for folder, listing in listings.items()
            for name in listing.names
        )
        self._stats = np.concatenate([listing.stats for listing in listings.values()])
        self._hashes = np.concatenate([listing.hashes for listing in listings.values()])
        self._examined = np.zeros(len(self.ids), bool)
        self._young: set[int] = set()
        if any(known.get(folder) is not listing for folder, listing in listings.items()) or len(
            known
        ) != len(listings):
            self._save()

    def path(self, row: int) -> Path:
        """The file of a row."""
        return self.root / self.ids[row]

    def image(self, row: int) -> Image.Image:
        """One image, in mode RGB."""
        path = self.path(row)
        if self._examined[row] and path.exists() and not self._same(row, path.stat()):
            raise InputError(
                f"{path} was changed while the run was under way: run the same command again."
            )
        return decode(path)

    def digests(self, rows: Sequence[int]) -> list[str]:
        """SHA-256 of each file, read now where this object has not examined it yet."""
        for row, why in self.examine(
            [row for row in rows if not self._examined[row]], "stop"
        ).items():
            raise InputError(f"{self.path(row)} cannot be decoded ({why}): repair or remove it.")
        return [self._hashes[row].tobytes().hex() for row in rows]

    def examine(
        self, rows: Sequence[int], on_bad: OnBad, progress: Progress | None = None
    ) -> dict[int, str]:
        """Hash and decode what is not known yet; the rows that cannot be decoded ("stop": the
        first), with reasons."""
        bad: dict[int, str] = {}
        tasks = [rows[start : start + _TASK] for start in range(0, len(rows), _TASK)]
        unsaved = False
        pool = ThreadPoolExecutor(
            _THREADS
        )  # Pillow's decoders and hashlib release the interpreter's lock
        try:
            for done, (task, results) in enumerate(
                zip(tasks, pool.map(self._read, tasks), strict=True), 1
            ):
                for row, result in zip(task, results, strict=True):
                    if isinstance(result, str):
                        bad[row] = result
                        if on_bad == "stop":
                            return bad
                    elif result is not None:
                        self._remember(row, result)
                        unsaved = True
                    self._examined[row] = not isinstance(result, str)
                if progress is not None:
                    progress(min(done * _TASK, len(rows)), len(rows))
                if unsaved and done % _SAVED_EVERY == 0:
                    self._save()
                    unsaved = False
        finally:
            pool.shutdown(cancel_futures=True)
            if unsaved:
                self._save()
        return bad

    def _read(self, rows: Sequence[int]) -> list["_Read | str | None"]:
        return [self._read_one(row) for row in rows]

    def _read_one(self, row: int) -> "_Read | str | None":
        path = self.path(row)
        try:
            status = path.stat()
            if self._same(row, status):
                return None
            if not stat.S_ISREG(status.st_mode):
                return "it is not a regular file"
            begun_ns = time.time_ns()
            content = path.read_bytes()
            if not content:
                return "it is empty"
            read_rgb(io.BytesIO(content))
        except Exception as error:  # as in `decode`
            return reason(error)
        young = begun_ns - status.st_mtime_ns < _SETTLED_NS
        return _Read(status.st_size, status.st_mtime_ns, hashlib.sha256(content).digest(), young)

    def _same(self, row: int, status: os.stat_result) -> bool:
        size, changed_ns = self._stats[row]
        return bool(status.st_size == size and status.st_mtime_ns == changed_ns)

    def _remember(self, row: int, read: "_Read") -> None:
        self._stats[row] = read.size, read.changed_ns
        self._hashes[row] = np.frombuffer(read.sha256, np.uint8)
        (self._young.add if read.young else self._young.discard)(row)

    def _save(self) -> None:
        stats = self._stats.copy()
        stats[sorted(self._young)] = _UNKNOWN
        with write_beside(self._kept_at) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                folders=_packed(self._changed),
                changed=np.array(list(self._changed.values()), np.int64),
                counts=np.array([count for _, count in self.folders], np.int64),
                names=_packed(self._names),
                stats=stats,
                hashes=self._hashes,
            )


@dataclass(frozen=True)
class _Read:
    size: int
    changed_ns: int
    sha256: bytes
    young: bool


@dataclass(frozen=True)
class _Listing:
    """One directory: when it changed (or _UNKNOWN), its images, and each one's (size, time of
    change) and SHA-256."""

    changed_ns: int
    names: list[str]
    stats: Int64[np.ndarray, "file 2"]
    hashes: UInt8[np.ndarray, "file 32"]


def _packed(names: Iterable[str]) -> UInt8[np.ndarray, " byte"]:
    return np.frombuffer(
        "\0".join(names).encode(), np.uint8
    )  # NUL is the one sign that no file name holds


def _unpacked(packed: Shaped[np.ndarray, " byte"]) -> list[str]:
    return packed.tobytes().decode().split("\0")


def _read_index(path: Path) -> dict[str, _Listing]:
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            held = {key: file[key] for key in file.files}
        names = _unpacked(held["names"]) if held["names"].size else []
        stats, hashes = held["stats"].reshape(len(names), 2), held["hashes"].reshape(len(names), 32)
        ends = np.cumsum(held["counts"]).tolist()
        folders = zip(
            _unpacked(held["folders"]), held["changed"].tolist(), [0, *ends[:-1]], ends, strict=True
        )
        if ends[-1] != len(names):
            return {}
        return {
            folder: _Listing(changed, names[start:end], stats[start:end], hashes[start:end])
            for folder, changed, start, end in folders
        }
    except Exception:  # whatever is wrong with a cache, the folder itself is the truth
        return {}


def _listings(root: Path, known: dict[str, _Listing]) -> Iterator[tuple[str, _Listing]]:
    """Every directory below `root`, listed again only where its time of change is not the known
    one."""
    below: dict[str, list[str]] = {}
    for folder in known:
        if folder:
            below.setdefault(folder.rpartition("/")[0], []).append(folder)
    pending: list[tuple[str, tuple[tuple[int, int], ...]]] = [("", ())]
    while pending:
        folder, above = pending.pop()
        try:
            status = (root / folder).stat()
            here = (status.st_dev, status.st_ino)
            if here in above:  # a link to a directory that holds it
                continue
            listing, inside = known.get(folder), below.get(folder, [])
            if listing is None or listing.changed_ns != status.st_mtime_ns:
                settled = time.time_ns() - status.st_mtime_ns >= _SETTLED_NS
                listing, inside = _listed(
                    root, folder, status.st_mtime_ns if settled else _UNKNOWN, listing
                )
        except OSError as error:
            raise InputError(
                f"{root / folder} cannot be listed ({error.strerror}): make it readable, or"
                " remove it."
            ) from error
        yield folder, listing
        pending += [(one, (*above, here)) for one in inside]


def _listed(
    root: Path, folder: str, changed_ns: int, known: _Listing | None
) -> tuple[_Listing, list[str]]:
    names, inside = [], []
    with os.scandir(root / folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                inside.append(f"{folder}/{entry.name}" if folder else entry.name)
            elif (
                entry.name.rpartition(".")[2].lower() in SUFFIXES
            ):  # a dangling link too: it is found when it is read
                names.append(entry.name)
    for name in itertools.chain(names, inside):
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"{root / folder}: the name {os.fsencode(name)!r} is not UTF-8: rename it."
            ) from error
    names.sort()
    stats, hashes = (
        np.full((len(names), 2), _UNKNOWN, np.int64),
        np.zeros((len(names), 32), np.uint8),
    )
    if known is not None:
        row = {name: at for at, name in enumerate(known.names)}
        new = [at for at, name in enumerate(names) if name in row]
        old = [row[names[at]] for at in new]
        stats[new], hashes[new] = known.stats[old], known.hashes[old]
    return _Listing(changed_ns, names, stats, hashes), inside
