"""The fixed transform for evaluation: one PIL image to the tensor that a model takes."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from PIL import Image
from torch import Tensor

from sslens.data.colour import Normalize
from sslens.data.imagenet import IMAGENET_MEAN, IMAGENET_STD
from sslens.errors import InputError, nearest

_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class EvalTransform:
    """The image that a model takes: the shorter side resized to `resize` pixels (PIL, antialiased),
    the central `crop` × `crop` pixels, values in [0, 1], (x − mean) / std.

    Equal, value by value, to torchvision's Resize, CenterCrop, ToTensor and Normalize on PIL
    images. An image of crop × crop pixels with resize = crop is not resampled.

    Raises:
        InputError: an unknown interpolation, a crop larger than `resize`, or an image that is not
            RGB.

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

    def __post_init__(self) -> None:
        resampling(self.interpolation)
        if not 0 < self.crop <= self.resize:
            raise InputError(
                f"The crop is {self.crop} and the resize {self.resize}; give 0 < crop ≤ resize."
            )

    def __call__(self, image: Image.Image) -> Float32[Tensor, "3 crop crop"]:
        """Return the transformed image."""
        return self.normalise(self.crop_image(image)[None])[0]

    def crop_image(self, image: Image.Image) -> UInt8[np.ndarray, "crop crop 3"]:
        """Resize an image and cut out what the model sees; `normalise` takes the result."""
        shorter = min(require_rgb(image).size)
        width, height = (int(self.resize * side / shorter) for side in image.size)
        if (width, height) != image.size:
            image = image.resize((width, height), resampling(self.interpolation))
        left, upper = round((width - self.crop) / 2), round((height - self.crop) / 2)
        return np.array(image.crop((left, upper, left + self.crop, upper + self.crop)))

    def normalise(
        self, pixels: UInt8[np.ndarray, "image crop crop 3"]
    ) -> Float32[Tensor, "image 3 crop crop"]:
        """Bring cropped pixels to [0, 1], then to (x − mean) / std."""
        channels_first = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        values = channels_first.to(torch.float32, memory_format=torch.contiguous_format)
        return Normalize(self.mean, self.std).apply_(values.div_(255))

    @property
    def geometry(self) -> tuple[int, int, str]:
        """The settings of `crop_image`; models with equal settings can share decoded images."""
        return self.resize, self.crop, self.interpolation

    def spec(self) -> dict[str, int | str | list[float]]:
        """Return the settings as plain JSON values.

        >>> EvalTransform(resize=64, crop=64).spec()["interpolation"]
        'bicubic'
        """
        return {
            "resize": self.resize,
            "crop": self.crop,
            "interpolation": self.interpolation,
            "mean": list(self.mean),
            "std": list(self.std),
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
