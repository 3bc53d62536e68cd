"""Sets of images in a fixed order, each with an id and perhaps a label.

The rest of the package sees images only as an `ImageSet`.
"""

import functools
import hashlib
import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol, final, overload, runtime_checkable

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from sslens.counts import spell_count
from sslens.data.decoding import Look, hash_pixels
from sslens.data.left_out import LeftOut, describe_left_out
from sslens.data.stratified import choose_stratified
from sslens.data.targets import ObjectSource
from sslens.errors import Caution, InputError
from sslens.store import digest

#: classes that are numbered without names at most, since a name is made for each number
MOST_CLASSES = 1_000_000
#: images that are named where they could not be decoded
NAMED = 20


class Photo(NamedTuple):
    """An image of a set.

    Attributes:
        image: the image, in mode RGB.
        label: the name of its class; None where the images have no classes.
        id: its id.
    """

    image: Image.Image
    label: str | None
    id: str


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
@dataclass(frozen=True)
class Opening:
    """What `sslens.open_images` was given for a set that it opened by name or path.

    Attributes:
        source: the name or path.
        limit: how many images were taken at most; None for all.
        seed: decides which.
        sample: how they were drawn, "plain" or "stratified".
    """

    source: str
    limit: int | None = None
    seed: int = 0
    sample: str = "plain"


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
        classes_drawn_from: the number of classes of which those of these images were drawn
            (`stratify`); None where all are taken.
        left_out: the files of the folder that are no images.
        doubts: what about the layout of the folder was probably not meant, in sentences.
        opened: how the set was opened, so that the same can be opened again; None of a set that is
            made of another or of arrays.

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
    >>> images[0].image.mode, images[0].label, [photo.id for photo in images[1:]]
    ('RGB', 'cat', ['b', 'c'])
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
    classes_drawn_from: int | None = None
    left_out: tuple[LeftOut, ...] = ()
    doubts: tuple[str, ...] = ()
    #: `dataclasses.replace` does not copy it: a part of a set was not opened so
    opened: Opening | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        for what, names in (("images have the id", self.ids), ("classes are called", self.classes)):
            if len(set(names)) != len(names):
                twice, count = Counter(names).most_common(1)[0]
                one = "image an id" if names is self.ids else "class a name"
                raise InputError(
                    f'{self.name}: {count} {what} "{twice}": give every {one} of its own.'
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
        classes = f", {spell_count(len(self.classes), 'class')}" if self.labels is not None else ""
        skipped = f", {len(self.skipped)} skipped" if self.skipped else ""
        left_out = sum(one.count for one in self.left_out)
        others = f", {spell_count(left_out, 'file')} left out (see notes)" if left_out else ""
        return (
            f"<ImageSet {self.name}: {spell_count(len(self), 'image')}{classes}{skipped}{others}>"
        )

    @overload
    def __getitem__(self, place: int) -> Photo: ...
    @overload
    def __getitem__(self, place: slice) -> "ImageSet": ...
    def __getitem__(self, place: int | slice) -> "Photo | ImageSet":
        """Return the image at a position, with its class and its id; of a slice a set of images.

        Raises:
            IndexError: there is no such position.
            InputError: as `image`.
        """
        if isinstance(place, slice):
            return self.take(range(len(self))[place])
        row = range(len(self))[place]
        label = None if self.labels is None else self.classes[int(self.labels[row])]
        return Photo(self.image(row), label, self.ids[row])

    def __iter__(self) -> Iterator[Photo]:
        return (self[row] for row in range(len(self)))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of the set, in sentences: what was left out and why, and what
        about its folders was probably not meant."""
        left = [] if self.objects is None else [*self.objects.left_out]
        notes = list(self.doubts)
        if left:
            faults = ", ".join(f"{count} {fault}" for fault, count in left)
            total = sum(count for _, count in left)
            notes.append(f"{spell_count(total, 'annotation')} of {self.name} left out: {faults}.")
        if self.skipped:
            # an annotated image may also be missing, or have another size than was annotated
            wrong = "could not be decoded" if self.objects is None else "could not be used"
            named = "; ".join(f"{name} ({reason})" for name, reason in self.skipped[:NAMED])
            more, count = len(self.skipped) - NAMED, len(self.skipped)
            those, were = ("image", "was") if count == 1 else ("images", "were")
            said = (
                f"{count} {those} of {self.name} {wrong} and {were} left out:"
                f" {named}{f'; and {more} more' if more > 0 else ''}."
            )
            notes.append(Caution(said))
        notes += filter(None, [describe_left_out(self.name, self.left_out)])
        return tuple(notes)

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

    def stratify(self, count: int | None, seed: int, *, per_class: int = 20) -> "ImageSet":
        """Draw at most `count` images with the classes in proportion, in the order of `sample`.

        Within a class, images are drawn as `sample` draws them. Where a sample of all classes would
        have fewer than `per_class` images a class, whole classes are drawn instead, as many as fit:
        by SHA-256 of "seed/name", each with up to 32 images (`data.stratified`). All images are
        taken for a `count` of None or more than there are, and of images without classes a plain
        sample.

        >>> images = from_arrays(np.zeros((9, 2, 2), np.uint8), [0, 0, 0, 0, 0, 0, 1, 1, 1])
        >>> images.stratify(6, seed=0, per_class=0).labels.tolist().count(1)  # as 3 of 9
        2
        """
        if count is None or count >= len(self) or self.labels is None:
            return self.sample(count, seed)
        rows = choose_stratified(self.labels, self.ids, self.classes, count, seed, per_class)
        taken = self.take(rows)
        assert taken.labels is not None
        present = np.unique(taken.labels)
        if len(present) == len(np.unique(self.labels)):
            return replace(taken, drawn_from=len(self))
        return replace(
            taken,
            labels=np.searchsorted(present, taken.labels),
            classes=tuple(self.classes[label] for label in present.tolist()),
            drawn_from=len(self),
            classes_drawn_from=len(np.unique(self.labels)),
        )

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
        columns: list[Sequence[str | None]] = [self.ids, names, self.digests]
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
    def digests(self) -> list[str]:
        """The digest of each image's content, without its id and class."""
        return self.source.digests(range(len(self)) if self.rows is None else self.rows.tolist())


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
    if given is not None:
        _require_numbers(name, given, None if classes is None else len(classes))
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


def _require_numbers(name: str, labels: np.ndarray, classes: int | None) -> None:
    """Refuse labels that are no numbers of classes, before names are made for them and before they
    are brought to 64 bits."""
    low, high = int(labels.min()), int(labels.max())
    if classes is None and high >= MOST_CLASSES:
        raise InputError(
            f"{name}: labels reach from {low} to {high}, but at most {MOST_CLASSES:,} classes are"
            " numbered without names: number the classes from 0."
        )
    most = high + 1 if classes is None else classes
    if low < 0 or high >= most:
        raise InputError(
            f"{name}: labels reach from {low} to {high}, but {most} classes are numbered from 0:"
            " give a name for every class."
        )


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

    def looks(self, rows: Sequence[int]) -> list[Look]:
        """Return the size of each image, and the digest of its pixels."""
        height, width = self._pixels.shape[1:3]
        return [Look((width, height), True, hash_pixels(self.image(row))) for row in rows]
