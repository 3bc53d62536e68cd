"""Large-scale jitter: a random scale of an image, and a random part of it where it is larger than
the square that a detector takes (Ghiasi et al., 2021, arXiv:2012.07177)."""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from sslens.data.placing import Placement
from sslens.data.transform import require_rgb, resampling
from sslens.errors import InputError


def place_at(
    size: tuple[int, int],
    side: int,
    *,
    scale: float = 1.0,
    at: tuple[float, float] = (0.0, 0.0),
    flip: bool = False,
) -> Placement:
    """Return the place of an image in a square: its longer side becomes `scale` · `side` pixels.

    A smaller image lies in the upper left corner; of a larger one a part is shown.

    Args:
        size: width and height of the image.
        side: the side of the square.
        scale: the longer side of the resized image, as a share of the square's.
        at: which part is shown, as shares, from 0 to below 1, of the pixels that are cut off.
        flip: whether left and right of the square are exchanged.

    Raises:
        InputError: a size, or the scale, is not above 0.

    >>> place_at((200, 100), 64, scale=2.0, at=(0.5, 0.0))
    Placement(size=(200, 100), resized=(128, 64), left=32, upper=0, side=64, flipped=False)
    """
    if min(size) < 1 or side < 1 or not scale > 0:
        raise InputError(
            f"An image of {size[0]} × {size[1]} px at scale {scale:g} has no place in a square of"
            f" {side} px",
            mend="give sizes and scales above 0",
        )
    factor = scale * side / max(size)
    width, height = (max(1, int(own * factor + 0.5)) for own in size)
    left, upper = int(at[0] * _count_cuts(width, side)), int(at[1] * _count_cuts(height, side))
    return Placement(size, (width, height), left, upper, side, flip)


def _count_cuts(own: int, side: int) -> int:
    """The number of ways in which pixels can be cut off."""
    return max(0, own - side) + 1


def shown(place: Placement) -> tuple[int, int]:
    """Return the width and height of the part of a square that shows something of the image, before
    it is flipped.

    >>> shown(place_at((200, 100), 64))
    (64, 32)
    """
    width, height = place.resized
    return min(width - place.left, place.side), min(height - place.upper, place.side)


def place_pixels(
    image: Image.Image, place: Placement, fill: tuple[int, int, int], interpolation: str
) -> UInt8[np.ndarray, "side side 3"]:
    """Resize an image and put it into its square, the rest of which has one colour.

    Args:
        image: in mode RGB.
        place: where it lies.
        fill: the colour of the rest.
        interpolation: "bicubic" or "bilinear", as in `EvalTransform`.

    >>> image = Image.fromarray(np.full((1, 2, 3), 9, np.uint8))
    >>> place_pixels(image, place_at((2, 1), 2), (0, 0, 0), "bilinear")[:, :, 0].tolist()
    [[9, 9], [0, 0]]
    """
    resized = require_rgb(image)
    if image.size != place.resized:
        resized = image.resize(place.resized, resampling(interpolation))
    width, height = shown(place)
    square = np.empty((place.side, place.side, 3), np.uint8)
    square[:] = fill
    square[:height, :width] = np.asarray(resized)[place.upper :, place.left :][:height, :width]
    return np.ascontiguousarray(square[:, ::-1]) if place.flipped else square


def place_masks(
    masks: Bool[np.ndarray, "object height width"], place: Placement
) -> Bool[np.ndarray, "object side side"]:
    """Put masks into the square of their image.

    Args:
        masks: at the size of the resized image, as `Targets.masks` draws them.
        place: where the image lies.
    """
    return replace(place, size=place.resized).sample(masks, False)
