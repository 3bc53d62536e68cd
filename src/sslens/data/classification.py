"""Augmentation for classification beside crops and flips: RandAugment, random erasing, mixup and
cutmix."""

import contextlib
import functools
import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from PIL import Image, ImageOps
from timm.data.auto_augment import RandAugment as TimmRandAugment
from timm.data.auto_augment import rand_augment_transform
from torch import Tensor

from sslens.data.colour import Normalize, Parameters, check_probability
from sslens.data.geometry import Flip, RandomResizedCrop
from sslens.data.imagenet import IMAGENET_MEAN
from sslens.data.streams import stream
from sslens.data.transform import require_rgb, resampling
from sslens.errors import InputError

#: key of the random stream that images are mixed by; see `sslens.data.streams.stream`
MIXING = 4
_TRIES = 10
_SPELLING = re.compile(r"rand(-(m|n|mmax|inc)\d+|-(p|mstd)\d+(\.\d+)?)*")


@dataclass(frozen=True)
class RandAugment:
    """timm's RandAugment (Cubuk et al., 2020, arXiv:1909.13719), with a random stream for each
    image.

    timm draws from Python's and NumPy's global generators, which are therefore seeded for each
    image; `keep_generators` restores their states. The operations work on 8-bit images, and so
    stand before `Normalize`.

    Attributes:
        config: as timm spells it; `rand-m9-mstd0.5-inc1` is two operations of magnitude 9 ± 0.5,
            which grow with the magnitude.
        mean: colour, 0 to 1, that fills the room where an image is moved or turned.

    Raises:
        InputError: timm does not take the configuration.

    >>> image = Image.linear_gradient("L").convert("RGB")
    >>> with keep_generators():
    ...     RandAugment().augment(image, seed=1) == RandAugment().augment(image, seed=1)
    True
    """

    config: str = "rand-m9-mstd0.5-inc1"
    mean: tuple[float, float, float] = IMAGENET_MEAN

    def __post_init__(self) -> None:
        # timm leaves out silently some parts that it does not know
        if _SPELLING.fullmatch(self.config) is None:
            raise InputError(
                f'"{self.config}" is no RandAugment: expected timm\'s spelling, such as'
                " rand-m9-mstd0.5-inc1."
            )

    def augment(self, image: Image.Image, seed: int) -> Image.Image:
        """Change an image by the operations that a seed (below 2³²) draws."""
        random.seed(seed)
        np.random.seed(seed)
        augment = _timm_augment(self.config, min(image.size), self.mean)
        augmented: Image.Image = augment(image)
        return augmented


@functools.cache
def _timm_augment(config: str, size: int, mean: tuple[float, float, float]) -> TimmRandAugment:
    """timm's operations, with the parameters that timm's own training gives them."""
    given = {
        "translate_const": int(size * 0.45),
        "img_mean": tuple(min(255, round(255 * level)) for level in mean),
        "interpolation": Image.Resampling.BICUBIC,
    }
    augment = rand_augment_transform(config, given)
    for operation in augment.ops:
        if operation.name.startswith("Posterize"):
            operation.aug_fn = posterize
    return augment


def posterize(image: Image.Image, bits: int, **_: Any) -> Image.Image:
    """Reduce each colour channel of an image to its `bits` highest bits.

    With 0 bits, which timm may ask for and Pillow 13 refuses, the image becomes black.

    >>> image = Image.new("RGB", (1, 1), (255, 100, 3))
    >>> [posterize(image, bits).getpixel((0, 0)) for bits in (0, 1, 8)]
    [(0, 0, 0), (128, 0, 0), (255, 100, 3)]
    """
    return ImageOps.posterize(image, bits) if bits else Image.new(image.mode, image.size)


@contextlib.contextmanager
def keep_generators() -> Iterator[None]:
    """Restore the states of Python's and NumPy's global generators when the block ends."""
    states: tuple[Any, Any] = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


