"""The images of a folder, listed and checked, with an index of their files.

`check` reads every file of a set once, before anything else does. `FolderImages` remembers what was
read, so that a second run lists and reads only what has changed.
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

from sslens.data.decoding import decode, explain_error, read_rgb
from sslens.data.images import ImageSet
from sslens.data.sources import SUFFIXES
from sslens.errors import InputError
from sslens.store import home, write_beside

OnBad = Literal["stop", "skip"]
Progress = Callable[[int, int], None]

_UNKNOWN = -1  # in place of a time of change
_SPLIT = re.compile(r"(train|val|valid|validation|test|dev|eval)\d*", re.IGNORECASE)
#: the step of the coarsest clock of a file system (FAT's): a younger time stamp can hide a later
#: change
_SETTLED_NS = 2_000_000_000
#: threads that read, decode and hash files
THREADS = min(16, (os.cpu_count() or 1) + 4)
_TASK = 32  # files that one thread takes at a time
_SAVED_EVERY = 2048  # tasks (65,536 files) after which the index is written


def from_folder(path: Path) -> ImageSet:
    """Open the images of a folder and of the folders in it, in the order of (folder, file name).

    An image's id is its path below the folder. Where every image lies in a subfolder, the first
    name of that path is its class; where one lies at the top, the images have no classes. Hidden
    files, and files without an image's suffix, do not count. Links are followed.

    Raises:
        InputError: the folder holds no image, or only folders such as `train` and `val`, of which
            one must be chosen.
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
    names = itertools.chain.from_iterable(names for _, _, names in os.walk(root))
    suffixes = Counter(Path(name).suffix or "no suffix" for name in names)
    counts = ", ".join(f"{count} × {suffix}" for suffix, count in suffixes.most_common(5))
    return f"its files: {counts}" if counts else "it is empty"


def check(images: ImageSet, on_bad: OnBad = "stop", progress: Progress | None = None) -> ImageSet:
    """Read every image of a set once, hash it and decode it to its end, before hours are spent on
    the set.

    The folder's index remembers each file that was read, and a file is not read again while its
    size and time of change stay the same. Images in memory and generated images cannot be broken
    and are not read.

    Args:
        images: the set.
        on_bad: "stop" at the first file that cannot be decoded, or "skip" such files: the set comes
            back without them, and `skipped` holds their ids and the reasons.
        progress: called with (files done, files in all).

    Raises:
        InputError: a file cannot be decoded and `on_bad` is "stop", or no file can be decoded.

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
            f"{source.path(row)} cannot be decoded ({why})",
            mend="repair or remove it, or leave such files out with {on_bad=skip}",
        )
    if len(bad) == len(images):
        raise InputError(
            f"None of the {len(images)} images of {source.root} can be decoded, "
            f"beginning with {source.ids[row]} ({why}): give a folder of readable images."
        )
    good = images.take([at for at, row in enumerate(rows) if row not in bad])
    skipped = [(source.ids[row], why) for row, why in bad.items()]
    return replace(good, skipped=(*images.skipped, *skipped))


@final
class FolderImages:
    """The image files below a folder, with an index of each file's SHA-256, and of the file's size
    and time of change when it was read.

    The index is kept in the store. When the folder is opened again, a directory is listed again
    only if the directory's time of change differs, and a file is read again only if the file's size
    or time of change differs. A file that was rewritten with the same size and time of change is
    therefore not noticed. Time stamps younger than two seconds are not trusted. A damaged index is
    made anew.

    Raises:
        InputError: the folder cannot be listed, or a file's name is not UTF-8.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        name = hashlib.sha256(os.fsencode(root)).hexdigest()
        self._index_path = home() / "indexes" / f"{name}.npz"
        remembered = _read_index(self._index_path)
        listings = dict(sorted(_list_below(root, remembered)))
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
        changed = any(remembered.get(folder) is not one for folder, one in listings.items())
        if changed or len(remembered) != len(listings):
            self._save()

    def path(self, row: int) -> Path:
        """Return the path of the file of a row."""
        return self.root / self.ids[row]

    def image(self, row: int) -> Image.Image:
        """Return the image of a row, in mode RGB."""
        path = self.path(row)
        if self._examined[row] and path.exists() and not self._is_unchanged(row, path.stat()):
            raise InputError(
                f"{path} was changed while the run was under way: run the same command again."
            )
        return decode(path)

    def digests(self, rows: Sequence[int]) -> list[str]:
        """Return the SHA-256 of each file; files that were not examined yet are read now."""
        unread = [row for row in rows if not self._examined[row]]
        for row, why in self.examine(unread, "stop").items():
            raise InputError(f"{self.path(row)} cannot be decoded ({why}): repair or remove it.")
        return [self._hashes[row].tobytes().hex() for row in rows]

    def examine(
        self, rows: Sequence[int], on_bad: OnBad, progress: Progress | None = None
    ) -> dict[int, str]:
        """Hash and decode the files of these rows, except those that the index knows as unchanged.

        Returns:
            The reason for each row that cannot be decoded; only the first such row with "stop".
        """
        bad: dict[int, str] = {}
        tasks = [rows[start : start + _TASK] for start in range(0, len(rows), _TASK)]
        unsaved = False
        # Pillow's decoders and hashlib release the interpreter's lock
        pool = ThreadPoolExecutor(THREADS)
        try:
            results_by_task = zip(tasks, pool.map(self._read_task, tasks), strict=True)
            for done, (task, results) in enumerate(results_by_task, 1):
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

    def _read_task(self, rows: Sequence[int]) -> list["_FileRead | str | None"]:
        return [self._read(row) for row in rows]

    def _read(self, row: int) -> "_FileRead | str | None":
        """Read the file of a row: None if it is unchanged, the reason if it cannot be decoded."""
        path = self.path(row)
        try:
            status = path.stat()
            if self._is_unchanged(row, status):
                return None
            if not stat.S_ISREG(status.st_mode):
                return "it is not a regular file"
            begun_ns = time.time_ns()
            content = path.read_bytes()
            if not content:
                return "it is empty"
            read_rgb(io.BytesIO(content))
        except Exception as error:  # as in `decode`
            return explain_error(error)
        young = begun_ns - status.st_mtime_ns < _SETTLED_NS
        sha256 = hashlib.sha256(content).digest()
        return _FileRead(status.st_size, status.st_mtime_ns, sha256, young)

    def _is_unchanged(self, row: int, status: os.stat_result) -> bool:
        size, changed_ns = self._stats[row]
        return bool(status.st_size == size and status.st_mtime_ns == changed_ns)

    def _remember(self, row: int, read: "_FileRead") -> None:
        self._stats[row] = read.size, read.changed_ns
        self._hashes[row] = np.frombuffer(read.sha256, np.uint8)
        (self._young.add if read.young else self._young.discard)(row)

    def _save(self) -> None:
        stats = self._stats.copy()
        stats[sorted(self._young)] = _UNKNOWN
        with write_beside(self._index_path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                folders=_pack(self._changed),
                changed=np.array(list(self._changed.values()), np.int64),
                counts=np.array([count for _, count in self.folders], np.int64),
                names=_pack(self._names),
                stats=stats,
                hashes=self._hashes,
            )


