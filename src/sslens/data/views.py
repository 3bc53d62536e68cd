"""Random views of images for pre-training.

The random numbers of a training step are drawn for its whole global batch (`sslens.data.streams`).
An operation is therefore two functions: `draw(rng, count)` returns parameters for `count` images
and depends on nothing else; `apply(batch, parameters)` is deterministic and treats each image by
itself.

A `View` is one crop, taken from PIL images of any size, and operations on the float32 batch of
these crops, vectorised with a parameter per image, on a CPU or a GPU. `RandomViews` are the views
that an objective takes of each image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from PIL import Image
from torch import Tensor

from sslens.counts import spell_count
from sslens.data.colour import (
    ColorJitter,
    GaussianBlur,
    Grayscale,
    Normalize,
    Parameters,
    Solarize,
    chunks,
)
from sslens.data.geometry import Flip, RandomResizedCrop
from sslens.data.streams import stream
from sslens.errors import InputError

#: values that a CPU takes through the operations at a time; ColorJitter works on a fifth of them
_CHUNK = 1 << 20


@runtime_checkable
class Operation(Protocol):
    """A random change that a `View` makes to its crops.

    `apply` never changes the batch that it is given, but may return it.
    """

    def draw(self, rng: np.random.Generator, count: int) -> Parameters:
        """Parameters for `count` images: arrays with the image as their first axis."""

    def apply(
        self, batch: Float32[Tensor, "image 3 h w"], parameters: Parameters
    ) -> Float32[Tensor, "image 3 h w"]:
        """Return the batch with image i changed by row i of the parameters.

        Values are in [0, 1] until `Normalize`.
        """


@dataclass(frozen=True)
class View:
    """One random view of an image.

    Attributes:
        crop: the random crop, taken from PIL images.
        operations: the operations on the batch of crops, in their order.
    """

    crop: RandomResizedCrop
    operations: tuple[Operation, ...]


@dataclass(frozen=True)
class RandomViews:
    """The random views that an objective takes of each image.

    `batch` is `finish` of `crops`. Where the two are called apart, data workers can crop (8-bit,
    small to send) and a GPU can do the rest. Each call gets the images in `rows` of the step's
    `total`. However the step's images are split, the result is the same: bit for bit on a CPU, to
    the rounding of matrix products on a GPU.

    >>> images = [Image.new("RGB", (30, 40), (value,) * 3) for value in (0, 80, 160, 240)]
    >>> views = moco_v3_views(size=8)
    >>> first, second = views.batch(images, seed=0, step=5, rows=slice(0, 4), total=4)
    >>> tuple(second.shape)
    (4, 3, 8, 8)
    >>> _, half = views.batch(images[2:], seed=0, step=5, rows=slice(2, 4), total=4)
    >>> torch.equal(half, second[2:])
    True
    """

    views: tuple[View, ...]

    def crops(
        self, images: Sequence[Image.Image], *, seed: int, step: int, rows: slice, total: int
    ) -> tuple[UInt8[Tensor, "image 3 _ _"], ...]:
        """Crop the images for each view; the result has one batch of crops per view.

        Raises:
            InputError: the number of `rows` differs from the number of images.
        """
        _check_rows(len(images), rows, total)
        crops = []
        for number, view in enumerate(self.views):
            parameters = view.crop.draw(stream(seed, step, 0, number, 0), total)
            crops.append(view.crop.apply(images, _take(parameters, rows)))
        return tuple(crops)

    def finish(
        self,
        crops: tuple[UInt8[Tensor, "image 3 _ _"], ...],
        *,
        seed: int,
        step: int,
        rows: slice,
        total: int,
    ) -> tuple[Float32[Tensor, "image 3 _ _"], ...]:
        """Apply each view's operations to its crops, on the crops' device.

        Raises:
            InputError: the number of `rows` differs from the number of crops.
        """
        finished = []
        for number, (view, crop) in enumerate(zip(self.views, crops, strict=True)):
            _check_rows(len(crop), rows, total)
            drawn = [
                _take(operation.draw(stream(seed, step, 0, number, place), total), rows)
                for place, operation in enumerate(view.operations, start=1)
            ]
            whole = torch.empty(crop.shape, device=crop.device)
            for chunk in chunks(crop, _CHUNK):
                batch = crop[chunk].to(torch.float32, memory_format=torch.contiguous_format)
                batch.div_(255)
                for operation, parameters in zip(view.operations, drawn, strict=True):
                    batch = operation.apply(batch, _take(parameters, chunk))
                whole[chunk] = batch
            finished.append(whole)
        return tuple(finished)

    def batch(
        self, images: Sequence[Image.Image], *, seed: int, step: int, rows: slice, total: int
    ) -> tuple[Float32[Tensor, "image 3 _ _"], ...]:
        """Make all views of the images; the result has one batch per view.

        Args:
            images: RGB images of any size.
            seed: seed of the run.
            step: number of the training step.
            rows: the positions of `images` among all images of the step.
            total: number of images of the step, on all processes.

        Raises:
            InputError: the number of `rows` differs from the number of images.
        """
        crops = self.crops(images, seed=seed, step=step, rows=rows, total=total)
        return self.finish(crops, seed=seed, step=step, rows=rows, total=total)


def mae_views(size: int) -> RandomViews:
    """MAE's one view: a bicubic crop of 0.2–1 of the area, and a flip (He et al., 2022, appendix
    A.1, table 8).

    >>> [type(operation).__name__ for operation in mae_views(224).views[0].operations]
    ['Flip', 'Normalize']
    """
    return RandomViews((View(RandomResizedCrop(size, scale=(0.2, 1.0)), (Flip(), Normalize())),))


@dataclass(frozen=True)
class Colours:
    """How much the views of an image differ in colour and sharpness; as in BYOL unless given.

    Attributes:
        jitter: strength of the jitter of brightness and contrast, which 80 % of the views have.
        saturation: strength of the jitter of saturation.
        hue: strength of the jitter of hue, at most 0.5, half the colour circle.
        grey: probability that a view is grey.
        blur: largest standard deviation of the blur, in pixels: 2 pixels are little at 224 px, and
            leave no outline at 32 px.
        solarise: probability that the second view is solarised.
        target_grey: probability that a view for the teacher is grey; `grey` unless given. Views for
            the teacher give the targets: DINO's global views and MSN's target view.
    """

    jitter: float = 0.4
    saturation: float = 0.2
    hue: float = 0.1
    grey: float = 0.2
    blur: float = 2.0
    solarise: float = 0.2
    target_grey: float | None = None

    def change(self, *, target: bool = False) -> tuple[Operation, ...]:
        """Return the colour jitter and the grey of a view; `target` is True for the teacher's."""
        jitter = ColorJitter(self.jitter, self.jitter, self.saturation, self.hue, p=0.8)
        grey = self.target_grey if target and self.target_grey is not None else self.grey
        return jitter, Grayscale(p=grey)

    def blurring(self, p: float) -> GaussianBlur:
        """Return the blur, applied with probability `p`."""
        return GaussianBlur((min(0.1, self.blur), self.blur), p=p)


