"""Sheets: many images as one picture."""

import numpy as np
from jaxtyping import UInt8

#: pixels between two images, and the least side of an image on a sheet
GAP, SIDE = 2, 64


def arrange_sheet(
    images: UInt8[np.ndarray, "row column height width 3"],
) -> UInt8[np.ndarray, "_ _ 3"]:
    """Lay images out in rows and columns on white; small ones are enlarged, pixel by pixel.

    >>> arrange_sheet(np.zeros((2, 3, 32, 32, 3), np.uint8)).shape  # 2 × (64 + 2) + 2 rows
    (134, 200, 3)
    """
    factor = max(1, -(-SIDE // images.shape[2]))
    tiles = images.repeat(factor, axis=2).repeat(factor, axis=3)
    rows, columns, height, width, _ = tiles.shape
    sheet = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3), 255, np.uint8)
    inside = sheet[GAP:, GAP:].reshape(rows, height + GAP, columns, width + GAP, 3)
    inside[:, :height, :, :width] = tiles.transpose(0, 2, 1, 3, 4)
    return sheet
