"""Decoding: the one place where an image file becomes pixels."""

import functools
import hashlib
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sslens.data.sources import has_heic
from sslens.errors import InputError

#: the readers of Pillow that are used; some of the others run programs
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF")


@functools.cache
def list_formats() -> tuple[str, ...]:
    """List the readers of Pillow that are used, with that of the extra `heic` where it is
    installed."""
    if not has_heic():
        return FORMATS
    import pillow_heif

    pillow_heif.register_heif_opener()
    return (*FORMATS, "HEIF")


def decode(file: Path | io.BytesIO | io.BufferedReader) -> Image.Image:
    """Decode an image file to 8-bit RGB, upright.

    - EXIF's orientation is applied. Of an animation the first frame is taken. Colour profiles are
      ignored, as in training pipelines.
    - Alpha (LA, PA, RGBA, a transparent palette entry or colour) is composited on white, because
      such pictures are made for a white page. Without alpha, the colour that the editor left under
      it would show.
    - 16-bit greyscale v becomes round(v / 257), so that 0xFFFF is 255; Pillow's own conversion
      clips at 255. Of 16-bit colour Pillow reads the high byte.
    - Floating point v becomes round(255 v); values outside [0, 1] are refused. 32-bit integers are
      refused, because their range is not known.
    - CMYK and YCCK, Adobe's inverted JPEGs included, are converted by Pillow.

    Raises:
        InputError: the file cannot be decoded to its end, or has more than Pillow's
            `MAX_IMAGE_PIXELS` pixels.

    >>> file = io.BytesIO()
    >>> Image.fromarray(np.full((2, 2), 0x8080, np.uint16)).save(file, "png")
    >>> decode(file).getpixel((0, 0))  # 32896 / 257
    (128, 128, 128)
    """
    try:
        return read_rgb(file)
    except Exception as error:  # Pillow's readers raise struct.error, SyntaxError, KeyError, …
        name = file if isinstance(file, Path) else getattr(file, "name", "the image")
        raise InputError(
            f"{name} cannot be decoded ({explain_error(error)}): repair it or leave it out."
        ) from error


def read_rgb(file: Path | io.BytesIO | io.BufferedReader) -> Image.Image:
    """Decode as `decode` does, but raise what Pillow's reader raises; `explain_error` puts it into
    words.

    >>> file = io.BytesIO()
    >>> Image.new("CMYK", (1, 1)).save(file, "tiff")
    >>> read_rgb(file).getpixel((0, 0))  # no ink
    (255, 255, 255)
    """
    return _read(file, whole=True)[0]


class Look(NamedTuple):
    """What was seen of an image when its file was checked: equal of two files whose pixels are.

    Attributes:
        size: width and height as the file has them.
        whole: whether all pixels were seen; of a JPEG only the mean of each block was.
        digest: SHA-256 of what was seen (`hash_pixels`).
    """

    size: tuple[int, int]
    whole: bool
    digest: bytes


def hash_pixels(image: Image.Image) -> bytes:
    """The SHA-256 of the size and the pixels of an image of mode RGB."""
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).digest()


def verify(file: Path | io.BytesIO | io.BufferedReader) -> Look:
    """Decode a file to its end, and raise what `read_rgb` raises; returns what was seen of it.

    Of a JPEG all data are decoded, and pixels are made only of the mean of each block, in half the
    time.

    >>> file = io.BytesIO()
    >>> Image.new("RGB", (3, 2)).save(file, "bmp")
    >>> look = verify(file)
    >>> look.size, look.whole, look.digest == hash_pixels(Image.new("RGB", (3, 2)))
    ((3, 2), True, True)
    """
    image, size, whole = _read(file, whole=False)
    return Look(size, whole, hash_pixels(image))


def _read(
    file: Path | io.BytesIO | io.BufferedReader, *, whole: bool
) -> tuple[Image.Image, tuple[int, int], bool]:
    """The image, the size that the file has, and whether all pixels were made."""
    with Image.open(file, formats=list_formats()) as opened:
        if opened.width * opened.height > (Image.MAX_IMAGE_PIXELS or float("inf")):
            raise Image.DecompressionBombError(f"{opened.width} × {opened.height} pixels")
        if opened.mode == "I" and opened.format != "PPM":  # only a PGM's maxval says what white is
            raise ValueError("32-bit integers, whose range is not known: save it with 8 or 16 bits")
        size, drafted = opened.size, opened.format in ("JPEG", "MPO") and not whole
        if drafted:
            opened.draft("L", (1, 1))
        image = ImageOps.exif_transpose(opened)
    return to_rgb(image), size, not drafted


def to_rgb(image: Image.Image) -> Image.Image:
    """Bring an image of any of Pillow's modes to 8-bit RGB, as `decode` does.

    >>> to_rgb(Image.new("LA", (1, 1), (0, 0))).getpixel((0, 0))  # transparent black, on white
    (255, 255, 255)
    """
    if image.mode == "F" or image.mode.startswith("I"):
        image = _to_eight_bits(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Bring 16-bit greyscale and floating point to 8 bits."""
    values = np.asarray(image)
    if image.mode == "F":
        if not bool(((values >= 0) & (values <= 1)).all()):
            raise ValueError(
                "floating-point pixels outside [0, 1]: scale them, or save it with 8 or 16 bits"
            )
        return Image.fromarray(np.rint(values * 255).astype(np.uint8))
    grey = Image.fromarray(((values.astype(np.int64) + 128) // 257).astype(np.uint8))
    if "transparency" not in image.info:
        return grey
    alpha = np.where(values == image.info["transparency"], 0, 255).astype(np.uint8)
    return Image.merge("LA", (grey, Image.fromarray(alpha)))


def explain_error(error: Exception) -> str:
    """Say why a file could not be read, in words that fit between parentheses.

    >>> explain_error(FileNotFoundError(2, "No such file or directory"))
    'No such file or directory'
    """
    if isinstance(error, UnidentifiedImageError):
        return "it is not an image of a known format"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return (
            f"{error}; more than {Image.MAX_IMAGE_PIXELS:,} pixels are not decoded, scale it down"
        )
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