@dataclass(frozen=True)
class _FileRead:
    """The properties of a file when it was read; `young` if its time of change may hide a later
    change."""

    size: int
    changed_ns: int
    sha256: bytes
    young: bool


@dataclass(frozen=True)
class _Listing:
    """One directory: its time of change (or _UNKNOWN), the names of its images, and for each image
    (size, time of change) and SHA-256."""

    changed_ns: int
    names: list[str]
    stats: Int64[np.ndarray, "file 2"]
    hashes: UInt8[np.ndarray, "file 32"]


def _pack(names: Iterable[str]) -> UInt8[np.ndarray, " byte"]:
    # NUL is the one character that no file name holds
    return np.frombuffer("\0".join(names).encode(), np.uint8)


def _unpack(packed: Shaped[np.ndarray, " byte"]) -> list[str]:
    return packed.tobytes().decode().split("\0")


def _read_index(path: Path) -> dict[str, _Listing]:
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        names = _unpack(arrays["names"]) if arrays["names"].size else []
        stats = arrays["stats"].reshape(len(names), 2)
        hashes = arrays["hashes"].reshape(len(names), 32)
        folders, changed = _unpack(arrays["folders"]), arrays["changed"].tolist()
        ends = np.cumsum(arrays["counts"]).tolist()
        if ends[-1] != len(names):
            return {}
        return {
            folder: _Listing(changed_ns, names[start:end], stats[start:end], hashes[start:end])
            for folder, changed_ns, start, end in zip(
                folders, changed, [0, *ends[:-1]], ends, strict=True
            )
        }
    except Exception:  # the index is only a cache: with any damage the folder is listed anew
        return {}


def _list_below(root: Path, remembered: dict[str, _Listing]) -> Iterator[tuple[str, _Listing]]:
    """List every directory below `root`; a directory that has not changed since it was remembered
    is not listed again."""
    below: dict[str, list[str]] = {}
    for folder in remembered:
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
            listing, inside = remembered.get(folder), below.get(folder, [])
            if listing is None or listing.changed_ns != status.st_mtime_ns:
                settled = time.time_ns() - status.st_mtime_ns >= _SETTLED_NS
                changed_ns = status.st_mtime_ns if settled else _UNKNOWN
                listing, inside = _list_folder(root, folder, changed_ns, listing)
        except OSError as error:
            raise InputError(
                f"{root / folder} cannot be listed ({error.strerror}): make it readable, or"
                " remove it."
            ) from error
        yield folder, listing
        pending += [(one, (*above, here)) for one in inside]


def _list_folder(
    root: Path, folder: str, changed_ns: int, remembered: _Listing | None
) -> tuple[_Listing, list[str]]:
    """List one directory, with what is remembered of its files, and the directories in it."""
    names, inside = [], []
    with os.scandir(root / folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                inside.append(f"{folder}/{entry.name}" if folder else entry.name)
            elif entry.name.rpartition(".")[2].lower() in SUFFIXES:
                names.append(entry.name)  # a dangling link too, which is noticed when it is read
    for name in itertools.chain(names, inside):
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"{root / folder}: the name {os.fsencode(name)!r} is not UTF-8: rename it."
            ) from error
    names.sort()
    stats = np.full((len(names), 2), _UNKNOWN, np.int64)
    hashes = np.zeros((len(names), 32), np.uint8)
    if remembered is not None:
        old_rows = {name: row for row, name in enumerate(remembered.names)}
        new = [row for row, name in enumerate(names) if name in old_rows]
        old = [old_rows[names[row]] for row in new]
        stats[new], hashes[new] = remembered.stats[old], remembered.hashes[old]
    return _Listing(changed_ns, names, stats, hashes), inside