@dataclass(frozen=True)
class RandomErasing:
    """A rectangle of an image replaced by normal noise, with probability `p` (Zhong et al., 2020,
    arXiv:1708.04896).

    As in timm's mode "pixel". A rectangle has an area A of 0.02–1/3 of the image and a ratio r =
    h/w, log r uniform between log 0.3 and −log 0.3; so h = round(√(A r)) and w = round(√(A / r)).
    Of up to ten rectangles the first with h and w below the image's is placed uniformly. The
    operation stands after `Normalize`.

    >>> erasing = RandomErasing(p=1.0)
    >>> erased = erasing.apply(torch.full((1, 3, 32, 32), 9.0), erasing.draw(stream(0, 0), 1))
    >>> 0.02 < (erased != 9.0).float().mean().item() < 0.34
    True
    """

    p: float = 0.25

    def __post_init__(self) -> None:
        check_probability(self, self.p)

    def draw(self, rng: np.random.Generator, count: int) -> Parameters:
        """Draw the parameters of `count` images.

        Returns:
            "chosen": whether each image is erased; "area" (fractions of the image) and "ratio"
            (h/w) of ten rectangles for each image; "place", the rectangle's position in [0, 1)² as
            a share of the free room; "seed", the seed of the noise.
        """
        return {
            "chosen": rng.random(count) < self.p,
            "area": rng.uniform(0.02, 1 / 3, (count, _TRIES)),
            "ratio": np.exp(rng.uniform(math.log(0.3), -math.log(0.3), (count, _TRIES))),
            "place": rng.random((count, 2)),
            "seed": rng.integers(1 << 32, size=count),
        }

    def boxes(
        self, height: int, width: int, parameters: Parameters
    ) -> Int64[np.ndarray, "image 4"]:
        """Compute each image's rectangle, (upper, left, height, width) in pixels.

        Height and width are 0 where none of the ten rectangles fits into the image.
        """
        area = parameters["area"] * height * width
        tried = np.stack(
            [np.sqrt(area * parameters["ratio"]), np.sqrt(area / parameters["ratio"])], axis=2
        ).round()
        fits = np.all(tried < (height, width), axis=2)
        first = tried[np.arange(len(tried)), np.argmax(fits, axis=1)]
        sizes = first * np.any(fits, axis=1, keepdims=True)
        corner = np.floor(parameters["place"] * (np.array([height, width]) - sizes + 1))
        return np.concatenate([corner, sizes], axis=1).astype(np.int64)

    def apply(
        self, batch: Float32[Tensor, "image 3 h w"], parameters: Parameters
    ) -> Float32[Tensor, "image 3 h w"]:
        """Return a copy of the batch in which noise replaces the chosen images' rectangles."""
        erased = batch.clone()
        self.erase(erased, parameters)
        return erased

    def erase(self, batch: Float32[Tensor, "image 3 h w"], parameters: Parameters) -> None:
        """Replace the chosen images' rectangles by noise, in place."""
        boxes = self.boxes(batch.shape[-2], batch.shape[-1], parameters)
        for row in np.flatnonzero(parameters["chosen"]).tolist():
            upper, left, h, w = boxes[row].tolist()
            # torch's generator is twice as fast as NumPy's
            generator = torch.Generator().manual_seed(int(parameters["seed"][row]))
            values = torch.randn(batch.shape[1], h, w, generator=generator)
            batch[row, :, upper : upper + h, left : left + w] = values.to(batch.device)