BYOL = Colours()
#: SimCLR's jitter (0.8, 0.8, 0.8, 0.2) at half of its strength
SIMCLR = Colours(jitter=0.4, saturation=0.4)


def moco_v3_views(size: int, *, crop_low: float = 0.08, colours: Colours = BYOL) -> RandomViews:
    """MoCo-v3's two views (Chen, Xie and He, 2021; after BYOL: Grill et al., 2020, appendix B,
    table 6).

    Both views have a bilinear crop of 0.08–1 of the area, jitter (0.4, 0.4, 0.2, 0.1) with p 0.8,
    grey with p 0.2, and a flip. The first view is always blurred, by 0.1–2 pixels; the second view
    is blurred with p 0.1 and solarised with p 0.2. The released code takes crops of 0.2–1 of the
    area for ResNets (`crop_low`).

    >>> [operation.p for operation in moco_v3_views(224).views[1].operations[:-1]]
    [0.8, 0.2, 0.1, 0.2, 0.5]
    """
    crop = RandomResizedCrop(size, scale=(crop_low, 1.0), interpolation="bilinear")
    colour, solarised = colours.change(), Solarize(p=colours.solarise)
    first = View(crop, (*colour, colours.blurring(1.0), Flip(), Normalize()))
    second = View(crop, (*colour, colours.blurring(0.1), solarised, Flip(), Normalize()))
    return RandomViews((first, second))


def dino_views(
    size: int,
    local_size: int,
    local_crops: int = 8,
    *,
    global_scale: tuple[float, float] = (0.4, 1.0),
    local_scale: tuple[float, float] = (0.05, 0.4),
    colours: Colours = BYOL,
) -> RandomViews:
    """DINO's two global views, then its local views (Caron et al., 2021, section 3.1; after SwAV
    and BYOL).

    All views have a bicubic crop, a flip, jitter (0.4, 0.4, 0.2, 0.1) with p 0.8, and grey with p
    0.2. The first global view is always blurred; the second global view is blurred with p 0.1 and
    solarised with p 0.2; local views are blurred with p 0.5.

    >>> [view.crop.size for view in dino_views(224, 96, 3).views]
    [224, 224, 96, 96, 96]
    """
    colour, local_colour = ((Flip(), *colours.change(target=target)) for target in (True, False))
    whole = RandomResizedCrop(size, scale=global_scale)
    first = View(whole, (*colour, colours.blurring(1.0), Normalize()))
    second = View(
        whole, (*colour, colours.blurring(0.1), Solarize(p=colours.solarise), Normalize())
    )
    local = View(
        RandomResizedCrop(local_size, scale=local_scale),
        (*local_colour, colours.blurring(0.5), Normalize()),
    )
    return RandomViews((first, second, *[local] * local_crops))


def msn_views(
    size: int,
    focal_size: int,
    focal_views: int = 10,
    *,
    random_scale: tuple[float, float] = (0.3, 1.0),
    focal_scale: tuple[float, float] = (0.05, 0.3),
    colours: Colours = SIMCLR,
) -> RandomViews:
    """MSN's target view, its random view, then its focal views (Assran et al., 2022, appendix;
    released configuration).

    All views have a bilinear crop, a flip, jitter of 0.5 times (0.8, 0.8, 0.8, 0.2) with p 0.8,
    grey with p 0.2, and blur with p 0.5.

    >>> msn_views(224, 96).views[0].operations[1]
    ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, p=0.8)
    """
    blur = (colours.blurring(0.5), Normalize())
    student, target = (
        (Flip(), *colours.change(target=is_target), *blur) for is_target in (False, True)
    )
    whole = RandomResizedCrop(size, scale=random_scale, interpolation="bilinear")
    focal = View(
        RandomResizedCrop(focal_size, scale=focal_scale, interpolation="bilinear"), student
    )
    return RandomViews((View(whole, target), View(whole, student), *[focal] * focal_views))


def _take(parameters: Parameters, rows: slice) -> Parameters:
    return {name: values[rows] for name, values in parameters.items()}


def _check_rows(given: int, rows: slice, total: int) -> None:
    wanted = len(range(total)[rows])
    if given != wanted:
        raise InputError(
            f"{spell_count(given, 'image')} for rows {rows.start} to {rows.stop} of"
            f" {total}; give {wanted}."
        )
