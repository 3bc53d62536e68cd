"""Data sets of torch, torchvision or Hugging Face as images: whatever has a length, and items with
an image and perhaps a label."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol, final, runtime_checkable

import numpy as np
from jaxtyping import Int64
from PIL import Image

from sslens.counts import spell_count
from sslens.data.decoding import Look, explain_error, hash_pixels, to_rgb
from sslens.data.images import MOST_CLASSES, ImageSet
from sslens.errors import InputError

#: the keys of an image and of a label, of items that are mappings
IMAGES = ("image", "img", "pixel_values", "x", "jpg", "png")
LABELS = ("label", "labels", "fine_label", "target", "class", "y", "cls")


@runtime_checkable
class Dataset(Protocol):
    """A data set: its length, and its items by their number."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: Any, /) -> Any: ...


def from_dataset(
    dataset: Dataset,
    ids: Sequence[str] | None = None,
    choose: Callable[[ImageSet], ImageSet] = lambda images: images,
    *,
    needs_labels: bool = False,
) -> ImageSet:
    """Open a data set as images, of which some may be chosen before any is read.

    An item is an image, or a pair of an image and a label, or a mapping with both. An image is one
    of Pillow's, or an array or tensor: uint8, or floats in [0, 1]; `[height, width, 3]`,
    `[3, height, width]` or greyscale. A label is a number (with names in `dataset.classes` where
    there are) or a text. The data set must give the same image each time, without random
    augmentation and without normalisation.

    Args:
        dataset: the data set.
        ids: id of each item; made from its number unless given: 000000, 000001, …
        choose: draws the images that are wanted; it is given labels only where these can be had
            without reading images, or are needed.
        needs_labels: whether `choose` draws by labels, so that all are read first.

    Raises:
        InputError: the data set has no items, as many ids do not fit, an item holds no image or
            cannot be read, or its image differs each time that it is asked for.
    """
    name = _name(dataset)
    count = _count(dataset, name)
    if ids is not None and len(ids) != count:
        raise InputError(
            f"{name}: {spell_count(count, 'image')}, but {spell_count(len(ids), 'id')}: one an"
            " image."
        )
    source = DatasetImages(dataset, name)
    made = [f"{row:06d}" for row in range(count)] if ids is None else list(map(str, ids))
    doubts = (
        ()
        if ids is not None
        else (
            f"The ids of {name} are the numbers of its items, 000000 to {made[-1]}: two runs see"
            " the same images under the same ids only if the items keep their order.",
        )
    )
    images = replace(ImageSet(name, tuple(made), None, (), source), doubts=doubts)
    known = source.known_labels
    if known is None and not needs_labels:
        images = choose(images)
    rows = list(range(count)) if images.rows is None else images.rows.tolist()
    labels, classes = source.number_labels(rows)
    labelled = replace(images, labels=labels, classes=classes)
    return labelled if known is None and not needs_labels else choose(labelled)


def _name(dataset: Dataset) -> str:
    name = getattr(dataset, "name", None) or type(dataset).__name__
    return re.sub(r"\s+", " ", str(name))[:60]


def _count(dataset: Dataset, name: str) -> int:
    try:
        count = len(dataset)
    except (TypeError, NotImplementedError) as error:
        raise InputError(
            f"{name} does not say how many items it has: give a data set with a length, whose items"
            " can be asked for by number."
        ) from error
    if not count:
        raise InputError(f"{name} holds no items.")
    return count


