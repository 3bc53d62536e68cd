"""How well predicted classes of patches match the labelled pixels: intersection over union, by
class and by size of object, and pixel accuracy, with intervals over images."""

import hashlib
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Float64, Int64
from torch import Tensor

from sslens.errors import InputError
from sslens.probes.patches import PatchLabels
from sslens.statistics.draws import GROUPS, Draws
from sslens.statistics.sampled import Sampled


@final
@dataclass(frozen=True, eq=False)
class Overlap:
    """The scores of a segmentation, all at image resolution, with their values without each image.

    Attributes:
        miou: the mean IoU of the classes that the images have.
        accuracy: the share of labelled pixels that are right.
        iou: by class; nan for a class that no image has.
        by_size: mean IoU of the classes that have objects of a size, by size.
        iou_by_size: by size and class.
        sizes: names of the sizes, from the smallest; none if objects are not known.
    """

    miou: Sampled
    accuracy: Sampled
    iou: Sampled
    by_size: Sampled
    iou_by_size: Sampled
    sizes: tuple[str, ...]


def score_patches(
    predicted: Int64[Tensor, "image row column"], labels: PatchLabels, groups: int = GROUPS
) -> Overlap:
    """Score predicted classes of patches at image resolution, upsampled by nearest neighbours.

    All pixels of a patch have the patch's class, so that the pixels of each class in it are all
    that has to be known. Of class c, over all images,

        IoU_c = TP_c / (TP_c + FN_c + FP_c)

    in pixels (Everingham et al., 2010). The mean is over classes that have pixels in the images.

    A pixel that is wrongly called c is of no object of class c, so it has no size. FP_c of an image
    is shared among the image's objects of class c in proportion to their pixels, as Wang et al.
    (2023, arXiv 2310.19252) share it; and in an image without the class, in proportion to the
    pixels of all images. So TP, FN and FP of all sizes (and of pixels of no object) add up to those
    of the class, and a single size has the IoU of the class.

    Intervals are the jackknife's over images (`Draws`); two scores of the same images can be
    subtracted, and the difference is paired.

    Args:
        predicted: class of each patch.
        labels: the labelled pixels.
        groups: the most groups of images that are left out in turn.

    Raises:
        InputError: shapes do not fit, a prediction is none of the classes, or no pixel is labelled.

    >>> import torch
    >>> from sslens.probes.patches import count_labels
    >>> labels = count_labels(torch.tensor([[[0, 0, 0, 1]], [[1, 1, 1, 1]]]), (1, 2), classes=2)
    >>> scores = score_patches(torch.tensor([[[0, 0]], [[1, 1]]]), labels)
    >>> scores.accuracy.value.item(), scores.iou.value.tolist()  # 7 of 8; 3 of 4, and 4 of 5
    (0.875, [0.75, 0.8])
    """
    if tuple(predicted.shape) != (labels.images, *labels.grid):
        raise InputError(
            f"The predictions are {tuple(predicted.shape)}: expected"
            f" {(labels.images, *labels.grid)}, as the labels are."
        )
    if predicted.numel() and not 0 <= int(predicted.min()) <= int(predicted.max()) < labels.classes:
        raise InputError(f"A predicted class is none of the {labels.classes}, from 0 on.")
    if not len(labels.count):
        raise InputError("No pixel of these images is labelled: there is nothing to score by.")
    draws = Draws.of(labels.images, groups)
    return _Pixels.count(predicted, labels).score(draws, labels)


