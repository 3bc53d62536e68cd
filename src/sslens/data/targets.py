"""The objects of an image: each with a box, a category and perhaps a mask."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, final, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from sslens.data.rle import Rle, stack_masks
from sslens.errors import InputError


@runtime_checkable
class Masks(Protocol):
    """Masks by index, such as a tuple of them."""

    def __len__(self) -> int: ...
    def __getitem__(self, row: int, /) -> Rle: ...
    def __iter__(self) -> Iterator[Rle]: ...


@runtime_checkable
class Segmented(Protocol):
    """Masks that are at hand in COCO's format and need not be drawn for it."""

    def segmentations(self) -> list[Any]:
        """Each mask in COCO's format: polygons, or run lengths."""
        ...


@final
@dataclass(frozen=True, eq=False)
class Targets:
    """The objects of one image.

    Attributes:
        height: of the image, in pixels.
        width: of the image, in pixels.
        bbox: (x, y, width, height) of each object in pixels, as the annotations give it.
        labels: category of each object, an index into `DetectionSet.categories`.
        crowd: whether an annotation is of a crowd: a region with many objects, which is neither
            learnt nor counted when it is missed.
        area: of each object in pixels, as the annotations give it; of the mask where there is one.
        rles: mask of each object, drawn when it is asked for; None where the set has no masks.

    >>> mask = np.array([[False, True], [True, True]])
    >>> one = Targets.from_masks(mask[None], np.array([3]))
    >>> one.boxes.tolist(), one.area.tolist(), one.masks().sum().item()
    ([[0.0, 0.0, 2.0, 2.0]], [3.0], 3)
    """

    height: int
    width: int
    bbox: Float64[np.ndarray, "object 4"]
    labels: Int64[np.ndarray, " object"]
    crowd: Bool[np.ndarray, " object"]
    area: Float64[np.ndarray, " object"]
    rles: Masks | None

    @classmethod
    def from_masks(
        cls, masks: Bool[np.ndarray, "object height width"], labels: Int64[np.ndarray, " object"]
    ) -> "Targets":
        """Make targets from masks, with the boxes tight around them; no object is a crowd."""
        rles = tuple(Rle.from_mask(mask) for mask in masks)
        corners = np.array([rle.box for rle in rles]).reshape(-1, 4)
        bbox = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        area = np.array([rle.area for rle in rles], np.float64)
        height, width = masks.shape[1:]
        return cls(height, width, bbox, labels, np.zeros(len(rles), bool), area, rles)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def boxes(self) -> Float32[np.ndarray, "object 4"]:
        """The boxes (x0, y0, x1, y1) in pixels, cut off at the image's edges."""
        corners = np.concatenate([self.bbox[:, :2], self.bbox[:, :2] + self.bbox[:, 2:]], axis=1)
        edges = np.array([self.width, self.height] * 2, np.float64)
        return np.clip(corners, 0, edges).astype(np.float32)

    def masks(self, size: tuple[int, int] | None = None) -> Bool[np.ndarray, "object row column"]:
        """The masks, at a size (height, width) or at the image's.

        Args:
            size: (height, width) of the result. It bounds the memory, however large the image is.

        Raises:
            InputError: the set has no masks.
        """
        return stack_masks(tuple(self._require_rles()), size or (self.height, self.width))

    def segmentations(self) -> list[Any]:
        """Each mask in COCO's format: as its file has it, or as run lengths.

        Raises:
            InputError: the set has no masks.
        """
        rles = self._require_rles()
        if isinstance(rles, Segmented):
            return rles.segmentations()
        return [rle.to_coco() for rle in rles]

    def take(self, objects: Bool[np.ndarray, " object"] | Int64[np.ndarray, " taken"]) -> "Targets":
        """Select objects, by index or by mask, such as `~targets.crowd`."""
        rows = np.arange(len(self))[objects]
        return replace(
            self,
            bbox=self.bbox[rows],
            labels=self.labels[rows],
            crowd=self.crowd[rows],
            area=self.area[rows],
            rles=None if self.rles is None else tuple(self.rles[row] for row in rows.tolist()),
        )

    def paint_objects(self, size: tuple[int, int] | None = None) -> Int64[np.ndarray, "row column"]:
        """The object that each pixel belongs to, -1 where there is none.

        Where objects overlap, the smallest one counts. Crowds lie below all objects.

        Args:
            size: (height, width) of the result; the image's unless given.

        Raises:
            InputError: the set has no masks.

        >>> masks = np.array([[[True, False]], [[True, True]]])
        >>> Targets.from_masks(masks, np.array([0, 1])).paint_objects().tolist()
        [[0, 1]]
        """
        rles = self._require_rles()
        painted = np.full(size or (self.height, self.width), -1, np.int64)
        for row in np.lexsort((-self.area, ~self.crowd)).tolist():
            painted[rles[row].to_mask(painted.shape)] = row
        return painted

    def paint_labels(self, size: tuple[int, int] | None = None) -> Int64[np.ndarray, "row column"]:
        """The category of each pixel plus 1, 0 for the background; overlaps as in
        `paint_objects`."""
        return np.concatenate([self.labels + 1, np.zeros(1, np.int64)])[self.paint_objects(size)]

    def _require_rles(self) -> Masks:
        if self.rles is None:
            raise InputError(
                "The objects have boxes and no masks: give annotations with a segmentation of each"
                " object."
            )
        return self.rles


@runtime_checkable
class ObjectSource(Protocol):
    """Where the objects of images come from: it gives those of a row.

    A source must survive a fork and a pickle.
    """

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the categories."""
        ...

    @property
    def has_masks(self) -> bool:
        """Whether each object has a mask; if not, none has."""
        ...

    @property
    def is_coco(self) -> bool:
        """Whether the categories are COCO's 80, or some of these, so that scores are by COCO's
        areas."""
        ...

    @property
    def left_out(self) -> tuple[tuple[str, int], ...]:
        """How many annotations were left out for each reason, most first."""
        ...

    def targets(self, row: int) -> Targets:
        """Return the objects of a row."""
        ...

    def digests(self, rows: Sequence[int]) -> list[str]:
        """Return the digest of the objects of each row: equal for equal objects, on any machine."""
        ...
