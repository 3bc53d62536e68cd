"""Images decoded once for all the models that see them in the same way."""

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import final

import numpy as np
from jaxtyping import UInt8

from sslens.data.images import ImageSet
from sslens.data.transform import EvalTransform
from sslens.store import room, scratch


@final
class Decoded:
    """The images of a set as an evaluation transform crops them, each decoded when it is first
    asked for.

    They are kept for the next model in a file that has no name, so that a killed run leaves none
    behind: 150 kB an image at 224 px. Where they would take more than half of the free disk, or
    nobody comes after (`keep` is False), they are not kept.

    >>> from sslens.data.images import from_arrays
    >>> images = from_arrays(np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3))
    >>> Decoded(images, EvalTransform(resize=2, crop=2)).pixels([1])[0, 0].tolist()
    [[12, 13, 14], [15, 16, 17]]
    """

    def __init__(self, images: ImageSet, transform: EvalTransform, *, keep: bool = True) -> None:
        self.images = images
        self.transform = transform
        self._known = np.zeros(len(images), bool)
        shape = (len(images), transform.crop, transform.crop, 3)
        self._pixels = (
            scratch(shape, "uint8") if keep and int(np.prod(shape)) < room() // 2 else None
        )

    def pixels(
        self, rows: Sequence[int], threads: Executor | None = None
    ) -> UInt8[np.ndarray, "image crop crop 3"]:
        """The cropped images of these rows; those not decoded yet are decoded, by the threads if
        there are any."""
        if self._pixels is None:
            return np.stack(list((threads.map if threads else map)(self._cropped, rows)))
        unknown = [row for row in rows if not self._known[row]]
        for row, cropped in zip(
            unknown, (threads.map if threads else map)(self._cropped, unknown), strict=True
        ):
            self._pixels[row] = cropped
        self._known[unknown] = True
        return np.array(self._pixels[list(rows)])

    def _cropped(self, row: int) -> UInt8[np.ndarray, "crop crop 3"]:
        return self.transform.cropped(self.images.image(row))
