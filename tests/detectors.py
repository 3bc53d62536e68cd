"""Detectors as a study has them, made up: what they find is near the objects of a few scenes."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from sslens.comparisons.detectors import (
    KINDS,
    MEASURES,
    DetectorSet,
    Found,
    TrainedDetector,
    TrainingLength,
)
from sslens.data.detections import DetectionSet
from sslens.data.scene_objects import SceneObjects, scene_objects
from sslens.statistics.bootstrap import Bootstrapped

DRAWS = 60


@functools.cache
def scenes() -> DetectionSet:
    return scene_objects(30, seed=1)


def as_coco(images: DetectionSet) -> DetectionSet:
    """The same images as if their categories were COCO's."""
    objects = images.images.objects
    assert isinstance(objects, SceneObjects)
    return DetectionSet.of(replace(images.images, objects=replace(objects, is_coco=True)))


def find_near(images: DetectionSet, share: float, seed: int) -> Found:
    """Detections that are right for about a share of the objects."""
    rng = np.random.default_rng(seed)
    objects = images.objects
    corners = np.concatenate([objects.bbox[:, :2], objects.bbox[:, :2] + objects.bbox[:, 2:]], 1)
    right = rng.random(len(corners)) < share
    moved = np.where(right[:, None], corners, (corners + 40) % 64).astype(np.float32)
    scores = rng.uniform(0.3, 1.0, len(corners)).astype(np.float32)
    order = np.lexsort((-scores, objects.image))
    return Found(objects.image[order], moved[order], scores[order], objects.labels[order])


def make_detectors(
    levels: Mapping[str, float | Mapping[str, float]],
    *,
    noise: float = 0.02,
    own: float = 0.001,
    seed: int = 0,
    coco: bool = False,
) -> DetectorSet:
    """Detectors of models with these average precisions, the same for all measures or by measure.

    The draws of all models move together by `noise`, and by `own` each for itself.
    """
    images = as_coco(scenes()) if coco else scenes()
    shared = np.random.default_rng(seed).normal(0, noise, (len(KINDS), len(MEASURES), DRAWS))
    detectors = {}
    for number, (name, level) in enumerate(levels.items()):
        by_measure = level if isinstance(level, Mapping) else dict.fromkeys(MEASURES, level)
        values = np.tile([by_measure.get(measure, 0.3) for measure in MEASURES], (len(KINDS), 1))
        rng = np.random.default_rng([seed, number, round(1e4 * float(values.sum()))])
        draws = values[..., None] + shared + rng.normal(0, own, shared.shape)
        detectors[name] = TrainedDetector(
            Bootstrapped(values, draws, ("made up", DRAWS), len(images)),
            np.tile(values[:, :1], (1, len(images.categories))),
            find_near(images, float(values[0, 0]), number),
            TrainingLength(100, 4, 16, 12.5, 0.75, 0.01),
            {"made": name},
        )
    return DetectorSet(
        detectors, images, "terciles of relative area", "frozen; the last block", coco
    )


def levels_of(names: Sequence[str], start: float = 0.3) -> dict[str, float]:
    """A level for each of these models, each higher than the one before."""
    return {name: start + 0.05 * number for number, name in enumerate(names)}
