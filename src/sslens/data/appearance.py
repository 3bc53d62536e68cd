"""What any image looks like, in a few numbers: mean colour, luminance, local contrast."""

import numpy as np
from jaxtyping import Float64

from sslens.data.decoded import Decoded
from sslens.data.images import ImageSet
from sslens.data.transform import EvalTransform

#: raised when a number changes; kept numbers of another version are not used
VERSION = 1
NAMES = ("mean colour", "luminance", "local contrast")
#: images are looked at as the raw pixels of the control are: the central square at 32 × 32
VIEW = EvalTransform(resize=32, crop=32, interpolation="bilinear")
#: weights of red, green and blue in luminance (ITU-R BT.709), here of values as they are stored
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
#: side in pixels of the squares in which contrast is measured
CELL = 4
#: images that are decoded at a time
BLOCK = 256


def measure_appearance(images: ImageSet) -> dict[str, Float64[np.ndarray, "image part"]]:
    """Measure the mean colour, luminance and local contrast of every image, in the order of the
    set.

    Mean colour is the mean of red, green and blue over pixels, luminance Y their mean weighted by
    0.2126, 0.7152 and 0.0722, and local contrast the mean over squares of 4 × 4 pixels of the
    standard deviation of Y in the square; all of values from 0 to 1.

    Returns:
        By name, in the order of `NAMES`, an array of one column, of three for the mean colour.

    >>> from sslens.data.images import from_arrays
    >>> pixels = np.zeros((1, 32, 32, 3), np.uint8)
    >>> pixels[0, :, ::2] = 255, 51, 0  # every second column red with some green, the others black
    >>> numbers = measure_appearance(from_arrays(pixels))
    >>> numbers["mean colour"].round(3).tolist()
    [[0.5, 0.1, 0.0]]
    """
    decoded = Decoded(images, VIEW, keep=False)
    parts = []
    for start in range(0, len(images), BLOCK):
        rows = range(start, min(start + BLOCK, len(images)))
        parts.append(_measure(decoded.pixels(rows) / 255))
    return {name: np.concatenate([part[name] for part in parts]) for name in NAMES}


def _measure(
    pixels: Float64[np.ndarray, "image side side 3"],
) -> dict[str, Float64[np.ndarray, "image part"]]:
    count, side = pixels.shape[:2]
    luminance = pixels @ LUMINANCE
    cells = luminance.reshape(count, side // CELL, CELL, side // CELL, CELL)
    return {
        "mean colour": pixels.mean((1, 2)),
        "luminance": luminance.mean((1, 2))[:, None],
        "local contrast": cells.std((2, 4)).mean((1, 2))[:, None],
    }
