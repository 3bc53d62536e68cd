"""The images of a folder, listed and checked, with an index of their files.

`check` reads every file of a set once, before anything else does. `FolderImages` remembers what was
read, so that a second run lists and reads only what has changed.
"""

import hashlib
import io
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, final, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from sslens.counts import spell_count
from sslens.data.decoding import Look, decode, explain_error, verify
from sslens.data.images import ImageSet
from sslens.data.layout import describe_layout, find_classes, require_no_splits
from sslens.data.left_out import LeftOut, count_endings, explain_left_out
from sslens.data.listing import (
    NEVER,
    SETTLED_NS,
    Listing,
    list_tree,
    pack_look,
    read_listings,
    unpack_look,
    write_listings,
)
from sslens.data.sources import list_suffixes, one_name
from sslens.errors import InputError
from sslens.store import home

OnBad = Literal["stop", "skip"]
Progress = Callable[[int, int], None]

#: bad images that a message names
NAMED = 5
#: threads that read, decode and hash files
THREADS = min(16, (os.cpu_count() or 1) + 4)
_TASK = 32  # files that one thread takes at a time
_SAVED_EVERY = 2048  # tasks (65,536 files) after which the index is written


def from_folder(path: Path) -> ImageSet:
    """Open the images of a folder and of the folders in it, in the order of (folder, file name).

    An image's id is its path below the folder, in Unicode's form NFC. Where every image lies in a
    subfolder, the first name of that path is its class; where one lies at the top, the images have
    no classes. Hidden files, and files that are no images by their ending (without one: by their
    content), do not count; `left_out` has how many there are. Links are followed. Folders that are
    probably not laid out as they were meant are told of in `doubts`.

    Raises:
        InputError: the folder holds no image, or only folders such as `train` and `val`, of which
            one must be chosen; two images have one name but for the form of Unicode; or links lead
            to one folder in too many ways.
    """
    root = path.resolve()
    source = FolderImages(root)
    if not source.ids:
        raise InputError(
            f"{path} holds no image ({_describe_files(root)}): images end in"
            f" {', '.join(list_suffixes())}."
        )
    require_no_splits(path, source.folders)
    classes, labels = find_classes(source.folders)
    doubts = describe_layout(path, source.folders, source.ids)
    images = ImageSet(root.name, source.ids, labels, classes, source)
    return replace(images, left_out=source.left_out, doubts=doubts)


def _describe_files(root: Path) -> str:
    names = (name for _, _, names in os.walk(root) for name in names)
    counts = count_endings(names)
    return f"its files: {counts}" if counts else "it is empty"


@runtime_checkable
class Examined(Protocol):
    """A source of images of which some may be bad."""

    def examine(
        self, rows: Sequence[int], on_bad: OnBad, progress: Progress | None = None
    ) -> dict[int, str]:
        """Read the images of these rows; returns the reason for each that cannot be read, only the
        first one with "stop"."""
        ...

    def name_row(self, row: int) -> str:
        """Return what a message calls the image of a row."""
        ...


def check(images: ImageSet, on_bad: OnBad = "stop", progress: Progress | None = None) -> ImageSet:
    """Read every image of a set once, hash it and decode it to its end, before hours are spent on
    the set.

    The folder's index remembers each file that was read, and a file is not read again while its
    size and time of change stay the same. Images in memory and generated images cannot be broken
    and are not read.

    Args:
        images: the set.
        on_bad: "stop" if a file cannot be decoded, which is said of all such files once every file
            was read, or "skip" such files: the set comes back without them, and `skipped` holds
            their ids and the reasons.
        progress: called with (files done, files in all).

    Raises:
        InputError: a file cannot be decoded and `on_bad` is "stop", or no file can be decoded.

    >>> from sslens.data.images import from_arrays
    >>> check(from_arrays(np.zeros((4, 2, 2), np.uint8)))
    <ImageSet array: 4 images>
    """
    source = images.source
    if not isinstance(source, Examined):
        return images
    rows = list(range(len(images))) if images.rows is None else images.rows.tolist()
    bad = source.examine(rows, "skip", progress)
    if not bad:
        return images
    if on_bad == "stop":
        them = "it" if len(bad) == 1 else "them"
        advice = f"repair or remove {them}"
        if isinstance(source, FolderImages):
            advice = source.advise(len(bad))
        raise InputError(
            _describe_bad(source, bad, len(rows)),
            mend=f"{advice}, or leave such files out with {{on_bad=skip}}",
        )
    row, why = next(iter(bad.items()))
    names = dict(zip(rows, images.ids, strict=True))
    if len(bad) == len(images):
        where = source.root if isinstance(source, FolderImages) else images.name
        raise InputError(
            f"None of the {spell_count(len(images), 'image')} of {where} can be decoded, "
            f"beginning with {names[row]} ({why}): give a folder of readable images."
        )
    good = images.take([at for at, row in enumerate(rows) if row not in bad])
    skipped = [(names[row], why) for row, why in bad.items()]
    return replace(good, skipped=(*images.skipped, *skipped))


