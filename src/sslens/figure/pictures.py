"""A picture as a panel: its pixels, and outlines of what is in it."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8
from PIL import Image

#: what the text of a picture begins with
PREFIX = "data:image/"
#: pictures of more pixels are written as JPEG, which is a sixth as large for a photograph
LOSSLESS = 128 * 128


@dataclass(frozen=True)
class Outline:
    """A rectangle on a picture.

    Attributes:
        name: the name in the legend; outlines of one name have one style in all panels.
        label: what is in the rectangle, for the hover text.
        box: left, upper, right and lower edge, in pixels of the picture.
    """

    name: str
    label: str
    box: tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture, with outlines on it.

    Attributes:
        title: the panel's title.
        pixels: the picture, in RGB.
        outlines: the outlines, drawn in this order.
        facets: what the picture shows, by the name of the choice; as of a heat map.

    >>> Picture("scene", np.zeros((2, 4, 3), np.uint8)).ratio
    0.5
    """

    title: str
    pixels: UInt8[np.ndarray, "row column 3"]
    outlines: tuple[Outline, ...] = ()
    x_label: str = ""
    y_label: str = ""
    facets: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def ratio(self) -> float:
        """Height over width."""
        return self.size[0] / self.size[1]


def encode_picture(pixels: UInt8[np.ndarray, "row column 3"]) -> str:
    """Write a picture as text: a data URL that holds a PNG file, or of a picture of more than 128 ×
    128 pixels a JPEG file.

    >>> pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    >>> bool((decode_picture(encode_picture(pixels)) == pixels).all())
    True
    """
    file, image = io.BytesIO(), Image.fromarray(pixels)
    kind = "png" if image.width * image.height <= LOSSLESS else "jpeg"
    image.save(file, kind, quality=85)
    return f"{PREFIX}{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def decode_picture(text: str) -> UInt8[np.ndarray, "row column 3"]:
    """Read a picture that `encode_picture` wrote.

    Raises:
        ValueError: the text holds no picture.
    """
    if not text.startswith(PREFIX):
        raise ValueError("the text holds no picture")
    with Image.open(io.BytesIO(base64.b64decode(text.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGB"))
