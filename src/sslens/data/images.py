"""Sets of images in a fixed order, each with an id and perhaps a label: from an array, an `.npz`
file or CIFAR-10.

`ImageSet` is the one thing that the rest of the package sees, `decode` the one place where a file
becomes pixels.
"""

import functools
import hashlib
import heapq
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, final, runtime_checkable

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from sslens.errors import InputError, nearest
from sslens.store import digest, home

_FORMATS = (
    "JPEG",
    "PNG",
    "WEBP",
    "BMP",
    "TIFF",
    "GIF",
    "PPM",
)  # some of Pillow's other readers run programs


@runtime_checkable
class Source(Protocol):
    """Where pixels come from: rows in, images or digests of their content out. It must survive a
    fork and a pickle."""

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
        ids: of each image, no two alike: its path below the folder, or a generated id. Results are
            paired by id.
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
    labels: Int64[np.ndarray, " image"] | None
    classes: tuple[str, ...]
    source: Source
    rows: Int64[np.ndarray, " image"] | None = None
    skipped: tuple[tuple[str, str], ...] = ()

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

    def take(self, rows: Sequence[int] | Int64[np.ndarray, " taken"]) -> "ImageSet":
        """The images at these positions, in this order."""
        at = np.asarray(rows, np.int64)
        return replace(
            self,
            ids=tuple(self.ids[row] for row in at.tolist()),
            labels=None if self.labels is None else self.labels[at],
            rows=at if self.rows is None else self.rows[at],
        )

    def sample(self, count: int | None, seed: int) -> "ImageSet":
        """`count` images without replacement: those with the smallest SHA-256 of "seed/id", in that
        order.

        The choice depends on the seed and the ids alone: not on the order of files, the machine or
        a generator's version; a sample of n is the beginning of a sample of n + 1. `None`, or more
        than there are, takes all, in that order.
        """
        keys = (
            (hashlib.sha256(f"{seed}/{name}".encode()).digest(), row)
            for row, name in enumerate(self.ids)
        )
        chosen = (
            sorted(keys) if count is None or count >= len(self) else heapq.nsmallest(count, keys)
        )
        return self.take([row for _, row in chosen])

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over (id, class name, digest of the content) of each image, in order.

        Two sets with one digest hold the same images under the same ids, classes and order; names
        of sets do not count.
        """
        named = (
            [None] * len(self)
            if self.labels is None
            else [self.classes[label] for label in self.labels.tolist()]
        )
        return digest(list(zip(self.ids, named, self._digests, strict=True)))

    @functools.cached_property
    def unordered(self) -> str:
        """The digest that these images have in the order of their ids: the same in any order, such
        as that of another seed."""
        return self.take(sorted(range(len(self)), key=self.ids.__getitem__)).digest

    @functools.cached_property
    def _digests(self) -> list[str]:
        return self.source.digests(range(len(self)) if self.rows is None else self.rows.tolist())

    @property
    def contents(self) -> frozenset[str]:
        """The digests of the images' contents, by which an image is known under any id."""
        return frozenset(self._digests)

    @functools.cached_property
    def content(self) -> str:
        """The digest of the same images in the order of their ids: what decides a result in which
        their order has no part."""
        return self.take(sorted(range(len(self)), key=self.ids.__getitem__)).digest


