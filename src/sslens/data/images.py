"""Sets of images in a fixed order, each with an id and perhaps a label: from a folder, an array, an `.npz` or CIFAR-10.

`decode` is the one place where a file becomes pixels, `ImageSet` the one thing that the rest of the package sees, and
`FolderImages` remembers what it has read of a folder, so that a second run lists and reads only what has changed.
"""

import functools
import hashlib
import heapq
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
from typing import Literal, Protocol, final, runtime_checkable

import numpy as np
from jaxtyping import Int64, Shaped, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from sslens.errors import InputError, nearest
from sslens.store import digest, home, write_beside

SUFFIXES = ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif", "ppm")
OnBad = Literal["stop", "skip"]
Progress = Callable[[int, int], None]

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")  # some of Pillow's other readers run programs
_UNKNOWN = -1  # as a time of change
_SPLIT = re.compile(r"(train|val|valid|validation|test|dev|eval)\d*", re.IGNORECASE)
_SETTLED_NS = 2_000_000_000  # the coarsest clock of a file system (FAT's): a younger time stamp can hide a later change
_THREADS = min(16, (os.cpu_count() or 1) + 4)
_TASK = 32  # files that one thread takes at a time
_SAVED_EVERY = 2048  # tasks (65,536 files) after which what was read is written down


@runtime_checkable
class Source(Protocol):
    """Where pixels come from: rows in, images or digests of their content out. It must survive a fork and a pickle."""

    def image(self, row: int) -> Image.Image:
        """One image, in mode RGB."""
        ...

    def digests(self, rows: Sequence[int]) -> list[str]:
        """The digest of each row's content (64 hex): equal for equal content, on any machine."""
        ...


@final
@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Images in a fixed order, each with an id, perhaps a class, and a digest of the whole.

    Args:
        name: what tables and figures call the set.
        ids: of each image, no two alike: its path below the folder, or a generated id. Results are paired by id.
        labels: index into `classes` of each image, or None where the images have no classes.
        classes: names of the classes.
        source: where the pixels come from.
        rows: row of each image in `source`; its first rows when None.
        skipped: (id, reason) of each image that was left out because it could not be decoded.

    Raises:
        InputError: two ids are the same, or a label is not the number of a class.

    >>> images = from_arrays(np.zeros((3, 2, 2), np.uint8), [0, 1, 1], classes=["cat", "dog"], ids=["a", "b", "c"])
    >>> images
    <ImageSet array: 3 images, 2 classes>
    >>> images.take([2, 0]).ids
    ('c', 'a')
    >>> images.sample(2, seed=0).ids  # printf 0/a | sha256sum: d321…, 0/b: 7d9a…, 0/c: 2881…
    ('c', 'b')
    >>> images.image(0).mode
    'RGB'
    """

    name: str
    ids: tuple[str, ...]
    labels: Int64[np.ndarray, "image"] | None
    classes: tuple[str, ...]
    source: Source
    rows: Int64[np.ndarray, "image"] | None = None
    skipped: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.ids)) != len(self.ids):
            twice, count = Counter(self.ids).most_common(1)[0]
            raise InputError(f'{self.name}: {count} images have the id "{twice}": give every image an id of its own.')
        if self.rows is not None and len(self.rows) != len(self.ids):
            raise ValueError(f"{len(self.ids)} ids for {len(self.rows)} rows")
        if self.labels is None:
            return
        if len(self.labels) != len(self.ids):
            raise ValueError(f"{len(self.ids)} ids for {len(self.labels)} labels")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise InputError(
                f"{self.name}: labels reach from {self.labels.min()} to {self.labels.max()}, "
                f"but {len(self.classes)} classes are numbered from 0: give a name for every class."
            )
        kept = self.labels.copy()
        kept.flags.writeable = False
        object.__setattr__(self, "labels", kept)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        classes = f", {len(self.classes)} classes" if self.labels is not None else ""
        skipped = f", {len(self.skipped)} skipped" if self.skipped else ""
        return f"<ImageSet {self.name}: {len(self)} images{classes}{skipped}>"

    def image(self, row: int) -> Image.Image:
        """The image at a position of this set, in mode RGB.

        Raises:
            InputError: its file cannot be decoded, or has changed since `check` read it.
        """
        return self.source.image(row if self.rows is None else int(self.rows[row]))

    def take(self, rows: Sequence[int] | Int64[np.ndarray, "taken"]) -> "ImageSet":
        """The images at these positions, in this order."""
        at = np.asarray(rows, np.int64)
        return replace(
            self,
            ids=tuple(self.ids[row] for row in at.tolist()),
            labels=None if self.labels is None else self.labels[at],
            rows=at if self.rows is None else self.rows[at],
        )

    def sample(self, count: int | None, seed: int) -> "ImageSet":
        """`count` images without replacement: those with the smallest SHA-256 of "seed/id", in that order.

        The choice depends on the seed and the ids alone: not on the order of files, the machine or a generator's
        version; a sample of n is the beginning of a sample of n + 1. `None`, or more than there are, takes all, in that
        order.
        """
        keys = ((hashlib.sha256(f"{seed}/{name}".encode()).digest(), row) for row, name in enumerate(self.ids))
        chosen = sorted(keys) if count is None or count >= len(self) else heapq.nsmallest(count, keys)
        return self.take([row for _, row in chosen])

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over (id, class name, digest of the content) of each image, in order.

        Two sets with one digest hold the same images under the same ids, classes and order; names of sets do not count.
        """
        rows = range(len(self)) if self.rows is None else self.rows.tolist()
        named = [None] * len(self) if self.labels is None else [self.classes[label] for label in self.labels.tolist()]
        return digest(list(zip(self.ids, named, self.source.digests(rows), strict=True)))