def _describe_bad(source: Examined, bad: Mapping[int, str], count: int) -> str:
    """Say which images cannot be decoded, and why; of many the first and how many more."""
    named = [f"{source.name_row(row)} cannot be decoded ({why})" for row, why in bad.items()]
    if len(named) == 1:
        return named[0]
    more = f"; and {len(named) - NAMED:,} more" if len(named) > NAMED else ""
    return f"{len(named):,} of {spell_count(count, 'image')}: {'; '.join(named[:NAMED])}{more}"


@final
class FolderImages:
    """The image files below a folder, with an index of each file's SHA-256, and of the file's size
    and time of change when it was read.

    The index is kept in the store. When the folder is opened again, a directory is listed again
    only if the directory's time of change differs, and a file is read again only if the file's size
    or time of change differs. A file that was rewritten with the same size and time of change is
    therefore not noticed. Time stamps younger than two seconds are not trusted. A damaged index is
    made anew.

    Args:
        root: the folder.
        listed: paths below the folder, or absolute ones, that are taken without listing any folder;
            all images of the folder unless given.
        key: the name of the file that lists these paths, under which their index is kept.

    Raises:
        InputError: the folder cannot be listed, a file's name is not UTF-8, or two names are one
            but for the form of Unicode.
    """

    def __init__(self, root: Path, listed: Sequence[str] | None = None, key: str = "") -> None:
        self.root, self._list = root, key
        name = hashlib.sha256(os.fsencode(root) + (f"\0{key}".encode() if key else b""))
        self._index_path = home() / "indexes" / f"{name.hexdigest()}.npz"
        remembered = read_listings(self._index_path)
        listings = list_tree(root, remembered) if listed is None else _group(listed, remembered)
        self._listings = listings
        self.folders = [(one_name(folder), len(one.names)) for folder, one in listings.items()]
        paths = [
            f"{folder}/{name}" if folder else name
            for folder, one in listings.items()
            for name in one.names
        ]
        self.ids = tuple(map(one_name, paths))
        self._paths = {row: path for row, path in enumerate(paths) if path != self.ids[row]}
        self._require_names()
        self._stats = np.concatenate([one.stats for one in listings.values()])
        self._hashes = np.concatenate([one.hashes for one in listings.values()])
        self._looks = np.concatenate([one.looks for one in listings.values()])
        self._examined = np.zeros(len(self.ids), bool)
        self._young: set[int] = set()
        changed = any(remembered.get(folder) is not one for folder, one in listings.items())
        if changed or len(remembered) != len(listings):
            self._save()

    def _require_names(self) -> None:
        if not self._paths or len(set(self.ids)) == len(self.ids):
            return
        twice, _ = Counter(self.ids).most_common(1)[0]
        raise InputError(
            f'{self.root} holds "{twice}" twice, spelt in two forms of Unicode (NFC and NFD), which'
            " count as one name: rename or remove one."
        )

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """The files below the folder that are no images."""
        counts: Counter[tuple[str, str]] = Counter()
        for listing in self._listings.values():
            counts.update(listing.others)
        return explain_left_out(counts)

    def path(self, row: int) -> Path:
        """Return the path of the file of a row."""
        return self.root / self._paths.get(row, self.ids[row])

    def name_row(self, row: int) -> str:
        """Return the path of the file of a row as a text."""
        return os.path.join(self.root, self._paths.get(row, self.ids[row]))  # noqa: PTH118

    def advise(self, count: int) -> str:
        """Say what can be done about files that cannot be read, of which there are `count`."""
        them, its = ("it", "its line") if count == 1 else ("them", "their lines")
        if self._list:
            return f"repair {them} or remove {its} from {self._list}"
        return f"repair or remove {them}"

    def image(self, row: int) -> Image.Image:
        """Return the image of a row, in mode RGB."""
        path = self.path(row)
        try:
            status = path.stat()
        except OSError:
            return decode(path)  # which says what is wrong
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path} is not a regular file: remove it.")
        if self._examined[row] and not self._is_unchanged(row, status):
            raise InputError(
                f"{path} was changed while the run was under way: run the same command again."
            )
        return decode(path)

    def digests(self, rows: Sequence[int]) -> list[str]:
        """Return the SHA-256 of each file; files that were not examined yet are read now."""
        self._require_examined(rows)
        return [self._hashes[row].tobytes().hex() for row in rows]

    def looks(self, rows: Sequence[int]) -> list[Look]:
        """Return what was seen of each image; files that were not examined yet are read now."""
        self._require_examined(rows)
        return [unpack_look(self._looks[row]) for row in rows]

    def _require_examined(self, rows: Sequence[int]) -> None:
        unread = [row for row in rows if not self._examined[row]]
        for row, why in self.examine(unread, "stop").items():
            raise InputError(f"{self.path(row)} cannot be decoded ({why}): {self.advise(1)}.")

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
        try:
            status = os.stat(path := self.name_row(row))  # noqa: PTH116 (half the time of Path's)
            if self._is_unchanged(row, status):
                return None
            if not stat.S_ISREG(status.st_mode):
                return "it is not a regular file"
            begun_ns = time.time_ns()
            content = Path(path).read_bytes()
            if not content:
                return "it is empty"
            look = pack_look(verify(io.BytesIO(content)))
        except Exception as error:  # as in `decode`
            return explain_error(error)
        young = begun_ns - status.st_mtime_ns < SETTLED_NS
        sha256 = np.frombuffer(hashlib.sha256(content).digest(), np.uint8)
        return _FileRead(status.st_size, status.st_mtime_ns, sha256, look, young)

    def _is_unchanged(self, row: int, status: os.stat_result) -> bool:
        size, changed_ns = self._stats[row]
        return bool(status.st_size == size and status.st_mtime_ns == changed_ns)

    def _remember(self, row: int, read: "_FileRead") -> None:
        self._stats[row] = read.size, read.changed_ns
        self._hashes[row], self._looks[row] = read.sha256, read.look
        (self._young.add if read.young else self._young.discard)(row)

    def _save(self) -> None:
        stats = self._stats.copy()
        stats[sorted(self._young)] = NEVER
        ends = np.cumsum([len(one.names) for one in self._listings.values()]).tolist()
        written = {
            folder: replace(
                one,
                stats=stats[start:end],
                hashes=self._hashes[start:end],
                looks=self._looks[start:end],
            )
            for (folder, one), start, end in zip(
                self._listings.items(), [0, *ends[:-1]], ends, strict=True
            )
        }
        write_listings(self._index_path, written)


def _group(paths: Sequence[str], remembered: Mapping[str, Listing]) -> dict[str, Listing]:
    """Paths by their folders, in the order of these, with what is remembered of the files."""
    by_folder: dict[str, list[str]] = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        by_folder.setdefault(folder, []).append(name)
    listings = {}
    for folder in sorted(by_folder):
        names, known = sorted(by_folder[folder]), remembered.get(folder)
        same = known is not None and known.names == names
        listings[folder] = known if known is not None and same else Listing.of(names, known)
    return listings


@dataclass(frozen=True)
class _FileRead:
    """The properties of a file when it was read; `young` if its time of change may hide a later
    change."""

    size: int
    changed_ns: int
    sha256: UInt8[np.ndarray, " 32"]
    look: UInt8[np.ndarray, " 32"]
    young: bool
