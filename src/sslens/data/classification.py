"""What a classifier's training does to its images beside crops and flips: RandAugment, random
erasing, mixup and cutmix."""

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
from timm.data.auto_augment import RandAugment as Timms
from timm.data.auto_augment import rand_augment_transform
from torch import Tensor

from sslens.data.colour import IMAGENET_MEAN, Normalize, Parameters, check_probability
from sslens.data.transform import require_rgb, resampling
from sslens.data.views import Flip, RandomResizedCrop, stream
from sslens.errors import InputError

#: key of the random stream that images are mixed by; see `sslens.data.views.stream`
MIXING = 4
_TRIES = 10
_SPELLING = re.compile(r"rand(-(m|n|mmax|inc)\d+|-(p|mstd)\d+(\.\d+)?)*")


@dataclass(frozen=True)
class RandAugment:
    """timm's RandAugment (Cubuk et al., 2020, arXiv:1909.13719), each image with a random stream of
    its own.

    timm draws from Python's and NumPy's global generators: they are seeded for each image (within
    `generators_kept`). It works on 8-bit images, so before `Normalize`. Raises InputError for a
    configuration that timm does not take.

    Attributes:
        config: as timm spells it; `rand-m9-mstd0.5-inc1` is two operations of magnitude 9 ± 0.5
            that grow with it.
        mean: colour, 0 to 1, that comes in where an image is moved or turned.

    >>> image = Image.linear_gradient("L").convert("RGB")
    >>> with generators_kept():
    ...     RandAugment().changed(image, seed=1) == RandAugment().changed(image, seed=1)
    True
    """

    config: str = "rand-m9-mstd0.5-inc1"
    mean: tuple[float, float, float] = IMAGENET_MEAN

    def __post_init__(self) -> None:
        if (
            _SPELLING.fullmatch(self.config) is None
        ):  # of what timm does not know it leaves some out silently
            raise InputError(
                f'"{self.config}" is no RandAugment: expected timm\'s spelling, such as'
                " rand-m9-mstd0.5-inc1."
            )

    def changed(self, image: Image.Image, seed: int) -> Image.Image:
        """The image, changed by the operations that a seed below 2³² draws."""
        random.seed(seed)
        np.random.seed(seed)
        result: Image.Image = _timms(self.config, min(image.size), self.mean)(image)
        return result


@functools.cache
def _timms(config: str, size: int, mean: tuple[float, float, float]) -> Timms:
    """With what timm's own training gives it."""
    given = {
        "translate_const": int(size * 0.45),
        "img_mean": tuple(min(255, round(255 * each)) for each in mean),
        "interpolation": Image.Resampling.BICUBIC,
    }
    made = rand_augment_transform(config, given)
    for operation in made.ops:
        if operation.name.startswith("Posterize"):
            operation.aug_fn = posterize
    return made


def posterize(image: Image.Image, bits: int, **_: Any) -> Image.Image:
    """An image with so many bits of each colour; without any it is black, which timm may ask for
    and Pillow 13 refuses.

    >>> image = Image.new("RGB", (1, 1), (255, 100, 3))
    >>> [posterize(image, bits).getpixel((0, 0)) for bits in (0, 1, 8)]
    [(0, 0, 0), (128, 0, 0), (255, 100, 3)]
    """
    return ImageOps.posterize(image, bits) if bits else Image.new(image.mode, image.size)


@contextlib.contextmanager
def generators_kept() -> Iterator[None]:
    """The states of the global generators, put back at the end."""
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

    As timm's "pixel". Up to ten tries of an area of 0.02–1/3 of the image and a ratio r = h/w, log
    r uniform between log 0.3 and −log 0.3, give h = round(√(A r)) and w = round(√(A / r)); the
    first with h and w below the image's is placed uniformly. Stands after `Normalize`.

    >>> erasing = RandomErasing(p=1.0)
    >>> erased = erasing.apply(torch.full((1, 3, 32, 32), 9.0), erasing.draw(stream(0, 0), 1))
    >>> 0.02 < (erased != 9.0).float().mean().item() < 0.34
    True
    """

    p: float = 0.25

    def __post_init__(self) -> None:
        check_probability(self, self.p)

    def draw(self, rng: np.random.Generator, count: int) -> Parameters:
        """Which images are erased, ten areas and ratios each, the place in [0, 1)² of the free
        room, and a seed of the noise."""
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
        """(upper, left, height, width) of each image's rectangle; of no height where no try
        fits."""
        area = parameters["area"] * height * width
        tried = np.stack(
            [np.sqrt(area * parameters["ratio"]), np.sqrt(area / parameters["ratio"])], axis=2
        ).round()
        fits = np.all(tried < (height, width), axis=2)
        sizes = tried[np.arange(len(tried)), np.argmax(fits, axis=1)] * np.any(
            fits, axis=1, keepdims=True
        )
        corner = np.floor(parameters["place"] * (np.array([height, width]) - sizes + 1))
        return np.concatenate([corner, sizes], axis=1).astype(np.int64)

    def apply(
        self, batch: Float32[Tensor, "image 3 h w"], parameters: Parameters
    ) -> Float32[Tensor, "image 3 h w"]:
        """The batch with the chosen images' rectangles replaced."""
        erased = batch.clone()
        self.erase(erased, parameters)
        return erased

    def erase(self, batch: Float32[Tensor, "image 3 h w"], parameters: Parameters) -> None:
        """The same, in place."""
        boxes = self.boxes(batch.shape[-2], batch.shape[-1], parameters)
        for row in np.flatnonzero(parameters["chosen"]).tolist():
            upper, left, h, w = boxes[row].tolist()
            noise = torch.Generator().manual_seed(
                int(parameters["seed"][row])
            )  # twice as fast as NumPy's
            values = torch.randn(batch.shape[1], h, w, generator=noise)
            batch[row, :, upper : upper + h, left : left + w] = values.to(batch.device)


