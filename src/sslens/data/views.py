"""Random views of images for pre-training.

All randomness of a training step is drawn for the whole global batch from (seed, step), and each
process, micro-batch or data worker takes its rows. So a step has the same views however its batch
is split, and resuming at any step needs no generator's state. Hence an operation is two functions:
`draw(rng, count)`, parameters for `count` images, which depends on nothing else; and `apply(batch,
parameters)`, which is deterministic and treats each image by itself.

A `View` is one crop, taken from PIL images of any size, and operations on the float32 batch of
these crops, vectorised with a parameter per image, on a CPU or a GPU. A `Recipe` is the views that
an objective wants of each image.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from PIL import Image
from torch import Tensor

from sslens.data.colour import (
    ColorJitter,
    GaussianBlur,
    Grayscale,
    Normalize,
    Parameters,
    Solarize,
    check_probability,
    chunks,
    replaced,
)
from sslens.data.transform import require_rgb, resampling
from sslens.errors import InputError

_TRIES = 10
_CHUNK = (
    1 << 20
)  # values a CPU takes through the operations at a time; ColorJitter works on a fifth of them


# ------------------------------------------------------------------------------------------------
# randomness by step


def stream(seed: int, step: int, *key: int) -> np.random.Generator:
    """The generator of one purpose (`key`) in one training step, independent of all others.

    PCG64 seeded by NumPy's `SeedSequence(seed, spawn_key=(step, *key))`. The views of a `Recipe`
    use the keys (0, view, operation), `mask_noise` uses (1,), the order of images (2,),
    `depth_noise` (3,) and `sslens.data.classification.Mixing` (4,).

    Raises InputError for a negative seed and a step outside 32 bits.

    >>> stream(0, 7, 1).random(2).round(4).tolist()
    [0.0134, 0.9416]
    """
    if seed < 0 or not 0 <= step < 1 << 32:  # a longer step would run into the key
        raise InputError(
            f"The seed is {seed} and the step {step}; both must be 0 or more, and the step below"
            " 2³²."
        )
    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(step, *key)))
    )


def mask_noise(
    seed: int, step: int, rows: slice, total: int, patches: int
) -> Float32[Tensor, "image patch"]:
    """Uniform noise in [0, 1) for random masking: a patch is kept if its noise is among its image's
    smallest.

    Drawn for the `total` images of the step; returned for those in `rows` (MAE: He et al., 2022,
    section 3).

    >>> whole = mask_noise(0, 3, slice(0, 4), total=4, patches=9)
    >>> bool((mask_noise(0, 3, slice(2, 4), total=4, patches=9) == whole[2:]).all())
    True
    """
    return torch.from_numpy(stream(seed, step, 1).random((total, patches), dtype=np.float32)[rows])


def depth_noise(
    seed: int, step: int, rows: slice, total: int, places: int
) -> Float32[Tensor, "image place"]:
    """Uniform noise in [0, 1) for stochastic depth: a residual branch of an image is dropped if its
    noise is below a rate.

    >>> depth_noise(0, 3, slice(2, 4), total=4, places=9).shape
    torch.Size([2, 9])
    """
    return torch.from_numpy(stream(seed, step, 3).random((total, places), dtype=np.float32)[rows])


# --------------------------------------------------------------------------------------------------------
# operations


@runtime_checkable
class Operation(Protocol):
    """What a `View` does to its crops: `apply` never changes the batch it is given, but may return
    it."""

    def draw(self, rng: np.random.Generator, count: int) -> Parameters:
        """Parameters for `count` images: arrays whose first axis is the image."""

    def apply(
        self, batch: Float32[Tensor, "image 3 h w"], parameters: Parameters
    ) -> Float32[Tensor, "image 3 h w"]:
        """The batch, image i changed by row i of the parameters; values are in [0, 1] until
        `Normalize`."""


@dataclass(frozen=True)
class RandomResizedCrop:
    """A box of random area and shape, resized to `size` × `size` by PIL (antialiased), as
    torchvision's on PIL images.

    Up to ten tries of an area A = s·H·W, s uniform in `scale`, and a ratio r = w/h, log r uniform
    in log `ratio`, give w = round(√(A r)) and h = round(√(A / r)); the first that fits in the image
    is placed uniformly. If none fits, the box is the largest central one with a ratio within bounds
    (Szegedy et al., 2015). The box is cut out first, so that the resampling never sees a pixel
    outside it. With `clip` the first try is taken, its sides cut down to the image's (as in MAE's
    linear probe, after BYOL). Raises InputError for an unknown interpolation or an impossible
    range.

    >>> crop = RandomResizedCrop(2, scale=(1.0, 1.0), ratio=(1.0, 1.0), interpolation="bilinear")
    >>> image = Image.fromarray(np.full((6, 6, 3), 9, np.uint8))
    >>> crop.apply([image], crop.draw(stream(0, 0), 1))[0, 0].tolist()
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
        """Ten areas (fractions of the image) and ratios an image, and where in [0, 1)² of the free
        room the box is."""
        return {
            "area": rng.uniform(*self.scale, (count, _TRIES)),
            "ratio": np.exp(
                rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1]), (count, _TRIES))
            ),
            "place": rng.random((count, 2)),
        }

    def boxes(
        self, sizes: Int64[np.ndarray, "image 2"], parameters: Parameters
    ) -> Int64[np.ndarray, "image 4"]:
        """(left, upper, right, lower) in pixels, as PIL's `crop` takes them, in images of (width,
        height) `sizes`."""
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
        """The crops (strided channels-last, as PIL stores them). Raises InputError for an image
        that is not RGB."""
        # One conversion for the batch: one an image costs as much as a crop.
        kernel, sheet = (
            resampling(self.interpolation),
            Image.new("RGB", (self.size, self.size * len(images))),
        )
        sizes = np.array([image.size for image in images], np.int64).reshape(-1, 2)
        for row, (image, box) in enumerate(
            zip(images, self.boxes(sizes, parameters).tolist(), strict=True)
        ):
            crop = require_rgb(image).crop(tuple(box)).resize((self.size, self.size), kernel)
            sheet.paste(crop, (0, row * self.size))
        pixels = np.array(sheet).reshape(len(images), self.size, self.size, 3)
        return torch.from_numpy(pixels).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Flip:
    """Left and right exchanged, with probability `p`.

    >>> Flip().apply(torch.arange(6.0).view(1, 3, 1, 2), {"chosen": np.array([True])}).flatten().tolist()
    [1.0, 0.0, 3.0, 2.0, 5.0, 4.0]
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        check_probability(self, self.p)

    def draw(self, rng: np.random.Generator, count: int) -> Parameters:
        """Which images are flipped."""
        return {"chosen": rng.random(count) < self.p}

    def apply(
        self, batch: Float32[Tensor, "image 3 h w"], parameters: Parameters
    ) -> Float32[Tensor, "image 3 h w"]:
        """The batch with the chosen images flipped."""
        return replaced(batch, parameters["chosen"], lambda x: x.flip(-1))


# -----------------------------------------------------------------------------------------------------------
# recipes


@dataclass(frozen=True)
class View:
    """One random view: a crop, then operations on the crops in their order."""

    crop: RandomResizedCrop
    operations: tuple[Operation, ...]


@dataclass(frozen=True)
class Recipe:
    """The random views that an objective takes of each image.

    `batch` is `finish` of `crops`; taken apart, data workers can crop (8-bit, small to send) and a
    GPU do the rest. Of a step's `total` images the call gets those in `rows`. On a CPU the result
    is the same bit for bit however the step's images are split; on a GPU to the rounding of matrix
    products.

    >>> images = [Image.fromarray(np.full((40, 30, 3), value, np.uint8)) for value in (0, 80, 160, 240)]
    >>> recipe = moco_v3_views(size=8)
    >>> first, second = recipe.batch(images, seed=0, step=5, rows=slice(0, 4), total=4)
    >>> tuple(second.shape)
    (4, 3, 8, 8)
    >>> _, half = recipe.batch(images[2:], seed=0, step=5, rows=slice(2, 4), total=4)
    >>> torch.equal(half, second[2:])
    True
    """

    views: tuple[View, ...]

    def crops(
        self, images: Sequence[Image.Image], *, seed: int, step: int, rows: slice, total: int
    ) -> tuple[UInt8[Tensor, "image 3 _ _"], ...]:
        """Each view's crops of the images. Raises InputError if `rows` are not as many as the
        images."""
        _check_rows(len(images), rows, total)
        return tuple(
            view.crop.apply(
                images, _take(view.crop.draw(stream(seed, step, 0, number, 0), total), rows)
            )
            for number, view in enumerate(self.views)
        )

    def finish(
        self,
        crops: tuple[UInt8[Tensor, "image 3 _ _"], ...],
        *,
        seed: int,
        step: int,
        rows: slice,
        total: int,
    ) -> tuple[Float32[Tensor, "image 3 _ _"], ...]:
        """Each view's operations on its crops, on the crops' device. Raises InputError as `crops`
        does."""
        finished = []
        for number, (view, crop) in enumerate(zip(self.views, crops, strict=True)):
            _check_rows(len(crop), rows, total)
            drawn = [
                _take(operation.draw(stream(seed, step, 0, number, place), total), rows)
                for place, operation in enumerate(view.operations, start=1)
            ]
            whole = torch.empty(crop.shape, device=crop.device)
            for chunk in chunks(crop, _CHUNK):
                batch = (
                    crop[chunk].to(torch.float32, memory_format=torch.contiguous_format).div_(255)
                )
                for operation, parameters in zip(view.operations, drawn, strict=True):
                    batch = operation.apply(batch, _take(parameters, chunk))
                whole[chunk] = batch
            finished.append(whole)
        return tuple(finished)

    def batch(
        self, images: Sequence[Image.Image], *, seed: int, step: int, rows: slice, total: int
    ) -> tuple[Float32[Tensor, "image 3 _ _"], ...]:
        """Each view of the images in `rows` of the step's `total`. Raises InputError as `crops`
        does."""
        crops = self.crops(images, seed=seed, step=step, rows=rows, total=total)
        return self.finish(crops, seed=seed, step=step, rows=rows, total=total)


def mae_views(size: int) -> Recipe:
    """MAE's one view: a crop of 0.2–1 of the area, bicubic, and a flip (He et al., 2022, appendix
    A.1, table 8).

    >>> [type(operation).__name__ for operation in mae_views(224).views[0].operations]
    ['Flip', 'Normalize']
    """
    return Recipe((View(RandomResizedCrop(size, scale=(0.2, 1.0)), (Flip(), Normalize())),))


@dataclass(frozen=True)
class Colours:
    """How much the views of an image differ in colour and sharpness; as in BYOL unless given.

    Attributes:
        jitter: strength of the jitter of brightness and contrast, which 80 % of the views have.
        saturation: strength of its change of saturation.
        hue: strength of its turn of the hue, at most half the circle.
        grey: probability of grey.
        target_grey: that in views that targets are made of, where the student has others (DINO's
            global ones, MSN's target); `grey` unless given.
        blur: largest standard deviation of the blur, in pixels: 2 at 224 px is little, at 32 px it
            leaves no outline.
        solarise: probability that the second view is solarised.
    """

    jitter: float = 0.4
    saturation: float = 0.2
    hue: float = 0.1
    grey: float = 0.2
    blur: float = 2.0
    solarise: float = 0.2
    target_grey: float | None = None

    def change(self, *, target: bool = False) -> tuple[Operation, ...]:
        """The jitter, then grey; `target` of a view that targets are made of."""
        jitter = ColorJitter(self.jitter, self.jitter, self.saturation, self.hue, p=0.8)
        return (
            jitter,
            Grayscale(p=self.grey if self.target_grey is None or not target else self.target_grey),
        )

    def blurred(self, p: float) -> GaussianBlur:
        """The blur, with a probability."""
        return GaussianBlur((min(0.1, self.blur), self.blur), p=p)


BYOL = Colours()
#: half of its strength 0.8, 0.8, 0.8, 0.2
SIMCLR = Colours(jitter=0.4, saturation=0.4)


def moco_v3_views(size: int, *, crop_low: float = 0.08, colours: Colours = BYOL) -> Recipe:
    """MoCo-v3's two views (Chen, Xie and He, 2021; after BYOL: Grill et al., 2020, appendix B,
    table 6).

    Both: a crop of 0.08–1 of the area, bilinear; jitter (0.4, 0.4, 0.2, 0.1) with p 0.8; grey with
    p 0.2; a flip. The first is always blurred by 0.1–2 pixels; the second with p 0.1, and solarised
    with p 0.2. For ResNets its released code has crops of 0.2–1 (`crop_low`).

    >>> [operation.p for operation in moco_v3_views(224).views[1].operations[:-1]]
    [0.8, 0.2, 0.1, 0.2, 0.5]
    """
    crop = RandomResizedCrop(size, scale=(crop_low, 1.0), interpolation="bilinear")
    colour, solarised = colours.change(), Solarize(p=colours.solarise)
    first = View(crop, (*colour, colours.blurred(1.0), Flip(), Normalize()))
    second = View(crop, (*colour, colours.blurred(0.1), solarised, Flip(), Normalize()))
    return Recipe((first, second))


def dino_views(
    size: int,
    local_size: int,
    local_crops: int = 8,
    *,
    global_scale: tuple[float, float] = (0.4, 1.0),
    local_scale: tuple[float, float] = (0.05, 0.4),
    colours: Colours = BYOL,
) -> Recipe:
    """DINO's two global views and its local ones (Caron et al., 2021, section 3.1; after SwAV and
    BYOL), global first.

    All: a bicubic crop, a flip, jitter (0.4, 0.4, 0.2, 0.1) with p 0.8, grey with p 0.2. The first
    global view is always blurred; the second with p 0.1, and solarised with p 0.2; local views are
    blurred with p 0.5.

    >>> [view.crop.size for view in dino_views(224, 96, 3).views]
    [224, 224, 96, 96, 96]
    """
    colour, local_colour = ((Flip(), *colours.change(target=target)) for target in (True, False))
    whole = RandomResizedCrop(size, scale=global_scale)
    first = View(whole, (*colour, colours.blurred(1.0), Normalize()))
    second = View(whole, (*colour, colours.blurred(0.1), Solarize(p=colours.solarise), Normalize()))
    local = View(
        RandomResizedCrop(local_size, scale=local_scale),
        (*local_colour, colours.blurred(0.5), Normalize()),
    )
    return Recipe((first, second, *[local] * local_crops))


def msn_views(
    size: int,
    focal_size: int,
    focal_views: int = 10,
    *,
    random_scale: tuple[float, float] = (0.3, 1.0),
    focal_scale: tuple[float, float] = (0.05, 0.3),
    colours: Colours = SIMCLR,
) -> Recipe:
    """MSN's target view, its random view and its focal ones (Assran et al., 2022, appendix;
    released configuration).

    All: a bilinear crop, a flip, jitter of 0.5 times (0.8, 0.8, 0.8, 0.2) with p 0.8, grey with p
    0.2, blur with p 0.5.

    >>> msn_views(224, 96).views[0].operations[1]
    ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, p=0.8)
    """
    blur = (colours.blurred(0.5), Normalize())
    seen, aimed = ((Flip(), *colours.change(target=target), *blur) for target in (False, True))
    whole = RandomResizedCrop(size, scale=random_scale, interpolation="bilinear")
    focal = View(RandomResizedCrop(focal_size, scale=focal_scale, interpolation="bilinear"), seen)
    return Recipe((View(whole, aimed), View(whole, seen), *[focal] * focal_views))


def _take(parameters: Parameters, rows: slice) -> Parameters:
    return {name: values[rows] for name, values in parameters.items()}


def _check_rows(given: int, rows: slice, total: int) -> None:
    wanted = len(range(total)[rows])
    if given != wanted:
        raise InputError(
            f"There are {given} images for rows {rows.start} to {rows.stop} of {total}; give"
            f" {wanted}."
        )