@final
@dataclass(frozen=True, eq=False)
class _Pixels:
    """Pixels by image.

    Attributes:
        true: of each class and size (0: of no object).
        right: those of them that are predicted to be of their class.
        wrong: of other classes that are predicted to be of a class, shared among its sizes.
        stray: the same in images without the class.
    """

    true: Float64[np.ndarray, "image class size"]
    right: Float64[np.ndarray, "image class size"]
    wrong: Float64[np.ndarray, "image class size"]
    stray: Float64[np.ndarray, "image class"]

    @classmethod
    def count(cls, predicted: Int64[Tensor, "image row column"], labels: PatchLabels) -> "_Pixels":
        flat, pixels = predicted.flatten().cpu().numpy(), labels.pixels.numpy()
        patch, label, size, count = (
            part.numpy() for part in (labels.patch, labels.label, labels.size, labels.count)
        )
        shape = labels.images, labels.classes, len(labels.sizes) + 1
        cell = ((patch // labels.places) * shape[1] + label) * shape[2] + size
        true = np.bincount(cell, count, np.prod(shape)).reshape(shape)
        hit = count * (flat[patch] == label)
        right = np.bincount(cell, hit, np.prod(shape)).reshape(shape)
        called = np.arange(len(flat)) // labels.places * shape[1] + flat
        wrong = np.bincount(called, pixels, shape[0] * shape[1]).reshape(shape[:2]) - right.sum(2)
        there = true.sum(2)
        with np.errstate(invalid="ignore"):
            parts = np.where(there[..., None] > 0, true / there[..., None], 0.0)
        return cls(true, right, wrong[..., None] * parts, np.where(there > 0, 0.0, wrong))

    def score(self, draws: Draws, labels: PatchLabels) -> Overlap:
        """Compute all scores, of all images and without each group."""
        images = len(self.true)

        def add(part: np.ndarray) -> np.ndarray:
            sums = draws.sums(part.reshape(images, -1)).reshape(-1, *part.shape[1:])
            return np.moveaxis(sums, 0, -1)

        true, right, wrong, stray = (
            add(part) for part in (self.true, self.right, self.wrong, self.stray)
        )
        there = true.sum(1)
        union = there + wrong.sum(1) + stray
        with np.errstate(invalid="ignore", divide="ignore"):
            iou = np.where(there > 0, right.sum(1) / union, np.nan)
            share = np.where(there[:, None] > 0, true / there[:, None], 0.0)
            union_of_size = true + wrong + stray[:, None] * share
            iou_by_size = np.where(true > 0, right / union_of_size, np.nan)
            accuracy = right.sum((0, 1)) / there.sum(0)
        # sizes first, without the pixels of no object
        iou_by_size, pixels = (np.swapaxes(part[:, 1:], 0, 1) for part in (iou_by_size, true))
        seen = (*draws.drawn, _digest(labels.ids))
        return Overlap(
            _average(iou, union, seen),
            _gather(accuracy, there.sum(0), seen),
            _gather(iou, union, seen),
            _average(iou_by_size, pixels, seen),
            _gather(iou_by_size, pixels, seen),
            labels.sizes,
        )


def _gather(
    values: Float64[np.ndarray, "*cell draw"],
    weights: Float64[np.ndarray, "*cell draw"],
    seen: tuple[Any, ...],
) -> Sampled:
    """Values of all images and without each group, which weighs as it takes from `weights`."""
    with np.errstate(invalid="ignore", divide="ignore"):
        share = 1 - weights[..., 1:] / weights[..., :1]
    none = np.isnan(values[..., :1])
    return Sampled(
        values[..., 0],
        np.where(none, np.nan, values[..., 1:]),
        np.where(none, np.nan, share),
        seen,
        1.0,
    )


def _average(
    values: Float64[np.ndarray, "*row class draw"],
    weights: Float64[np.ndarray, "*row class draw"],
    seen: tuple[Any, ...],
) -> Sampled:
    """The mean over the classes that are there in a draw; nan where none is."""
    fine = np.isfinite(values)
    count = fine.sum(-2)
    mean = np.where(count > 0, np.where(fine, values, 0.0).sum(-2) / np.maximum(count, 1), np.nan)
    there = fine[..., :1]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(there, 1 - weights[..., 1:] / weights[..., :1], 0.0)
        share = share.sum(-2) / there.sum(-2)
    none = np.isnan(mean[..., :1])
    return Sampled(mean[..., 0], np.where(none, np.nan, mean[..., 1:]), share, seen, 1.0)


def _digest(ids: tuple[str, ...] | None) -> str | None:
    """What tells images from others of the same number."""
    return None if ids is None else hashlib.sha256("\0".join(ids).encode()).hexdigest()