def decode(file: Path | io.BytesIO | io.BufferedReader) -> Image.Image:
    """An image file as 8-bit RGB, upright.

    - Orientation: EXIF's, applied. Animations: the first frame. Colour profiles are ignored, as
      they are in training pipelines.
    - Alpha (LA, PA, RGBA, a transparent palette entry or colour) is composited on white, where such
      pictures are made to be seen; dropping it would show whatever colour the editor left under it.
    - 16-bit greyscale: round(v / 257), so that 0xFFFF is 255; Pillow's own conversion clips at 255.
      Of 16-bit colour Pillow reads the high byte.
    - Floating point: round(255 v), all of [0, 1] or refused; 32-bit integers are refused, because
      their range is not known.
    - CMYK and YCCK: Pillow's conversion, Adobe's inverted JPEGs included.

    Raises:
        InputError: the file cannot be decoded to its end, or has more than Pillow's
            `MAX_IMAGE_PIXELS` pixels.

    >>> file = io.BytesIO()
    >>> Image.fromarray(np.full((2, 2), 0x8080, np.uint16)).save(file, "png")
    >>> decode(file).getpixel((0, 0))  # 32896 / 257
    (128, 128, 128)
    """
    try:
        return read_rgb(file)
    except (
        Exception
    ) as error:  # Pillow's readers raise what they meet: struct.error, SyntaxError, KeyError, …
        name = file if isinstance(file, Path) else getattr(file, "name", "the image")
        raise InputError(
            f"{name} cannot be decoded ({reason(error)}): repair it or leave it out."
        ) from error


def read_rgb(file: Path | io.BytesIO | io.BufferedReader) -> Image.Image:
    """What `decode` returns; whatever Pillow's reader raises is left as it is, for `reason` to put
    into words.

    >>> file = io.BytesIO()
    >>> Image.new("CMYK", (1, 1)).save(file, "tiff")
    >>> read_rgb(file).getpixel((0, 0))  # no ink
    (255, 255, 255)
    """
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
            raise ValueError(
                "floating-point pixels outside [0, 1]: scale them, or save it with 8 or 16 bits"
            )
        return Image.fromarray(np.rint(values * 255).astype(np.uint8))
    grey = Image.fromarray(((values.astype(np.int64) + 128) // 257).astype(np.uint8))
    if "transparency" not in image.info:
        return grey
    return Image.merge(
        "LA",
        (
            grey,
            Image.fromarray(
                np.where(values == image.info["transparency"], 0, 255).astype(np.uint8)
            ),
        ),
    )


def reason(error: Exception) -> str:
    """Why a file could not be read, as words that fit between parentheses.

    >>> reason(FileNotFoundError(2, "No such file or directory"))
    'No such file or directory'
    """
    if isinstance(error, UnidentifiedImageError):
        return "it is not an image of a known format"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return (
            f"{error}; more than {Image.MAX_IMAGE_PIXELS:,} pixels are not decoded, scale it down"
        )
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


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
    return ImageSet(
        name,
        (
            tuple(f"{row:06d}" for row in range(len(images)))
            if ids is None
            else tuple(str(one) for one in ids)
        ),
        None if given is None else given.astype(np.int64),
        tuple(str(one) for one in classes),
        ArrayImages(images),
    )


def from_npz(path: Path) -> ImageSet:
    """A set from an `.npz` file (never unpickled): `images` as in `from_arrays`, perhaps `labels`,
    `classes` and `ids`.

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
            f"{path} cannot be read as .npz ({reason(error)}): save it again with numpy.savez."
        ) from error
    if "images" not in held:
        raise InputError(
            f'{path} holds no array "images", only {", ".join(found) or "nothing"}: save it under'
            " that name."
        )
    for key in ("classes", "ids"):
        if key in held and (held[key].dtype.kind != "U" or held[key].ndim != 1):
            raise InputError(
                f"{path}: {key} must be a list of text, not {held[key].dtype} of shape"
                f" {held[key].shape}."
            )
    classes, ids = (held[key].tolist() if key in held else None for key in ("classes", "ids"))
    return replace(
        from_arrays(held["images"], held.get("labels"), classes, ids, str(path)), name=path.stem
    )


def cifar10(split: str = "val") -> ImageSet:
    """CIFAR-10 through torchvision: `train` (50,000 images) or `val` (its 10,000 test images), 32 ×
    32, 10 classes.

    It lies in `datasets` under the store's folder and is downloaded there once. torchvision
    unpickles it, but only after the file's MD5 was found to be the published one.

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
            f"CIFAR-10 could not be downloaded ({error}): put {CIFAR10.filename} from {CIFAR10.url}"
            f" into {root}, or give a folder of images with --images."
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
