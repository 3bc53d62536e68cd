"""Random geometry: the crop of an image, and its mirror image.

As with the operations of `sslens.data.colour`, `draw(rng, count)` returns the parameters of `count`
images, and `apply` is deterministic.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from PIL import Image
from torch import Tensor

from sslens.data.colour import Parameters, change_chosen, check_probability
from sslens.data.transform import require_rgb, resampling
from sslens.errors import InputError

_TRIES = 10  # boxes that are drawn for a crop; the first that fits is taken


@dataclass(frozen=True)
class RandomResizedCrop:
    """A box of random area and shape, resized to `size` × `size` by PIL (antialiased); equal to
    torchvision's RandomResizedCrop on PIL images.

    A box has an area A = s·H·W, s uniform in `scale`, and a ratio r = w/h, log r uniform in log
    `ratio`; so w = round(√(A r)) and h = round(√(A / r)). Of up to ten boxes the first that fits in
    the image is placed uniformly. If none fits, the largest central box with a ratio within the
    bounds is taken (Szegedy et al., 2015). The box is cut out before it is resampled, so that no
    pixel outside the box is used. With `clip` the first box is always taken, and its sides are cut
    down to the image's (as in MAE's linear probe, after BYOL).

    Raises:
        InputError: an unknown interpolation, or an impossible range.

    >>> crop = RandomResizedCrop(2, scale=(1.0, 1.0), ratio=(1.0, 1.0), interpolation="bilinear")
    >>> image = Image.fromarray(np.full((6, 6, 3), 9, np.uint8))
    >>> crop.apply([image], crop.draw(np.random.default_rng(0), 1))[0, 0].tolist()
    [[9, 9], [9, 9]]
    """

    size: int
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "bicubic"
    clip: bool = False

    def __post_init__(self) -> None:
        resampling(self.interpolation)
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise InputError(
                f"A crop's scale is {self.scale}; give two fractions of the area, 0 < low ≤ high"
                " ≤ 1."
            )
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise InputError(
                f"A crop's ratio is {self.ratio}; give two ratios width / height, 0 < low ≤ high."
            )

    def draw(self, rng: np.random.Generator, count: int) -> Parameters:
        """Draw the parameters of `count` images.

        Returns:
            "area" (fractions of the image) and "ratio" (w/h) of ten boxes for each image; "place",
            the box's position in [0, 1)² as a share of the free room.
        """
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        return {
            "area": rng.uniform(*self.scale, (count, _TRIES)),
            "ratio": np.exp(rng.uniform(low, high, (count, _TRIES))),
            "place": rng.random((count, 2)),
        }

    def boxes(
        self, sizes: Int64[np.ndarray, "image 2"], parameters: Parameters
    ) -> Int64[np.ndarray, "image 4"]:
        """Compute each image's box, (left, upper, right, lower) in pixels as PIL's `crop` takes it.

        `sizes` are the (width, height) of the images in pixels.
        """
        area = parameters["area"] * sizes.prod(axis=1, keepdims=True)
        tried = np.stack(
            [np.sqrt(area * parameters["ratio"]), np.sqrt(area / parameters["ratio"])], axis=2
        ).round()
        if self.clip:
            tried = np.clip(tried, 1, sizes[:, None])
        fits = np.all((tried > 0) & (tried <= sizes[:, None]), axis=2)
        chosen = tried[np.arange(len(sizes)), np.argmax(fits, axis=1)]
        corner = np.floor(parameters["place"] * (sizes - chosen + 1))
        missed = np.flatnonzero(~np.any(fits, axis=1))
        width, height = sizes[missed].T
        chosen[missed, 0] = np.minimum(width, np.round(height * self.ratio[1]))
        chosen[missed, 1] = np.minimum(height, np.round(width / self.ratio[0]))
        corner[missed] = (sizes[missed] - chosen[missed]) // 2
        return np.concatenate([corner, corner + chosen], axis=1).astype(np.int64)

    def apply(
        self, images: Sequence[Image.Image], parameters: Parameters
    ) -> UInt8[Tensor, "image 3 size size"]:
        """Cut out and resize the box of each image.

        The result is strided channels-last, as PIL stores images.

        Raises:
            InputError: an image that is not RGB.
        """
        kernel = resampling(self.interpolation)
        # The crops are pasted onto one sheet, because a conversion to an array costs as much as a
        # crop.
        sheet = Image.new("RGB", (self.size, self.size * len(images)))
        sizes = np.array([image.size for image in images], np.int64).reshape(-1, 2)
        boxes = self.boxes(sizes, parameters).tolist()
        for row, (image, box) in enumerate(zip(images, boxes, strict=True)):
            crop = require_rgb(image).crop(tuple(box)).resize((self.size, self.size), kernel)
            sheet.paste(crop, (0, row * self.size))
        pixels = np.array(sheet).reshape(len(images), self.size, self.size, 3)
        return torch.from_numpy(pixels).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Flip:
    """Left and right exchanged, with probability `p`.

    >>> image = torch.arange(6.0).view(1, 3, 1, 2)
    >>> Flip().apply(image, {"chosen": np.array([True])}).flatten().tolist()
    [1.0, 0.0, 3.0, 2.0, 5.0, 4.0]
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        check_probability(self, self.p)

    def draw(self, rng: np.random.Generator, count: int) -> Parameters:
        """Draw "chosen": whether each of `count` images is flipped."""
        return {"chosen": rng.random(count) < self.p}

    def apply(
        self, batch: Float32[Tensor, "image 3 h w"], parameters: Parameters
    ) -> Float32[Tensor, "image 3 h w"]:
        """Return the batch with the chosen images flipped."""
        return change_chosen(batch, parameters["chosen"], lambda x: x.flip(-1))
