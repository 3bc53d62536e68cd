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

    The crops are kept on disk for the next model, 150 kB an image at 224 px, in a file without a
    name, so that a killed run leaves none behind. They are not kept if they would take more than
    half of the free disk, or if there is no next model (`keep` is False).

    >>> from sslens.data.images import from_arrays
    >>> images = from_arrays(np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3))
    >>> Decoded(images, EvalTransform(resize=2, crop=2)).pixels([1])[0, 0].tolist()
    [[12, 13, 14], [15, 16, 17]]
    """

    def __init__(self, images: ImageSet, transform: EvalTransform, *, keep: bool = True) -> None:
        self.images = images
        self.transform = transform
        self._is_decoded = np.zeros(len(images), bool)
        shape = (len(images), transform.crop, transform.crop, 3)
        fits = keep and int(np.prod(shape)) < room() // 2
        self._pixels = scratch(shape, "uint8") if fits else None

    def pixels(
        self, rows: Sequence[int], threads: Executor | None = None
    ) -> UInt8[np.ndarray, "image crop crop 3"]:
        """Return the cropped images of these rows.

        Images that are not on disk yet are decoded first, by the threads if there are any.
        """
        decode_all = threads.map if threads else map
        if self._pixels is None:
            return np.stack(list(decode_all(self._decode, rows)))
        new = [row for row in rows if not self._is_decoded[row]]
        for row, crop in zip(new, decode_all(self._decode, new), strict=True):
            self._pixels[row] = crop
        self._is_decoded[new] = True
        return np.array(self._pixels[list(rows)])

    def _decode(self, row: int) -> UInt8[np.ndarray, "crop crop 3"]:
        return self.transform.crop_image(self.images.image(row))