def decode(file: Path | io.BytesIO | io.BufferedReader) -> Image.Image:
    """An image file as 8-bit RGB, upright.

    - Orientation: EXIF's, applied. Animations: the first frame. Colour profiles are ignored, as they are in training
      pipelines.
    - Alpha (LA, PA, RGBA, a transparent palette entry or colour) is composited on white, where such pictures are made
      to be seen; dropping it would show whatever colour the editor left under it.
    - 16-bit greyscale: round(v / 257), so that 0xFFFF is 255; Pillow's own conversion clips at 255. Of 16-bit colour
      Pillow reads the high byte.
    - Floating point: round(255 v), all of [0, 1] or refused; 32-bit integers are refused, because their range is not
      known.
    - CMYK and YCCK: Pillow's conversion, Adobe's inverted JPEGs included.

    Raises:
        InputError: the file cannot be decoded to its end, or has more than Pillow's `MAX_IMAGE_PIXELS` pixels.

    >>> file = io.BytesIO()
    >>> Image.fromarray(np.full((2, 2), 0x8080, np.uint16)).save(file, "png")
    >>> decode(file).getpixel((0, 0))  # 32896 / 257
    (128, 128, 128)
    """
    try:
        return _pixels(file)
    except Exception as error:  # Pillow's readers raise what they meet: struct.error, SyntaxError, KeyError, …
        name = file if isinstance(file, Path) else getattr(file, "name", "the image")
        raise InputError(f"{name} cannot be decoded ({_reason(error)}): repair it or leave it out.") from error


