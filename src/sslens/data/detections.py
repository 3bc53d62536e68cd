"""Images of which the objects are known: one type for COCO's folders (`data.coco`) and for
generated scenes (`data.scene_objects`)."""

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Bool, Float64, Int64
from PIL import Image

from sslens.counts import spell_count
from sslens.data.images import ImageSet
from sslens.data.targets import ObjectSource, Targets
from sslens.errors import InputError, nearest


@final
@dataclass(frozen=True, eq=False, repr=False)
class DetectionSet:
    """Images in a fixed order, each with its objects: a view of an `ImageSet` that has `objects`.

    Attributes:
        images: the images, with their objects.

    >>> from sslens.data.scene_objects import scene_objects
    >>> scenes = scene_objects(3)
    >>> scenes
    <DetectionSet scenes-detection-v...: 3 images, 10 categories>
    >>> scenes.targets(0).boxes.shape[1], scenes.take([2]).ids == scenes.ids[2:]
    (4, True)
    """

    images: ImageSet

    @classmethod
    def of(cls, images: ImageSet) -> "DetectionSet":
        """View a set of images as one with objects.

        Raises:
            InputError: the images have no objects.
        """
        if images.objects is None:
            raise InputError(
                f"Of the images of {images.name} no objects are known: give images with boxes, such"
                " as coco:IMAGES:ANNOTATIONS.json or scenes-detection."
            )
        return cls(images)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        count = len(self.categories)
        return (
            f"<DetectionSet {self.name}: {spell_count(len(self), 'image')},"
            f" {count} categor{'y' if count == 1 else 'ies'}>"
        )

    @property
    def name(self) -> str:
        """What tables and figures call the set."""
        return self.images.name

    @property
    def ids(self) -> tuple[str, ...]:
        """The id of each image."""
        return self.images.ids

    @property
    def source(self) -> ObjectSource:
        """Where the objects come from."""
        assert self.images.objects is not None
        return self.images.objects

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the categories."""
        return self.source.categories

    @property
    def has_masks(self) -> bool:
        """Whether each object has a mask; if not, none has."""
        return self.source.has_masks

    @property
    def is_coco(self) -> bool:
        """Whether the categories are COCO's 80, or some of these."""
        return self.source.is_coco

    def image(self, row: int) -> Image.Image:
        """Return the image at a position, in mode RGB.

        Raises:
            InputError: the file cannot be decoded.
        """
        return self.images.image(row)

    def targets(self, row: int) -> Targets:
        """Return the objects of the image at a position."""
        rows = self.images.rows
        return self.source.targets(row if rows is None else int(rows[row]))

    def take(self, rows: Sequence[int] | Int64[np.ndarray, " taken"]) -> "DetectionSet":
        """Return a set of the images at these positions, in this order."""
        return DetectionSet(self.images.take(rows))

    def sample(self, count: int | None, seed: int = 0) -> "DetectionSet":
        """Draw `count` images without replacement, as `ImageSet.sample` draws them."""
        return DetectionSet(self.images.sample(count, seed))

    def split(self, share: float = 0.8, seed: int = 0) -> tuple["DetectionSet", "DetectionSet"]:
        """Divide the images into two parts, for training and for validation, which share no image.

        Args:
            share: of the images that are in the first part.
            seed: decides which images these are; see `ImageSet.sample`.

        Raises:
            InputError: a part would have no image.

        >>> from sslens.data.scene_objects import scene_objects
        >>> [len(part) for part in scene_objects(10).split(0.8)]
        [8, 2]
        """
        count = round(share * len(self))
        if not 0 < count < len(self):
            raise InputError(
                f"{self.name} has {spell_count(len(self), 'image')}, of which {share:g} are"
                f" {count}: give a share that leaves an image in both parts."
            )
        order = self.sample(None, seed)
        return order.take(range(count)), order.take(range(count, len(self)))

    @functools.cached_property
    def objects(self) -> "Objects":
        """The boxes, categories and areas of all objects, as columns."""
        return Objects.of([self.targets(row) for row in range(len(self))])

    def counts(self) -> dict[str, int]:
        """Number of objects of each category, crowds left out."""
        count = Counter(self.objects.labels[~self.objects.crowd].tolist())
        return {name: count[label] for label, name in enumerate(self.categories)}

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the images and their objects, in order."""
        return self.images.digest


@final
@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of all images of a set as columns, in the order of the images.

    Attributes:
        image: position of each object's image in the set.
        bbox: (x, y, width, height) in pixels.
        labels: index into the set's categories.
        crowd: whether an annotation is of a crowd.
        area: in pixels.
        sizes: (height, width) of each image, in pixels.
    """

    image: Int64[np.ndarray, " object"]
    bbox: Float64[np.ndarray, "object 4"]
    labels: Int64[np.ndarray, " object"]
    crowd: Bool[np.ndarray, " object"]
    area: Float64[np.ndarray, " object"]
    sizes: Int64[np.ndarray, "image 2"]

    @classmethod
    def of(cls, targets: Sequence[Targets]) -> "Objects":
        """Join the objects of images."""
        nothing = np.zeros(0)
        return cls(
            np.repeat(np.arange(len(targets)), [len(one) for one in targets]),
            np.concatenate([np.zeros((0, 4)), *(one.bbox for one in targets)]),
            np.concatenate([nothing.astype(np.int64), *(one.labels for one in targets)]),
            np.concatenate([nothing.astype(bool), *(one.crowd for one in targets)]),
            np.concatenate([nothing, *(one.area for one in targets)]),
            np.array([(one.height, one.width) for one in targets], np.int64).reshape(-1, 2),
        )

    @property
    def relative_area(self) -> Float64[np.ndarray, " object"]:
        """The area of each object as a share of its image."""
        height, width = self.sizes[self.image].T
        return self.area / (height * width)


def find_categories(names: Sequence[str], categories: Sequence[str]) -> list[int]:
    """Find the index of each named category.

    Raises:
        InputError: there is no such category; the nearest name is offered.

    >>> find_categories(["dog"], ["cat", "dog"])
    [1]
    """
    place = {name: at for at, name in enumerate(categories)}
    for name in names:
        if name not in place:
            raise InputError(f'There is no category "{name}": {nearest(name, categories)}.')
    return [place[name] for name in names]
