"""Which detections are true: what the bootstrap over images needs of a score."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, final

import numpy as np
from jaxtyping import Bool, Float64, Int64

#: IoU thresholds, and the recalls at which precision is read; as pycocotools has them
THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
#: bytes of the weights that are worked on at a time
_ROOM = 1 << 24


@final
@dataclass(frozen=True, eq=False)
class Matches:
    """The detections of all images with what they were matched with, by size and IoU threshold.

    Sizes are all, small, medium and large. A detection counts neither as true nor as false where
    it is ignored: matched with a crowd or with an object of another size, or unmatched and of
    another size itself.

    Attributes:
        image: position of each detection's image. Detections are in the order of their
            categories, and of falling score within a category.
        labels: category of each detection.
        true: whether each detection is matched.
        false: whether each detection counts as false.
        object_image: position of each annotated object's image.
        object_labels: category of each object.
        counted: whether each object is to be found, by size.
    """

    image: Int64[np.ndarray, " detection"]
    labels: Int64[np.ndarray, " detection"]
    true: Bool[np.ndarray, "size threshold detection"]
    false: Bool[np.ndarray, "size threshold detection"]
    object_image: Int64[np.ndarray, " object"]
    object_labels: Int64[np.ndarray, " object"]
    counted: Bool[np.ndarray, "size object"]

    def average_precisions(
        self, weights: Float64[np.ndarray, "image draw"], categories: int
    ) -> Float64[np.ndarray, "size threshold category draw"]:
        """Compute the average precision of weighted images: one that is drawn twice counts as two.

        AP is the mean over the recalls 0, 0.01, …, 1 of the highest precision at this recall or a
        higher one (pycocotools).

        Args:
            weights: how often each image is taken in each draw.
            categories: number of categories.

        Returns:
            AP; nan where a draw holds no object of the category and size.
        """
        sizes, thresholds, _ = self.true.shape
        draws = weights.shape[1]
        precisions = np.full((sizes, thresholds, categories, draws), np.nan)
        edges = np.searchsorted(self.labels, np.arange(categories + 1))
        for label in np.unique(self.object_labels).tolist():
            part = slice(int(edges[label]), int(edges[label + 1]))
            objects = np.flatnonzero(self.object_labels == label)
            rows = max(1, len(objects), part.stop - part.start)
            step = max(1, _ROOM // (8 * rows))
            for start in range(0, draws, step):
                chunk = slice(start, start + step)
                ours = np.ascontiguousarray(weights[:, chunk])
                totals = self.counted[:, objects] @ ours[self.object_image[objects]]
                of_detections = ours[self.image[part]]
                for size in range(sizes):
                    precisions[size, :, label, chunk] = _compute_precisions(
                        self.true[size, :, part],
                        self.false[size, :, part],
                        of_detections,
                        totals[size],
                    )
        return precisions


def _compute_precisions(
    true: Bool[np.ndarray, "threshold detection"],
    false: Bool[np.ndarray, "threshold detection"],
    weights: Float64[np.ndarray, "detection draw"],
    total: Float64[np.ndarray, " draw"],
) -> Float64[np.ndarray, "threshold draw"]:
    """AP of one category and size; `total` is the weighted number of objects to be found.

    Precision falls at a false detection, so that the highest precision at a recall or a higher one
    is always that of a true detection: only these are looked at.
    """
    result = np.zeros((len(true), weights.shape[1]))
    last = np.zeros(true.shape[1], bool)
    seen = np.zeros((0, weights.shape[1]))
    with np.errstate(divide="ignore", invalid="ignore"):
        for row in range(len(true)):
            is_true = true[row]
            taken = is_true | false[row]
            if not np.array_equal(taken, last):
                seen, last = np.cumsum(weights[taken], axis=0), taken
            hits = np.cumsum(weights[is_true], axis=0)
            if not len(hits):
                continue
            precision = hits / seen[is_true[taken]]
            np.nan_to_num(precision, copy=False)  # where no detection up to here was drawn
            highest = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
            reached = np.searchsorted(RECALLS, hits / total, "right")
            gained = np.diff(reached, axis=0, prepend=0)
            result[row] = np.einsum("hd,hd->d", highest, gained) / len(RECALLS)
    return np.where(total > 0, result, np.nan)


def read_matches(
    entries: Sequence[dict[str, Any]],
    ranges: Sequence[Sequence[float]],
    detections: "Columns",
    objects: "Columns",
) -> Matches:
    """Read the matches of hotcoco's `eval_imgs`, one entry an image, category and size.

    Args:
        entries: the entries.
        ranges: lower and upper area of each size.
        detections: image, category and score of each detection, by its id less 1.
        objects: image and category of each object, by its id less 1.
    """
    shape = (len(ranges), len(THRESHOLDS), len(detections.image))
    matched, ignored = np.zeros(shape, bool), np.ones(shape, bool)
    counted = np.zeros((len(ranges), len(objects.image)), bool)
    for size, ends in enumerate(ranges):
        ours = [entry for entry in entries if list(entry["aRng"]) == list(ends)]
        ids = _join(ours, "dtIds") - 1
        for row in range(len(THRESHOLDS)):
            matched[size, row, ids] = _join_row(ours, "dtMatched", row)
            ignored[size, row, ids] = _join_row(ours, "dtIgnore", row)
        counted[size, _join(ours, "gtIds") - 1] = ~_join(ours, "gtIgnore").astype(bool)
    order = np.lexsort((detections.image, -detections.score, detections.labels))
    is_used = np.asarray(~ignored).any(axis=(0, 1))  # not if beyond the most an image may have
    kept = order[np.asarray(is_used)[order]]
    return Matches(
        detections.image[kept],
        detections.labels[kept],
        (matched & ~ignored)[..., kept],
        (~matched & ~ignored)[..., kept],
        objects.image,
        objects.labels,
        counted,
    )


@final
@dataclass(frozen=True, eq=False)
class Columns:
    """Image, category and score of boxes; the scores of annotated objects are 0."""

    image: Int64[np.ndarray, " box"]
    labels: Int64[np.ndarray, " box"]
    score: Float64[np.ndarray, " box"]


def _join(entries: Sequence[dict[str, Any]], key: str) -> Int64[np.ndarray, " box"]:
    return np.fromiter(chain.from_iterable(entry[key] for entry in entries), np.int64)


def _join_row(entries: Sequence[dict[str, Any]], key: str, row: int) -> Bool[np.ndarray, " box"]:
    return np.fromiter(chain.from_iterable(entry[key][row] for entry in entries), bool)
