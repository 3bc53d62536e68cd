"""Scenes of several objects as a set of images with boxes and masks, painted when they are asked
for."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from sslens.counts import spell_count
from sslens.data.detections import DetectionSet
from sslens.data.images import ImageSet
from sslens.data.scenes import CLASSES, VERSION, detection_scene
from sslens.data.targets import Targets
from sslens.errors import InputError
from sslens.store import digest

#: scenes that are kept, 80 MB at most: painting one takes ten milliseconds
_KEPT = 4096


@functools.lru_cache(maxsize=_KEPT)
def _paint(seed: int, index: int) -> tuple[UInt8[np.ndarray, "64 64 3"], Targets]:
    scene = detection_scene(seed, index)
    return scene.image, Targets.from_masks(scene.masks, scene.labels)


@final
@dataclass(frozen=True)
class SceneObjects:
    """The pictures and objects of scenes `start`, `start + 1`, … of a seed."""

    seed: int
    start: int
    categories: tuple[str, ...] = CLASSES
    has_masks: bool = True
    is_coco: bool = False
    left_out: tuple[tuple[str, int], ...] = ()

    def image(self, row: int) -> Image.Image:
        """Paint scene `start + row`."""
        return Image.fromarray(_paint(self.seed, self.start + row)[0])

    def targets(self, row: int) -> Targets:
        """Return the objects of scene `start + row`."""
        return _paint(self.seed, self.start + row)[1]

    def digests(self, rows: Sequence[int]) -> list[str]:
        """Hash the generator's version, the seed and the index, which decide a scene's pixels and
        objects."""
        return [
            digest({"detection": VERSION, "seed": self.seed, "index": self.start + int(row)})
            for row in rows
        ]


def scene_objects(count: int, seed: int = 0, start: int = 0) -> DetectionSet:
    """Make a set of the scenes `start` to `start + count - 1` of a seed, of 1 to 6 objects each.

    Boxes are tight around the visible part of an object, and masks are that part
    (`scenes.detection_scene`).

    Raises:
        InputError: the count is less than 1, or the seed or start is negative.

    >>> scenes = scene_objects(2, seed=0, start=5)
    >>> scenes.ids[0].partition("/")[2], [scenes.categories[x] for x in scenes.targets(0).labels]
    ('seed0/000005', [...])
    """
    if count < 1 or start < 0 or seed < 0:
        raise InputError(
            f"{spell_count(count, 'scene')} of seed {seed} from {start} on: ask for at least 1,"
            " from a start and with a seed of at least 0."
        )
    name = f"scenes-detection-v{VERSION}"
    ids = tuple(f"{name}/seed{seed}/{row:06d}" for row in range(start, start + count))
    source = SceneObjects(seed, start)
    return DetectionSet(ImageSet(name, ids, None, (), source, objects=source))