@dataclass(frozen=True)
class ClassifierViews:
    """The random view of an image that trains a classifier, in timm's order of operations.

    The operations are a crop, a flip, RandAugment, division by 255, (x − mean) / std and random
    erasing. Images have 8 bits up to and including RandAugment. Crops and flips have the same
    random streams as in `sslens.data.views.RandomViews`, so that both classes give the same views
    without RandAugment and erasing.

    Attributes:
        crop: the random crop.
        augment: RandAugment; None leaves it out.
        normalize: the mean and the standard deviation of the colours.
        erasing: random erasing; None leaves it out.

    >>> views = ClassifierViews(RandomResizedCrop(8), RandAugment(), Normalize(), None)
    >>> image = Image.linear_gradient("L").convert("RGB")
    >>> views.batch([image, image], seed=0, step=0, rows=slice(0, 2), total=2).shape
    torch.Size([2, 3, 8, 8])
    """

    crop: RandomResizedCrop
    augment: RandAugment | None
    normalize: Normalize
    erasing: RandomErasing | None

    def batch(
        self, images: Sequence[Image.Image], *, seed: int, step: int, rows: slice, total: int
    ) -> Float32[Tensor, "image 3 size size"]:
        """Make one view of each image.

        Args:
            images: RGB images of any size.
            seed: seed of the run.
            step: number of the training step.
            rows: the positions of `images` among all images of the step.
            total: number of images of the step, on all processes.
        """

        def draw(operation: RandomResizedCrop | Flip | RandomErasing, place: int) -> Parameters:
            parameters = operation.draw(stream(seed, step, 0, 0, place), total)
            return {name: values[rows] for name, values in parameters.items()}

        sizes = np.array([image.size for image in images], np.int64).reshape(-1, 2)
        boxes = self.crop.boxes(sizes, draw(self.crop, 0)).tolist()
        flips = draw(Flip(), 1)["chosen"].tolist()
        seeds = stream(seed, step, 0, 0, 2).integers(1 << 32, size=total)[rows].tolist()
        size, kernel = self.crop.size, resampling(self.crop.interpolation)
        views = torch.empty(len(images), 3, size, size)
        with keep_generators():
            for view, image, box, flip, image_seed in zip(
                views, images, boxes, flips, seeds, strict=True
            ):
                crop = require_rgb(image).crop(tuple(box)).resize((size, size), kernel)
                crop = ImageOps.mirror(crop) if flip else crop
                crop = self.augment.augment(crop, image_seed) if self.augment else crop
                for channel, values in zip(view, crop.split(), strict=True):
                    channel.copy_(torch.from_numpy(np.array(values)))
                self.normalize.apply_(view.div_(255))
        if self.erasing:
            self.erasing.erase(views, draw(self.erasing, 4))
        return views


