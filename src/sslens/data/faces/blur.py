"""The blur of faces in an image, and the image written again as it was."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, JpegImagePlugin

from sslens.counts import spell_count
from sslens.data.decoding import list_formats
from sslens.data.faces.lists import Boxes

#: by what share of its longer side a box is enlarged, and the blur's standard deviation as a share
#: of it (Yang et al., 2022, experiments/blurring.py)
SHARE = 0.1
#: says that the pixels of blurred images were made in this way; raised when they change
METHOD = "gaussian 0.1 of each face's longer side, 1"
_ORIENTATION = 0x0112
#: how an image is turned upright, by EXIF's orientation, and turned back
_TURNS = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_LEFT_RIGHT),
    3: (Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_180),
    4: (Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.FLIP_TOP_BOTTOM),
    5: (Image.Transpose.TRANSPOSE, Image.Transpose.TRANSPOSE),
    6: (Image.Transpose.ROTATE_270, Image.Transpose.ROTATE_90),
    7: (Image.Transpose.TRANSVERSE, Image.Transpose.TRANSVERSE),
    8: (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270),
}
#: compressions of TIFF that lose nothing
_LOSSLESS_TIFF = ("tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits")
#: of a lossy WebP, which does not tell its own
_WEBP_QUALITY = 90


def blur_faces(image: Image.Image, boxes: Boxes) -> Image.Image:
    """Blur the faces of an image without a seam.

    A face with the longer side d is blurred with a Gaussian G of standard deviation 0.1 d, and laid
    over the image x through a mask, its box b enlarged by 0.1 d to each side and blurred too:

        y = (1 - m) x + m (G * x),    m = G * 1[enlarged b].

    This is the blur of Yang, Yau, Fei-Fei, Deng and Russakovsky, "A Study of Face Obfuscation in
    ImageNet", ICML 2022 (arXiv:2103.06191; `experiments/blurring.py` of their code), and equals it
    in images of one face. It differs where there are several: theirs blurs all masks with the
    largest face's d, which leaves a small face beside a large one almost as it was; here each face
    has its own d.

    Args:
        image: of 8 bits a channel, in one of the modes L, LA, RGB, RGBA, CMYK.
        boxes: (x0, y0, x1, y1) in pixels; may reach over the image's edge.

    >>> image = Image.new("L", (40, 40))
    >>> image.putpixel((20, 20), 255)
    >>> blurred = blur_faces(image, np.array([[10.0, 10.0, 30.0, 30.0]]))  # d = 20, sigma = 2
    >>> blurred.getpixel((20, 20))  # 255 / (2 pi 2²) = 10.1; Pillow's three box filters have 9.6
    9
    """
    blurred = image.copy()
    for box in boxes.tolist():
        _blur_face(blurred, box)
    return blurred


def _blur_face(image: Image.Image, box: list[float]) -> None:
    x0, y0, x1, y1 = box
    share = SHARE * max(x1 - x0, y1 - y0)
    # the mask ends 3 sigma outside the enlarged box, and the blur there sees 3 sigma more
    reach = share + 6 * share + 8
    left, top = max(0, int(x0 - reach)), max(0, int(y0 - reach))
    right = min(image.width, int(np.ceil(x1 + reach)) + 1)
    bottom = min(image.height, int(np.ceil(y1 + reach)) + 1)
    part = image.crop((left, top, right, bottom))
    mask = Image.new("L", part.size)
    enlarged = (x0 - share - left, y0 - share - top, x1 + share - left, y1 + share - top)
    ImageDraw.Draw(mask).rectangle(enlarged, fill=255)
    gaussian = ImageFilter.GaussianBlur(share)
    image.paste(Image.composite(part.filter(gaussian), part, mask.filter(gaussian)), (left, top))


@final
@dataclass(frozen=True)
class Header:
    """What is known of an image file without its pixels.

    Attributes:
        kind: the name of its format.
        mode: Pillow's name of its pixels.
        size: (width, height) as it is stored.
        orientation: EXIF's, 1 for upright.
        frames: the number of its images.
    """

    kind: str
    mode: str
    size: tuple[int, int]
    orientation: int
    frames: int

    def find_fault(self) -> str | None:
        """Say why faces in such an image cannot be blurred, in words that follow its name; None
        where they can."""
        if self.frames > 1 and self.kind != "JPEG":
            return f"has {spell_count(self.frames, 'frame')}, and boxes are of one"
        if self.mode == "F" or self.mode.startswith("I"):
            return f"has pixels of more than 8 bits ({self.mode})"
        return None

    def seen_size(self, upright: bool) -> tuple[int, int]:
        """(width, height) of the image upright, or as it is stored."""
        turned = upright and self.orientation >= 5
        return (self.size[1], self.size[0]) if turned else self.size


def read_header(path: Path) -> Header:
    """Read what an image file says of itself; what Pillow raises is raised."""
    with Image.open(path, formats=list_formats()) as opened:
        return _describe(opened)


def _describe(opened: Image.Image) -> Header:
    kind = "JPEG" if opened.format == "MPO" else str(opened.format)  # a photo with its preview
    # Pillow turns TIFF upright itself
    orientation = 1 if kind == "TIFF" else opened.getexif().get(_ORIENTATION, 1)
    orientation = orientation if orientation in _TURNS else 1
    frames = getattr(opened, "n_frames", 1)
    return Header(kind, opened.mode, opened.size, orientation, frames)


def blur_file(content: bytes, boxes: Boxes, *, upright: bool) -> bytes:
    """Blur the faces of an image file, and write the file in its own format.

    The pixels stay as they are stored, with EXIF's orientation beside them. JPEG keeps its tables
    of quantisation and its subsampling, so that what is not blurred changes hardly; other formats
    lose nothing, but for lossy WebP, AVIF and HEIC (quality 90) and GIF (256 new colours). Of what
    is not pixels the colour profile and the orientation are kept and the rest is left out: a
    thumbnail in it would show the face, and a preview beside the image too.

    Args:
        content: the file.
        boxes: (x0, y0, x1, y1) in pixels.
        upright: whether the boxes are of the upright image, or else of the image as it is stored.
    """
    with Image.open(io.BytesIO(content), formats=list_formats()) as opened:
        header = _describe(opened)
        profile = opened.info.get("icc_profile")
        image = _to_channels(opened)
        options = _choose_options(opened, header, content)
    turn, back = _TURNS.get(header.orientation, (None, None)) if upright else (None, None)
    if turn is None or back is None:
        image = blur_faces(image, boxes)
    else:
        image = blur_faces(image.transpose(turn), boxes).transpose(back)
    image.info = {}
    kept: dict[str, Any] = {"icc_profile": profile} if profile else {}
    if header.orientation != 1:
        exif = Image.Exif()
        exif[_ORIENTATION] = header.orientation
        kept["exif"] = exif
    file = io.BytesIO()
    image.save(file, header.kind, **options, **kept)
    return file.getvalue()


def _to_channels(opened: Image.Image) -> Image.Image:
    """The pixels in a mode that can be blurred."""
    opened.load()
    if opened.mode in ("RGBA", "LA", "CMYK"):
        return opened.copy()
    if opened.has_transparency_data:
        return opened.convert("RGBA")
    return opened.convert("L" if opened.mode in ("1", "L") else "RGB")


def _choose_options(opened: Image.Image, header: Header, content: bytes) -> Mapping[str, Any]:
    """How the file is written, in the arguments of Pillow's `save`."""
    if isinstance(opened, JpegImagePlugin.JpegImageFile):
        return {
            "qtables": opened.quantization,
            "subsampling": JpegImagePlugin.get_sampling(opened),
            "progressive": bool(opened.info.get("progressive")),
        }
    if header.kind == "WEBP":
        return {"lossless": _is_lossless_webp(content), "quality": _WEBP_QUALITY}
    if header.kind in ("AVIF", "HEIF"):
        return {"quality": _WEBP_QUALITY}
    if header.kind == "TIFF":
        compression = opened.info.get("compression")
        kept = compression if compression in _LOSSLESS_TIFF else "tiff_adobe_deflate"
        return {"compression": None if compression == "raw" else kept}
    return {}


def _is_lossless_webp(content: bytes) -> bool:
    """Whether the first image of a WebP file is compressed without loss."""
    at = 12  # after RIFF, the size and WEBP
    while at + 8 <= len(content):
        chunk, size = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        if chunk in (b"VP8 ", b"VP8L"):
            return chunk == b"VP8L"
        at += 8 + size + size % 2
    return False