def _pixels(file: Path | io.BytesIO | io.BufferedReader) -> Image.Image:
    with Image.open(file, formats=_FORMATS) as opened:
        if opened.width * opened.height > (Image.MAX_IMAGE_PIXELS or float("inf")):
            raise Image.DecompressionBombError(f"{opened.width} × {opened.height} pixels")
        if opened.mode == "I" and opened.format != "PPM":  # only a PGM's maxval says what white is
            raise ValueError("32-bit integers, whose range is not known: save it with 8 or 16 bits")
        image = ImageOps.exif_transpose(opened)
    if image.mode == "F" or image.mode.startswith("I"):
        image = _eight_bit(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if image.mode == "F":
        if not bool(((values >= 0) & (values <= 1)).all()):
            raise ValueError("floating-point pixels outside [0, 1]: scale them, or save it with 8 or 16 bits")
        return Image.fromarray(np.rint(values * 255).astype(np.uint8))
    grey = Image.fromarray(((values.astype(np.int64) + 128) // 257).astype(np.uint8))
    if "transparency" not in image.info:
        return grey
    return Image.merge(
        "LA", (grey, Image.fromarray(np.where(values == image.info["transparency"], 0, 255).astype(np.uint8)))
    )


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is not an image of a known format"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"{error}; more than {Image.MAX_IMAGE_PIXELS:,} pixels are not decoded, scale it down"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def check(images: ImageSet, on_bad: OnBad = "stop", progress: Progress | None = None) -> ImageSet:
    """Read every image of a set once: hash it and decode it to its end, before hours are spent on the others.

    What is read is remembered beside the folder's index: a file whose size and time of change are as remembered is not
    read again. Images in memory and generated ones cannot be broken and are not read.

    Args:
        images: the set.
        on_bad: "stop" at the first file that cannot be decoded, or "skip" such files: the set comes back without them,
            with their ids and reasons in `skipped`.
        progress: called with (files done, files in all).

    Raises:
        InputError: a file cannot be decoded and `on_bad` is "stop", or none can.

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
    row, reason = next(iter(bad.items()))
    if on_bad == "stop":
        raise InputError(
            f"{source.path(row)} cannot be decoded ({reason}): "
            "repair or remove it, or leave such files out with --on-bad skip."
        )
    if len(bad) == len(images):
        raise InputError(
            f"None of the {len(images)} images of {source.root} can be decoded, "
            f"beginning with {source.ids[row]} ({reason}): give a folder of readable images."
        )
    good = images.take([at for at, row in enumerate(rows) if row not in bad])
    return replace(good, skipped=(*images.skipped, *((source.ids[row], reason) for row, reason in bad.items())))


def from_arrays(
    images: np.ndarray,
    labels: np.ndarray | Sequence[int] | None = None,
    classes: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
    name: str = "array",
) -> ImageSet:
    """A set of images in memory, which is not copied and must not be changed afterwards.

    Args:
        images: uint8, `[image, height, width, 3]` or, greyscale, `[image, height, width]`.
        labels: class of each image, from 0.
        classes: names of the classes; their numbers when None.
        ids: of each image; 000000, 000001, … when None.
        name: of the set.

    Raises:
        InputError: a wrong type or shape, labels that do not fit, two equal ids, no images.

    >>> from_arrays(np.zeros((2, 4, 4, 3), np.uint8), labels=[0, 1]).classes
    ('0', '1')
    """
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3):
        raise InputError(
            f"{name}: images must be uint8 of shape [image, height, width, 3] or [image, height, width], "
            f"not {images.dtype} of shape {images.shape}."
        )
    if not images.size:
        raise InputError(f"{name} holds no image: its images have shape {images.shape}.")
    given = None if labels is None else np.asarray(labels)
    if given is not None and (given.dtype.kind not in "iu" or given.shape != images.shape[:1]):
        raise InputError(
            f"{name}: labels must be {len(images)} whole numbers, one an image, "
            f"not {given.dtype} of shape {given.shape}."
        )
    if ids is not None and len(ids) != len(images):
        raise InputError(f"{name}: {len(images)} images, but {len(ids)} ids: one an image.")
    if classes is None:
        classes = [] if given is None else [str(label) for label in range(int(given.max()) + 1)]
    return ImageSet(
        name,
        tuple(f"{row:06d}" for row in range(len(images))) if ids is None else tuple(str(one) for one in ids),
        None if given is None else given.astype(np.int64),
        tuple(str(one) for one in classes),
        ArrayImages(images),
    )


def from_npz(path: Path) -> ImageSet:
    """A set from an `.npz` file (never unpickled): `images` as in `from_arrays`, perhaps `labels`, `classes` and `ids`.

    Raises:
        InputError: the file cannot be read, holds no `images`, or what it holds does not fit.
    """
    wanted = ("images", "labels", "classes", "ids")
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            found = list(file.files)
            held = {key: file[key] for key in wanted if key in found}
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen kinds for a damaged file
        raise InputError(
            f"{path} cannot be read as .npz ({_reason(error)}): save it again with numpy.savez."
        ) from error
    if "images" not in held:
        raise InputError(
            f'{path} holds no array "images", only {", ".join(found) or "nothing"}: save it under that name.'
        )
    for key in ("classes", "ids"):
        if key in held and (held[key].dtype.kind != "U" or held[key].ndim != 1):
            raise InputError(f"{path}: {key} must be a list of text, not {held[key].dtype} of shape {held[key].shape}.")
    classes, ids = (held[key].tolist() if key in held else None for key in ("classes", "ids"))
    return replace(from_arrays(held["images"], held.get("labels"), classes, ids, str(path)), name=path.stem)


def cifar10(split: str = "val") -> ImageSet:
    """CIFAR-10 through torchvision: `train` (50,000 images) or `val` (its 10,000 test images), 32 × 32, 10 classes.

    It lies in `datasets` under the store's folder and is downloaded there once. torchvision unpickles it, but only
    after the file's MD5 was found to be the published one.

    Raises:
        InputError: no such split, or the download fails.
    """
    from torchvision.datasets import CIFAR10

    if split not in ("train", "val"):
        raise InputError(f'CIFAR-10 has no split "{split}": {nearest(split, ["train", "val"])}.')
    root = home() / "datasets"
    try:
        root.mkdir(parents=True, exist_ok=True)
        data = CIFAR10(root, train=split == "train", download=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"CIFAR-10 could not be downloaded ({error}): put {CIFAR10.filename} from {CIFAR10.url} into {root}, "
            "or give a folder of images with --images."
        ) from error
    ids = [f"{split}/{row:05d}" for row in range(len(data.data))]
    return from_arrays(data.data, data.targets, data.classes, ids, f"cifar10:{split}")


@final
class ArrayImages:
    """Pixels in memory."""

    def __init__(self, pixels: UInt8[np.ndarray, "image height width *rgb"]) -> None:
        self._pixels = pixels

    def image(self, row: int) -> Image.Image:
        """One image, in mode RGB."""
        return Image.fromarray(np.ascontiguousarray(self._pixels[row])).convert("RGB")

    def digests(self, rows: Sequence[int]) -> list[str]:
        """SHA-256 of each image's shape and bytes."""
        shape = f"{self._pixels.shape[1:]}".encode()
        return [hashlib.sha256(shape + self._pixels[row].tobytes()).hexdigest() for row in rows]


def from_folder(path: Path) -> ImageSet:
    """The images of a folder and of the folders in it, in the order of (folder, file name).

    An image's id is its path below the folder. Where every image lies in a subfolder, the first name of that path is
    its class; where one lies at the top, the images have no classes. Hidden files, and files without an image's suffix,
    do not count. Links are followed.

    Raises:
        InputError: it holds no image, or only folders such as `train` and `val`, of which one must be chosen.
    """
    root = path.resolve()
    source = FolderImages(root)
    if not source.ids:
        raise InputError(f"{path} holds no image ({_other_files(root)}): images end in {', '.join(SUFFIXES)}.")
    tops = [folder.split("/", 1)[0] for folder, _ in source.folders]
    counts = [count for _, count in source.folders]
    classes = sorted({top for top, count in zip(tops, counts, strict=True) if count})
    if all(_SPLIT.fullmatch(name) for name in classes):
        raise InputError(
            f"{path} holds {', '.join(classes)}, which are no classes: choose one, such as {path / classes[0]}."
        )
    if "" in classes:
        return ImageSet(root.name, source.ids, None, (), source)
    number = {name: at for at, name in enumerate(classes)}
    labels = np.repeat(np.array([number.get(top, -1) for top in tops], np.int64), counts)
    return ImageSet(root.name, source.ids, labels, tuple(classes), source)


def _other_files(root: Path) -> str:
    suffixes = Counter(Path(name).suffix or "no suffix" for _, _, names in os.walk(root) for name in names)
    found = ", ".join(f"{count} × {suffix}" for suffix, count in suffixes.most_common(5))
    return f"its files: {found}" if found else "it is empty"


@final
class FolderImages:
    """The image files below a folder, and of each its SHA-256 with its size and time of change when it was read.

    This index is kept in the store. When the folder is opened again, a directory is listed again only if its own time
    of change differs; a file is read again only if its size or time of change does. A file that is rewritten with both
    kept is therefore not noticed. Time stamps younger than two seconds are not trusted. A damaged index is made anew.

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
            f"{folder}/{name}" if folder else name for folder, listing in listings.items() for name in listing.names
        )
        self._stats = np.concatenate([listing.stats for listing in listings.values()])
        self._hashes = np.concatenate([listing.hashes for listing in listings.values()])
        self._examined = np.zeros(len(self.ids), bool)
        self._young: set[int] = set()
        if any(known.get(folder) is not listing for folder, listing in listings.items()) or len(known) != len(listings):
            self._save()

    def path(self, row: int) -> Path:
        """The file of a row."""
        return self.root / self.ids[row]

    def image(self, row: int) -> Image.Image:
        """One image, in mode RGB."""
        path = self.path(row)
        if self._examined[row] and path.exists() and not self._same(row, path.stat()):
            raise InputError(f"{path} was changed while the run was under way: run the same command again.")
        return decode(path)

    def digests(self, rows: Sequence[int]) -> list[str]:
        """SHA-256 of each file, read now where this object has not examined it yet."""
        for row, reason in self.examine([row for row in rows if not self._examined[row]], "stop").items():
            raise InputError(f"{self.path(row)} cannot be decoded ({reason}): repair or remove it.")
        return [self._hashes[row].tobytes().hex() for row in rows]

    def examine(self, rows: Sequence[int], on_bad: OnBad, progress: Progress | None = None) -> dict[int, str]:
        """Hash and decode what is not known yet; the rows that cannot be decoded ("stop": the first), with reasons."""
        bad: dict[int, str] = {}
        tasks = [rows[start : start + _TASK] for start in range(0, len(rows), _TASK)]
        unsaved = False
        pool = ThreadPoolExecutor(_THREADS)  # Pillow's decoders and hashlib release the interpreter's lock
        try:
            for done, (task, results) in enumerate(zip(tasks, pool.map(self._read, tasks), strict=True), 1):
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
            _pixels(io.BytesIO(content))
        except Exception as error:  # as in `decode`
            return _reason(error)
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
    """One directory: when it changed (or _UNKNOWN), its images, and each one's (size, time of change) and SHA-256."""

    changed_ns: int
    names: list[str]
    stats: Int64[np.ndarray, "file 2"]
    hashes: UInt8[np.ndarray, "file 32"]


def _packed(names: Iterable[str]) -> UInt8[np.ndarray, "byte"]:
    return np.frombuffer("\0".join(names).encode(), np.uint8)  # NUL is the one sign that no file name holds


def _unpacked(packed: Shaped[np.ndarray, "byte"]) -> list[str]:
    return packed.tobytes().decode().split("\0")


def _read_index(path: Path) -> dict[str, _Listing]:
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            held = {key: file[key] for key in file.files}
        names = _unpacked(held["names"]) if held["names"].size else []
        stats, hashes = held["stats"].reshape(len(names), 2), held["hashes"].reshape(len(names), 32)
        ends = np.cumsum(held["counts"]).tolist()
        folders = zip(_unpacked(held["folders"]), held["changed"].tolist(), [0, *ends[:-1]], ends, strict=True)
        if ends[-1] != len(names):
            return {}
        return {
            folder: _Listing(changed, names[start:end], stats[start:end], hashes[start:end])
            for folder, changed, start, end in folders
        }
    except Exception:  # whatever is wrong with a cache, the folder itself is the truth
        return {}


def _listings(root: Path, known: dict[str, _Listing]) -> Iterator[tuple[str, _Listing]]:
    """Every directory below `root`, listed again only where its time of change is not the known one."""
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
                listing, inside = _listed(root, folder, status.st_mtime_ns if settled else _UNKNOWN, listing)
        except OSError as error:
            raise InputError(
                f"{root / folder} cannot be listed ({error.strerror}): make it readable, or remove it."
            ) from error
        yield folder, listing
        pending += [(one, (*above, here)) for one in inside]


def _listed(root: Path, folder: str, changed_ns: int, known: _Listing | None) -> tuple[_Listing, list[str]]:
    names, inside = [], []
    with os.scandir(root / folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                inside.append(f"{folder}/{entry.name}" if folder else entry.name)
            elif entry.name.rpartition(".")[2].lower() in SUFFIXES:  # a dangling link too: it is found when it is read
                names.append(entry.name)
    for name in itertools.chain(names, inside):
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"{root / folder}: the name {os.fsencode(name)!r} is not UTF-8: rename it.") from error
    names.sort()
    stats, hashes = np.full((len(names), 2), _UNKNOWN, np.int64), np.zeros((len(names), 32), np.uint8)
    if known is not None:
        row = {name: at for at, name in enumerate(known.names)}
        new = [at for at, name in enumerate(names) if name in row]
        old = [row[names[at]] for at in new]
        stats[new], hashes[new] = known.stats[old], known.hashes[old]
    return _Listing(changed_ns, names, stats, hashes), inside
