"""Sets of images in a fixed order, each with an id and perhaps a label: from an array, an `.npz`
file or CIFAR-10.

The rest of the package sees images only as an `ImageSet`.
"""

import functools
import hashlib
import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, final, runtime_checkable

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from sslens.data.decoding import explain_error
from sslens.data.targets import ObjectSource
from sslens.errors import InputError, nearest
from sslens.store import digest, home


@runtime_checkable
class Source(Protocol):
    """Where pixels come from: it gives the image of a row, or the digests of rows.

    A source must survive a fork and a pickle.
    """

    def image(self, row: int) -> Image.Image:
        """Return the image of a row, in mode RGB."""
        ...

    def digests(self, rows: Sequence[int]) -> list[str]:
        """Return the digest of each row's content (64 hex): equal for equal content, on any
        machine."""
        ...


@final
@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Images in a fixed order, each with an id, perhaps a class, and a digest of the whole.

    Args:
        name: what tables and figures call the set.
        ids: of each image, no two alike: the file's path below the folder, or a generated id.
            Results are paired by id.
        labels: index into `classes` of each image, or None where the images have no classes.
        classes: names of the classes.
        source: where the pixels come from.
        rows: row of each image in `source`; the source's first rows when None.
        skipped: (id, reason) of each image that was left out because it could not be decoded.
        objects: where the objects of each image come from, by the same rows; None if they are not
            known. `data.detections.DetectionSet` gives them.
        drawn_from: the number of images of which these were drawn (`sample`); None where none were
            drawn.

    Raises:
        InputError: two ids are the same, or a label is not the number of a class.

    >>> pixels = np.zeros((3, 2, 2), np.uint8)
    >>> images = from_arrays(pixels, [0, 1, 1], classes=["cat", "dog"], ids=["a", "b", "c"])
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
    labels: Int64[np.ndarray, " image"] | None
    classes: tuple[str, ...]
    source: Source
    rows: Int64[np.ndarray, " image"] | None = None
    skipped: tuple[tuple[str, str], ...] = ()
    objects: ObjectSource | None = None
    drawn_from: int | None = None

    def __post_init__(self) -> None:
        if len(set(self.ids)) != len(self.ids):
            twice, count = Counter(self.ids).most_common(1)[0]
            raise InputError(
                f'{self.name}: {count} images have the id "{twice}": give every image an id of its'
                " own."
            )
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
        labels = self.labels.copy()
        labels.flags.writeable = False
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        classes = f", {len(self.classes)} classes" if self.labels is not None else ""
        skipped = f", {len(self.skipped)} skipped" if self.skipped else ""
        return f"<ImageSet {self.name}: {len(self)} images{classes}{skipped}>"

    def image(self, row: int) -> Image.Image:
        """Return the image at a position of this set, in mode RGB.

        Raises:
            InputError: the image's file cannot be decoded, or has changed since `check` read it.
        """
        return self.source.image(row if self.rows is None else int(self.rows[row]))

    def take(self, rows: Sequence[int] | Int64[np.ndarray, " taken"]) -> "ImageSet":
        """Return a set of the images at these positions, in this order."""
        at = np.asarray(rows, np.int64)
        return replace(
            self,
            ids=tuple(self.ids[row] for row in at.tolist()),
            labels=None if self.labels is None else self.labels[at],
            rows=at if self.rows is None else self.rows[at],
        )

    def sample(self, count: int | None, seed: int) -> "ImageSet":
        """Draw `count` images without replacement: the images with the smallest SHA-256 of
        "seed/id", in the order of these hashes.

        The choice depends on the seed and the ids alone, not on the order of files, the machine or
        the version of a generator. A sample of n is the beginning of a sample of n + 1. All images
        are taken, in the same order, for a `count` of None or more than there are.
        """
        hashes = (hashlib.sha256(f"{seed}/{name}".encode()).digest() for name in self.ids)
        ranked = list(zip(hashes, range(len(self)), strict=True))
        wanted = len(self) if count is None else count
        chosen = heapq.nsmallest(wanted, ranked)  # sorts, where all are wanted
        return replace(self.take([row for _, row in chosen]), drawn_from=len(self))

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over (id, class name, digest of the content) of each image, in order, and
        the digest of its objects where there are any.

        Two sets with equal digests hold the same images under the same ids, in the same classes and
        order, with the same objects. The names of the sets do not count.
        """
        names: list[str | None] = [None] * len(self)
        if self.labels is not None:
            names = [self.classes[label] for label in self.labels.tolist()]
        columns: list[Sequence[str | None]] = [self.ids, names, self._digests]
        if self.objects is not None:
            rows = range(len(self)) if self.rows is None else self.rows.tolist()
            columns.append(self.objects.digests(rows))
        return digest(list(zip(*columns, strict=True)))

    @functools.cached_property
    def content(self) -> str:
        """SHA-256 (hex) like `digest`, but with the images in the order of their ids.

        It is the key of results that do not depend on the order of the images.
        """
        return self.take(sorted(range(len(self)), key=self.ids.__getitem__)).digest

    @functools.cached_property
    def _digests(self) -> list[str]:
        return self.source.digests(range(len(self)) if self.rows is None else self.rows.tolist())

    @property
    def contents(self) -> frozenset[str]:
        """The digest of each image's content, without its id and class.

        Two sets share an image exactly if these sets of digests overlap.
        """
        return frozenset(self._digests)


def from_arrays(
    images: np.ndarray,
    labels: np.ndarray | Sequence[int] | None = None,
    classes: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
    name: str = "array",
) -> ImageSet:
    """Make a set of images from an array, which is not copied and must not be changed afterwards.

    Args:
        images: uint8, `[image, height, width, 3]` or, greyscale, `[image, height, width]`.
        labels: class of each image, from 0.
        classes: names of the classes; their numbers when None.
        ids: id of each image; 000000, 000001, … when None.
        name: name of the set in tables and figures.

    Raises:
        InputError: the array has a wrong type or shape, the labels do not fit, two ids are equal,
            or there are no images.

    >>> from_arrays(np.zeros((2, 4, 4, 3), np.uint8), labels=[0, 1]).classes
    ('0', '1')
    """
    if (
        images.dtype != np.uint8
        or images.ndim not in (3, 4)
        or (images.ndim == 4 and images.shape[3] != 3)
    ):
        raise InputError(
            f"{name}: images must be uint8 of shape [image, height, width, 3] or [image, height,"
            f" width], not {images.dtype} of shape {images.shape}."
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
    if ids is None:
        ids = [f"{row:06d}" for row in range(len(images))]
    return ImageSet(
        name,
        tuple(map(str, ids)),
        None if given is None else given.astype(np.int64),
        tuple(map(str, classes)),
        ArrayImages(images),
    )


def from_npz(path: Path) -> ImageSet:
    """Open a set from an `.npz` file, which is never unpickled.

    The file holds `images`, and perhaps `labels`, `classes` and `ids`, all as in `from_arrays`.

    Raises:
        InputError: the file cannot be read, holds no `images`, or its arrays do not fit.
    """
    wanted = ("images", "labels", "classes", "ids")
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            names = list(file.files)
            arrays = {key: file[key] for key in wanted if key in names}
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen kinds for a damaged file
        raise InputError(
            f"{path} cannot be read as .npz ({explain_error(error)}): save it again with"
            " numpy.savez."
        ) from error
    if "images" not in arrays:
        raise InputError(
            f'{path} holds no array "images", only {", ".join(names) or "nothing"}: save it under'
            " that name."
        )
    for key in ("classes", "ids"):
        if key in arrays and (arrays[key].dtype.kind != "U" or arrays[key].ndim != 1):
            raise InputError(
                f"{path}: {key} must be a list of text, not {arrays[key].dtype} of shape"
                f" {arrays[key].shape}."
            )
    classes, ids = (arrays[key].tolist() if key in arrays else None for key in ("classes", "ids"))
    images = from_arrays(arrays["images"], arrays.get("labels"), classes, ids, str(path))
    return replace(images, name=path.stem)


def cifar10(split: str = "val") -> ImageSet:
    """Open CIFAR-10 through torchvision: `train` (50,000 images) or `val` (its 10,000 test images),
    32 × 32, 10 classes.

    The images are downloaded once, to `datasets` in the store's folder. torchvision unpickles the
    file, but only after the file's MD5 was found to be the published one.

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
            f"CIFAR-10 could not be downloaded ({error})",
            mend=f"put {CIFAR10.filename} from {CIFAR10.url} into {root}, or give a folder of"
            " images as {images}",
        ) from error
    ids = [f"{split}/{row:05d}" for row in range(len(data.data))]
    return from_arrays(data.data, data.targets, data.classes, ids, f"cifar10:{split}")


@final
class ArrayImages:
    """Pixels in memory."""

    def __init__(self, pixels: UInt8[np.ndarray, "image height width *rgb"]) -> None:
        self._pixels = pixels

    def image(self, row: int) -> Image.Image:
        """Return the image of a row, in mode RGB."""
        return Image.fromarray(np.ascontiguousarray(self._pixels[row])).convert("RGB")

    def digests(self, rows: Sequence[int]) -> list[str]:
        """Return the SHA-256 of each image's shape and bytes."""
        shape = f"{self._pixels.shape[1:]}".encode()
        return [hashlib.sha256(shape + self._pixels[row].tobytes()).hexdigest() for row in rows]
