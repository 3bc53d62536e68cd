"""Where the places of an image lie in the square that a model takes: boxes and masks go there and
back."""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor


@final
@dataclass(frozen=True)
class Placement:
    """The place of one image in the square that a model takes.

    A point (x, y) of the image, in pixels from the upper left corner, lies at (x · w′ / w − left, y
    · h′ / h − upper) in the square; where the square is flipped, x is then taken from its right
    side.

    Attributes:
        size: the width and height of the image, in pixels.
        resized: its width and height after resizing.
        left, upper: the pixels of the resized image that are cut off on these sides.
        side: the side of the square, in pixels.
        flipped: whether left and right are exchanged.

    >>> place = Placement((8, 4), (4, 2), left=1, upper=0, side=2, flipped=True)
    >>> boxes = torch.tensor([[2.0, 0.0, 4.0, 4.0]])
    >>> place.boxes(boxes).tolist()  # 2 · 4/8 − 1 = 0 and 1, and from the right side 1 and 2
    [[1.0, 0.0, 2.0, 2.0]]
    >>> torch.equal(place.boxes_back(place.boxes(boxes)), boxes)
    True
    """

    size: tuple[int, int]
    resized: tuple[int, int]
    left: int
    upper: int
    side: int
    flipped: bool = False

    def boxes(self, boxes: Float[Tensor, "box 4"]) -> Float[Tensor, "box 4"]:
        """Return boxes [left, upper, right, lower] of the image in pixels of the square; they are
        not clipped to it."""
        scale, shift = self._affine(boxes)
        return self._mirror(boxes * scale - shift)

    def boxes_back(self, boxes: Float[Tensor, "box 4"]) -> Float[Tensor, "box 4"]:
        """Return boxes of the square in pixels of the image; they are not clipped to it."""
        scale, shift = self._affine(boxes)
        return (self._mirror(boxes) + shift) / scale

    def sample(
        self, values: Shaped[np.ndarray, "*other height width"], outside: int | bool
    ) -> Shaped[np.ndarray, "*other side side"]:
        """Return a mask or a map of labels as the square shows it, by the nearest pixel.

        Args:
            values: the image's values, one a pixel.
            outside: the value of places of the square that show nothing of the image.
        """
        columns, rows = self.columns, self.rows
        seen = values[..., np.clip(rows, 0, None)[:, None], np.clip(columns, 0, None)]
        shown = (rows >= 0)[:, None] & (columns >= 0)
        return np.where(shown, seen, np.asarray(outside, values.dtype))

    @property
    def columns(self) -> Int64[np.ndarray, " side"]:
        """The image's column that each column of the square shows; −1 for none."""
        columns = _nearest(self.size[0], self.resized[0], self.left, self.side)
        return columns[::-1].copy() if self.flipped else columns

    @property
    def rows(self) -> Int64[np.ndarray, " side"]:
        """The image's row that each row of the square shows; −1 for none."""
        return _nearest(self.size[1], self.resized[1], self.upper, self.side)

    def _affine(self, like: Tensor) -> tuple[Tensor, Tensor]:
        scale = [new / old for new, old in zip(self.resized, self.size, strict=True)]
        return like.new_tensor(scale * 2), like.new_tensor([self.left, self.upper] * 2)

    def _mirror(self, boxes: Tensor) -> Tensor:
        if not self.flipped:
            return boxes
        left, upper, right, lower = boxes.unbind(1)
        return torch.stack([self.side - right, upper, self.side - left, lower], 1)


def _nearest(size: int, resized: int, cut: int, side: int) -> Int64[np.ndarray, " side"]:
    """The pixel of the image in which the centre of each pixel of the square lies; −1 outside."""
    place = np.arange(side) + cut
    pixel = np.floor((place + 0.5) * size / resized).astype(np.int64)
    return np.where((place >= 0) & (place < resized), np.minimum(pixel, size - 1), -1)
