"""Sizes of objects: COCO's areas in pixels, and thirds of relative area for all other images."""

from dataclasses import dataclass
from typing import final

import numpy as np

from sslens.data.detections import DetectionSet
from sslens.errors import InputError

#: an upper end that no area reaches, as pycocotools has it
_NO_END = 1e5**2
#: the longer side of most images, in pixels, under which COCO's areas do not fit: its photographs
#: have 640
_SMALLEST = 400


@final
@dataclass(frozen=True)
class AreaBins:
    """Three bins of size, by the areas that divide them; an area on an edge counts in both bins.

    Attributes:
        lower: the area between small and medium.
        upper: the area between medium and large.
        relative: whether areas are shares of their image; if not, they are in pixels.

    >>> COCO_AREAS.names
    ('small', 'medium', 'large')
    """

    lower: float
    upper: float
    relative: bool

    @property
    def names(self) -> tuple[str, str, str]:
        """What the bins are called: COCO's names belong to COCO's areas alone."""
        if self.relative:
            return ("smallest third", "middle third", "largest third")
        return ("small", "medium", "large")

    @property
    def ranges(self) -> list[list[float]]:
        """The lower and upper end of all areas, and of each bin."""
        return [
            [0.0, _NO_END],
            [0.0, self.lower],
            [self.lower, self.upper],
            [self.upper, _NO_END],
        ]


#: COCO's: 32 × 32 and 96 × 96 pixels
COCO_AREAS = AreaBins(32.0**2, 96.0**2, relative=False)


def choose_areas(train: DetectionSet) -> AreaBins:
    """Choose bins of size: COCO's on COCO's photographs, elsewhere, and where these are shrunk, the
    thirds of the training objects by relative area.

    COCO's areas are of photographs of 640 pixels: in images of 64 pixels every object is small. The
    thirds are fixed on the images that models are trained on, so that they do not depend on what is
    scored.

    Raises:
        InputError: the images hold no object.

    >>> from sslens.data.scene_objects import scene_objects
    >>> bins = choose_areas(scene_objects(8))
    >>> bins.relative, 0 < bins.lower < bins.upper < 0.3
    (True, True)
    """
    objects = train.objects
    if train.is_coco and np.median(objects.sizes.max(axis=1)) >= _SMALLEST:
        return COCO_AREAS
    shares = objects.relative_area[~objects.crowd]
    if not len(shares):
        raise InputError(f"{train.name} holds no object: give images with objects to train on.")
    lower, upper = np.quantile(shares, [1 / 3, 2 / 3])
    return AreaBins(float(lower), float(upper), relative=True)