@dataclass(frozen=True)
class ClassifierViews:
    """One view of each image: a crop, a flip, RandAugment, [0, 1], (x − mean) / std, erasing, in
    timm's order.

    The images stay 8-bit up to RandAugment, one after another. Random streams are those of
    `sslens.data.views.Recipe`, whose `batch` gives the same where nothing is augmented.

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
        """The views of the images in `rows` of the step's `total`."""

        def drawn(operation: RandomResizedCrop | Flip | RandomErasing, place: int) -> Parameters:
            made = operation.draw(stream(seed, step, 0, 0, place), total)
            return {name: values[rows] for name, values in made.items()}

        sizes = np.array([image.size for image in images], np.int64).reshape(-1, 2)
        boxes = self.crop.boxes(sizes, drawn(self.crop, 0)).tolist()
        flipped = drawn(Flip(), 1)["chosen"].tolist()
        seeds = stream(seed, step, 0, 0, 2).integers(1 << 32, size=total)[rows].tolist()
        size, kernel = self.crop.size, resampling(self.crop.interpolation)
        made = torch.empty(len(images), 3, size, size)
        with generators_kept():
            for view, image, box, flip, own in zip(
                made, images, boxes, flipped, seeds, strict=True
            ):
                seen = require_rgb(image).crop(tuple(box)).resize((size, size), kernel)
                seen = ImageOps.mirror(seen) if flip else seen
                seen = self.augment.changed(seen, own) if self.augment else seen
                for place, plane in zip(view, seen.split(), strict=True):
                    place.copy_(torch.from_numpy(np.array(plane)))
                self.normalize.apply_(view.div_(255))
        if self.erasing:
            self.erasing.erase(made, drawn(self.erasing, 4))
        return made


@dataclass(frozen=True)
class Mixing:
    """Mixup (Zhang et al., 2018, arXiv:1710.09412) and cutmix (Yun et al., 2019, arXiv:1905.04899)
    of pairs of images.

    As timm's by batch, but that images which stand beside each other in a step, (0, 1), (2, 3), …,
    are mixed with each other; which those are is random, since the order of the images is. With a
    share λ: mixup gives λx + (1 − λ)x′, λ from Beta(mixup, mixup); cutmix puts a box of x′ into x,
    of √(1 − λ) of the sides around a uniform centre, λ from Beta(cutmix, cutmix), and λ becomes the
    share of x that is left. Where both are above 0 either is taken with probability 1/2. `together`
    images are mixed by one draw, as many as one process of the released code mixed at once: so what
    is drawn depends on no number of processes.

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
        """For `count` groups: whether by cutmix, λ, and the centre of the box in [0, 1)²."""
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
        """Each image mixed with its neighbour, and λ, the share that is its own; of the `total`
        images of a step those in `rows`.

        Raises ValueError if `rows` part a pair.
        """
        if rows.start % 2 or len(batch) % 2:
            raise ValueError(
                f"rows {rows.start} to {rows.stop} part a pair of images that are mixed"
            )
        drawn = self.draw(stream(seed, step, MIXING), -(-total // self.together))
        mixed, share = torch.empty_like(batch), torch.ones(len(batch))
        first = rows.start // self.together
        for group in range(first, -(-rows.stop // self.together)):
            own = slice(
                max(group * self.together, rows.start), min((group + 1) * self.together, rows.stop)
            )
            here = slice(own.start - rows.start, own.stop - rows.start)
            pairs, into = (each[here].unflatten(0, (-1, 2)) for each in (batch, mixed))
            left = float(drawn["share"][group])
            if drawn["cut"][group]:
                upper, lower, start, end = box(
                    batch.shape[-2], batch.shape[-1], left, drawn["centre"][group]
                )
                into.copy_(pairs)
                inside = (..., slice(upper, lower), slice(start, end))
                into[inside].copy_(pairs[inside].flip(1))
                left = 1 - (lower - upper) * (end - start) / (batch.shape[-2] * batch.shape[-1])
            else:
                for one, other in ((0, 1), (1, 0)):
                    torch.lerp(pairs[:, other], pairs[:, one], left, out=into[:, one])
            share[here] = left
        return mixed, share


def box(
    height: int, width: int, share: float, centre: Float64[np.ndarray, "2"]
) -> tuple[int, int, int, int]:
    """Cutmix's box (upper, lower, left, right): √(1 − λ) of both sides around a centre, cut off at
    the image's edges.

    >>> box(8, 8, share=0.75, centre=np.array([0.5, 0.0]))  # 4 × 4 around row 4, column 0
    (2, 6, 0, 2)
    """
    edges: list[int] = []
    for side, place in zip((height, width), centre.tolist(), strict=True):
        length, middle = int(side * math.sqrt(1 - share)), int(place * side)
        edges += [max(middle - length // 2, 0), min(middle + (length + 1) // 2, side)]
    return edges[0], edges[1], edges[2], edges[3]