@final
class DatasetImages:
    """The images of a data set, read when they are asked for."""

    def __init__(self, dataset: Dataset, name: str) -> None:
        self._dataset = dataset
        self._name = name
        self._looks: dict[int, Look] = {}
        self._labels: dict[int, Any] = {}
        self._compared = False

    def image(self, row: int) -> Image.Image:
        """Return the image of a row, in mode RGB."""
        try:
            return self._read(row)
        except InputError:
            raise
        except Exception as error:  # whatever the data set raises
            raise InputError(
                f"{self.name_row(row)} cannot be read ({explain_error(error)})."
            ) from error

    def name_row(self, row: int) -> str:
        """Return what a message calls the image of a row."""
        return f"item {row} of {self._name}"

    def digests(self, rows: Sequence[int]) -> list[str]:
        """Return the SHA-256 of each image's size and pixels."""
        return [look.digest.hex() for look in self.looks(rows)]

    def looks(self, rows: Sequence[int]) -> list[Look]:
        """Return the size of each image, and the digest of its pixels."""
        unread = [row for row in rows if row not in self._looks]
        for row, why in self.examine(unread, "stop").items():
            raise InputError(f"{self.name_row(row)} cannot be read ({why}).")
        return [self._looks[row] for row in rows]

    def examine(
        self,
        rows: Sequence[int],
        on_bad: Literal["stop", "skip"],
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[int, str]:
        """Read the images of these rows; returns the reason for each that cannot be read, only the
        first one with "stop".

        Raises:
            InputError: the data set gives another image when it is asked for the first again.
        """
        bad: dict[int, str] = {}
        for done, row in enumerate(rows, 1):
            try:
                if row not in self._looks:
                    self._read(row)
                if not self._compared:
                    self._compare(row)
            except InputError:
                raise
            except Exception as error:  # whatever the data set raises
                bad[row] = explain_error(error)
                if on_bad == "stop":
                    return bad
            if progress is not None:
                progress(done, len(rows))
        return bad

    def _compare(self, row: int) -> None:
        before = self._looks[row]
        self._read(row)
        self._compared = True
        if self._looks[row] != before:
            raise InputError(
                f"{self._name} gives another image each time that it is asked for item {row}: give"
                " the data set without random augmentation."
            )

    def _read(self, row: int) -> Image.Image:
        image, label = split_item(self._dataset[row])
        converted = make_image(image)
        self._looks[row] = Look(converted.size, True, hash_pixels(converted))
        self._labels[row] = label
        return converted

    @property
    def known_labels(self) -> Sequence[Any] | None:
        """The label of each item, where the data set has them without its images."""
        count = len(self._dataset)
        for name in ("targets", "labels"):
            values: Any = getattr(self._dataset, name, None)
            is_list = isinstance(values, Sequence | np.ndarray) or hasattr(values, "tolist")
            if is_list and not isinstance(values, str) and len(values) == count:
                return list(values)
        columns = getattr(self._dataset, "column_names", None)
        for name in LABELS:
            if isinstance(columns, Sequence) and name in columns:
                return list(self._dataset[name])
        return None

    def number_labels(
        self, rows: Sequence[int]
    ) -> tuple[Int64[np.ndarray, " image"] | None, tuple[str, ...]]:
        """Number the classes of the images of these rows; None where items have no labels, or none
        that is a number or a text. Items are read where there is no other way."""
        known = self.known_labels
        if known is not None:
            return self._number([plain_label(known[row]) for row in rows])
        values: list[Any] = []
        for row in rows:
            if row not in self._labels:
                try:
                    self._read(row)
                except Exception:  # `examine` says what is wrong
                    values.append(_UNREAD)
                    continue
            values.append(plain_label(self._labels[row]))
        return self._number(values)

    def _number(
        self, values: Sequence[Any]
    ) -> tuple[Int64[np.ndarray, " image"] | None, tuple[str, ...]]:
        told = [value for value in values if value is not _UNREAD]
        if not told or any(value is None for value in told):
            return None, ()
        return _number(self._name, values, told, self._names())

    def _names(self) -> tuple[str, ...] | None:
        """The names of the classes, where the data set has them."""
        names = getattr(self._dataset, "classes", None)
        features = getattr(self._dataset, "features", None)
        if names is None and isinstance(features, Mapping):
            columns = [features[name] for name in LABELS if name in features]
            names = next((one.names for one in columns if getattr(one, "names", None)), None)
        return tuple(map(str, names)) if isinstance(names, Sequence) and names else None


_UNREAD = object()


def _number(
    name: str, values: Sequence[Any], told: Sequence[Any], names: tuple[str, ...] | None
) -> tuple[Int64[np.ndarray, " image"], tuple[str, ...]]:
    """Numbers of classes, and the names of these."""
    if all(isinstance(value, str) for value in told):
        names = tuple(sorted(set(told)))
        number = {name: place for place, name in enumerate(names)}
        values = [0 if value is _UNREAD else number[value] for value in values]
        return np.array(values, np.int64), names
    numbers = [0 if value is _UNREAD else int(value) for value in values]
    low, high = min(numbers), max(numbers)
    most = MOST_CLASSES if names is None else len(names)
    if low < 0 or high >= most:
        raise InputError(
            f"{name}: labels reach from {low} to {high}, but {most:,} classes are numbered from 0"
            " at most: number the classes from 0, and name each in classes."
        )
    return np.array(numbers, np.int64), names or tuple(map(str, range(high + 1)))


def plain_label(label: Any) -> int | str | None:
    """A label as a number or a text; None of anything else.

    >>> plain_label(np.array(3)), plain_label("cat"), plain_label([0.0, 1.0])
    (3, 'cat', None)
    """
    if hasattr(label, "tolist"):
        label = label.tolist()  # of an array or tensor without dimensions
    if isinstance(label, str) or (isinstance(label, int) and not isinstance(label, bool)):
        return label
    return None


def split_item(item: Any) -> tuple[Any, Any]:
    """The image and the label of an item; the label is None where there is none.

    Raises:
        ValueError: the item is a mapping without an image.
    """
    if isinstance(item, Mapping):
        image = next((item[key] for key in IMAGES if key in item), None)
        if image is None:
            raise ValueError(f"it has the keys {', '.join(map(str, item))}, and none of an image")
        return image, next((item[key] for key in LABELS if key in item), None)
    if isinstance(item, tuple | list):
        return item[0], item[1] if len(item) > 1 else None
    return item, None


def make_image(value: Any) -> Image.Image:
    """Make an RGB image of one of Pillow's, or of an array or tensor.

    Raises:
        ValueError: it is none of these, or its floats lie outside [0, 1].

    >>> make_image(np.ones((3, 4, 6), np.float32)).size
    (6, 4)
    """
    if isinstance(value, Image.Image):
        return to_rgb(value)
    if isinstance(value, str | bytes):
        raise ValueError(f"it holds {type(value).__name__} and no image")
    pixels = np.asarray(value)
    if pixels.dtype.kind == "f":
        if not bool(((pixels >= 0) & (pixels <= 1)).all()):
            raise ValueError("its values lie outside [0, 1]: leave out the normalisation")
        pixels = np.rint(pixels * 255).astype(np.uint8)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or not pixels.size:
        raise ValueError(f"it holds {pixels.dtype} of shape {pixels.shape} and no image")
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3) and pixels.shape[2] not in (1, 3):
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim == 3 and pixels.shape[2] != 3:
        raise ValueError(f"it has {pixels.shape[2]} channels, not 3 or 1")
    return Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
