"""The fixed transform for evaluation: one PIL image to the tensor that a model takes."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from PIL import Image
from torch import Tensor

from sslens.data.colour import Normalize
from sslens.data.imagenet import IMAGENET_MEAN, IMAGENET_STD, LEAST, MOST
from sslens.data.placing import Placement
from sslens.errors import InputError, nearest

FITS = ("crop", "pad")
#: crops that a resized image has at most; of a thinner one, which would take gigabytes, only what
#: the crop shows is resized
THIN = 64
_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class EvalTransform:
    """The image that a model takes: the shorter side resized to `resize` pixels (PIL, antialiased),
    the central `crop` × `crop` pixels, values in [0, 1], (x − mean) / std.

    Equal, value by value, to torchvision's Resize, CenterCrop, ToTensor and Normalize on PIL
    images. An image of crop × crop pixels with resize = crop is not resampled.

    With `fit="pad"` nothing is cut off: the longer side is resized to `resize` pixels, and the
    image lies in the upper left corner of crop × crop pixels of the mean colour.

    Args:
        fit: "crop" or "pad".
        flip: whether left and right of the result are exchanged.

    Raises:
        InputError: an unknown interpolation or fit, a mean or deviation that is not finite, a
            deviation that is not above 0, a crop larger than `resize`, an image larger
            than the square that it is padded to, or an image that is not RGB.

    >>> transform = EvalTransform(resize=2, crop=2, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    >>> levels = np.array([[0, 51], [102, 255]], np.uint8)
    >>> transform(Image.fromarray(levels).convert("RGB"))[0]
    tensor([[0.0000, 0.2000],
            [0.4000, 1.0000]])
    """

    resize: int = 256
    crop: int = 224
    interpolation: str = "bicubic"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    fit: str = "crop"
    flip: bool = False

    def __post_init__(self) -> None:
        resampling(self.interpolation)
        usual = all(abs(value) < MOST for value in (*self.mean, *self.std))  # not where it is NaN
        if not usual or min(self.std) < LEAST:
            raise InputError(
                f"A mean of {self.mean} and a deviation of {self.std} are not of images with"
                " values from 0 to 1: give three numbers each, and deviations above 0."
            )
        if self.fit not in FITS:
            raise InputError(f'There is no fit "{self.fit}" of images: {nearest(self.fit, FITS)}')
        if self.fit == "pad" and not 0 < self.resize <= self.crop:
            raise InputError(
                f"An image of {self.resize} px cannot be padded to {self.crop} px: give 0 < resize"
                " ≤ crop."
            )
        if self.fit == "crop" and not 0 < self.crop <= self.resize:
            raise InputError(
                f"The crop is {self.crop} and the resize {self.resize}; give 0 < crop ≤ resize."
            )

    def __call__(self, image: Image.Image) -> Float32[Tensor, "3 crop crop"]:
        """Return the transformed image."""
        return self.normalise(self.crop_image(image)[None])[0]

    def crop_image(self, image: Image.Image) -> UInt8[np.ndarray, "crop crop 3"]:
        """Resize an image and cut out what the model sees; `normalise` takes the result."""
        place = self.place(require_rgb(image).size)
        left, upper = place.left, place.upper
        if place.resized != image.size:
            if self.fit == "crop" and math.prod(place.resized) > THIN * self.crop**2:
                return self._resize_crop(image, place)
            image = image.resize(place.resized, resampling(self.interpolation))
        if self.fit == "crop":
            pixels = np.array(image.crop((left, upper, left + self.crop, upper + self.crop)))
        else:
            mean = [round(255 * value) for value in self.mean]
            pixels = np.full((self.crop, self.crop, 3), mean, np.uint8)
            pixels[: image.height, : image.width] = np.asarray(image)
        return np.ascontiguousarray(pixels[:, ::-1]) if self.flip else pixels

    def _resize_crop(
        self, image: Image.Image, place: Placement
    ) -> UInt8[np.ndarray, "crop crop 3"]:
        """Resize only what the crop shows of a thin image; equal to the crop of the whole but for
        rounding."""
        (width, height), (wide, high) = image.size, place.resized
        left, upper = place.left, place.upper
        box = (
            left * width / wide,
            upper * height / high,
            (left + self.crop) * width / wide,
            (upper + self.crop) * height / high,
        )
        kernel = resampling(self.interpolation)
        pixels = np.array(image.resize((self.crop, self.crop), kernel, box=box))
        return np.ascontiguousarray(pixels[:, ::-1]) if self.flip else pixels

    def place(self, size: tuple[int, int]) -> Placement:
        """Return where an image of this width and height lies in the square that the model takes.

        >>> place = EvalTransform(resize=256, crop=224).place((640, 480))
        >>> place.resized, place.left, place.upper
        ((341, 256), 58, 16)
        >>> EvalTransform(resize=512, crop=512, fit="pad").place((640, 480)).resized
        (512, 384)
        """
        reference = min(size) if self.fit == "crop" else max(size)
        width, height = (max(1, int(self.resize * side / reference)) for side in size)
        left = upper = 0
        if self.fit == "crop":
            left, upper = round((width - self.crop) / 2), round((height - self.crop) / 2)
        return Placement(size, (width, height), left, upper, self.crop, self.flip)

    def normalise(
        self,
        pixels: UInt8[np.ndarray, "image crop crop 3"],
        alter: Callable[[Tensor], Tensor] | None = None,
    ) -> Float32[Tensor, "image 3 crop crop"]:
        """Bring cropped pixels to [0, 1], then to (x − mean) / std.

        Args:
            pixels: what `crop_image` returns, of several images.
            alter: what is done to the values in [0, 1]; nothing unless given.
        """
        channels_first = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        values = channels_first.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
        if alter is not None:
            values = alter(values)
        return Normalize(self.mean, self.std).apply_(values)

    @property
    def geometry(self) -> tuple[int | float | str | bool, ...]:
        """The settings of `crop_image`; models with equal settings can share decoded images."""
        usual = self.resize, self.crop, self.interpolation
        if self.fit == "crop" and not self.flip:
            return usual
        return *usual, self.fit, self.flip, *(self.mean if self.fit == "pad" else ())

    def spec(self) -> dict[str, int | str | bool | list[float]]:
        """Return the settings as plain JSON values; `fit` and `flip` are left out where they are
        the usual ones.

        >>> EvalTransform(resize=64, crop=64).spec()["interpolation"]
        'bicubic'
        """
        unusual = {
            name: value
            for name, value, usual in (("fit", self.fit, "crop"), ("flip", self.flip, False))
            if value != usual
        }
        return {
            "resize": self.resize,
            "crop": self.crop,
            "interpolation": self.interpolation,
            "mean": list(self.mean),
            "std": list(self.std),
            **unusual,
        }


def resampling(interpolation: str) -> Image.Resampling:
    """PIL's filter of that name.

    Raises:
        InputError: there is no filter of that name.

    >>> resampling("bicubic").name
    'BICUBIC'
    """
    if interpolation not in _RESAMPLING:
        raise InputError(
            f"The interpolation {interpolation!r} is unknown;"
            f" {nearest(interpolation, _RESAMPLING)}."
        )
    return _RESAMPLING[interpolation]


def require_rgb(image: Image.Image) -> Image.Image:
    """Return the image itself, if its mode is RGB.

    Raises:
        InputError: the image has another mode.

    >>> require_rgb(Image.new("RGB", (2, 3))).size
    (2, 3)
    """
    if image.mode != "RGB":
        raise InputError(
            f"An image has PIL mode {image.mode}, RGB is needed: call image.convert('RGB')."
        )
    return image
