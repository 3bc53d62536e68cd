"""Images without their pixels, for a training that reads something else in their place."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

from PIL import Image

from sslens.data.images import ImageSet


def hide_pixels(images: ImageSet) -> ImageSet:
    """Return the images with one grey pixel in the place of each, and with the digests of the
    images themselves.

    >>> import numpy as np
    >>> from sslens.data.images import from_arrays
    >>> images = from_arrays(np.zeros((2, 8, 8, 3), np.uint8))
    >>> hidden = hide_pixels(images)
    >>> hidden.image(1).size, hidden.digest == images.digest
    ((1, 1), True)
    """
    return replace(images, source=_Hidden(images))


@final
@dataclass(frozen=True)
class _Hidden:
    """Gives one grey pixel for every image, and the digests of the images themselves."""

    images: ImageSet

    def image(self, row: int) -> Image.Image:
        return Image.new("RGB", (1, 1))

    def digests(self, rows: Sequence[int]) -> list[str]:
        return self.images.source.digests(rows)
