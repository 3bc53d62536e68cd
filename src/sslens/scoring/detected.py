"""What a detector found in an image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Bool, Float, Int64

from sslens.data.rle import import_hotcoco

#: a mask as COCO writes it: "size" (height, width) and "counts", compressed
CocoMask = Mapping[str, Any]


@final
@dataclass(frozen=True, eq=False)
class Detected:
    """The objects that a detector found in one image, in pixels of the image as it was annotated.

    Attributes:
        boxes: (x0, y0, x1, y1) of each object.
        scores: how sure the detector is of each object.
        labels: category of each object, an index into the set's categories.
        masks: mask of each object (`encode_masks`); None if there are none.
    """

    boxes: Float[np.ndarray, "object 4"]
    scores: Float[np.ndarray, " object"]
    labels: Int64[np.ndarray, " object"]
    masks: Sequence[CocoMask] | None = None

    def __len__(self) -> int:
        return len(self.scores)


def encode_masks(masks: Bool[np.ndarray, "object height width"]) -> list[CocoMask]:
    """Encode masks as COCO's compressed run lengths.

    Raises:
        InputError: hotcoco is not installed.

    >>> encode_masks(np.array([[[False, True], [True, True]]]))
    [{'size': [2, 2], 'counts': b'13'}]
    """
    if not len(masks):
        return []
    columns = np.asfortranarray(masks.transpose(1, 2, 0).view(np.uint8))
    return list(import_hotcoco().mask.encode(columns))