@dataclass(frozen=True)
class Mixing:
    """Mixup (Zhang et al., 2018, arXiv:1710.09412) and cutmix (Yun et al., 2019, arXiv:1905.04899)
    of pairs of images.

    As timm's mode "batch", except that neighbours in a step, (0, 1), (2, 3), …, are mixed with each
    other. Pairs are random, because the order of the images is random. Mixup gives λx + (1
    − λ)x′, with a share λ from Beta(mixup, mixup). Cutmix draws λ from Beta(cutmix, cutmix) and
    puts a box of x′ into x, with √(1 − λ) of the image's sides and a uniform centre; λ then becomes
    the share of x that is left. Where both parameters are above 0, each of the two is taken with
    probability 1/2. `together` images are mixed by one draw, as many as one process of the released
    code mixed at once, so that the draws do not depend on the number of processes.

    >>> mixing = Mixing(mixup=0.8, cutmix=0.0)
    >>> images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 2, 2)
    >>> mixed, share = mixing.apply(images, seed=0, step=0, rows=slice(0, 4), total=4)
    >>> torch.allclose(mixed[2, 0, 0, 0], 3 - share[2])  # 2λ + 3(1 − λ)
    True

    Raises:
        InputError: a parameter below 0, or no pairs of images together.
    """

    mixup: float = 0.8
    cutmix: float = 1.0
    together: int = 32

    def __post_init__(self) -> None:
        for name in ("mixup", "cutmix"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(
                    f"Images cannot be mixed with {name} {getattr(self, name)}: give 0 or more."
                )
        if self.together < 2 or self.together % 2:
            raise InputError(
                f"{self.together} images cannot be mixed together in pairs: give an even number for"
                " together."
            )

    def draw(self, rng: np.random.Generator, count: int) -> Parameters:
        """Draw the parameters of `count` groups of images that are mixed together.

        Returns:
            "cut": whether a group is mixed by cutmix and not by mixup; "share": λ; "centre": the
            centre of cutmix's box, in [0, 1)² of the image.
        """
        cut = rng.random(count) < (0.5 if self.mixup and self.cutmix else float(self.cutmix > 0))
        shares: list[Float64[np.ndarray, " group"]] = [
            rng.beta(alpha, alpha, count) if alpha else np.ones(count)
            for alpha in (self.mixup, self.cutmix)
        ]
        return {
            "cut": cut,
            "share": np.where(cut, shares[1], shares[0]),
            "centre": rng.random((count, 2)),
        }

    def apply(
        self,
        batch: Float32[Tensor, "image 3 h w"],
        *,
        seed: int,
        step: int,
        rows: slice,
        total: int,
    ) -> tuple[Float32[Tensor, "image 3 h w"], Float32[Tensor, " image"]]:
        """Mix each image with its neighbour.

        Args:
            batch: a part of the images of a training step.
            seed: seed of the run.
            step: number of the training step.
            rows: the positions of `batch` among all images of the step.
            total: number of images of the step, on all processes.

        Returns:
            The mixed images, and for each one the share λ of it that comes from the image itself.

        Raises:
            ValueError: `rows` separate the two images of a pair.
        """
        if rows.start % 2 or len(batch) % 2:
            raise ValueError(
                f"rows {rows.start} to {rows.stop} part a pair of images that are mixed"
            )
        drawn = self.draw(stream(seed, step, MIXING), -(-total // self.together))
        mixed, share = torch.empty_like(batch), torch.ones(len(batch))
        first = rows.start // self.together
        for group in range(first, -(-rows.stop // self.together)):
            start = max(group * self.together, rows.start)
            stop = min((group + 1) * self.together, rows.stop)
            here = slice(start - rows.start, stop - rows.start)
            pairs, into = (images[here].unflatten(0, (-1, 2)) for images in (batch, mixed))
            left = float(drawn["share"][group])
            if drawn["cut"][group]:
                height, width = batch.shape[-2:]
                upper, lower, start, end = cut_box(height, width, left, drawn["centre"][group])
                into.copy_(pairs)
                inside = (..., slice(upper, lower), slice(start, end))
                into[inside].copy_(pairs[inside].flip(1))
                left = 1 - (lower - upper) * (end - start) / (height * width)
            else:
                for one, other in ((0, 1), (1, 0)):
                    torch.lerp(pairs[:, other], pairs[:, one], left, out=into[:, one])
            share[here] = left
        return mixed, share


def cut_box(
    height: int, width: int, share: float, centre: Float64[np.ndarray, "2"]
) -> tuple[int, int, int, int]:
    """Compute cutmix's box (upper, lower, left, right) in pixels.

    The box has √(1 − λ) of the image's height and width, and is cut off at the image's edges.

    Args:
        height: height of the image in pixels.
        width: width of the image in pixels.
        share: λ, the share of the image that would be left if nothing were cut off.
        centre: the box's centre (vertical, horizontal), in [0, 1)² of the image.

    >>> cut_box(8, 8, share=0.75, centre=np.array([0.5, 0.0]))  # 4 × 4 around row 4, column 0
    (2, 6, 0, 2)
    """
    edges: list[int] = []
    for side, place in zip((height, width), centre.tolist(), strict=True):
        length, middle = int(side * math.sqrt(1 - share)), int(place * side)
        edges += [max(middle - length // 2, 0), min(middle + (length + 1) // 2, side)]
    return edges[0], edges[1], edges[2], edges[3]
