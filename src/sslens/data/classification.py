"""What a classifier's training does to its images beside crops and flips: RandAugment, random erasing, mixup and cutmix."""

import contextlib
import functools
import math
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from PIL import Image, ImageOps
from timm.data.auto_augment import RandAugment as Timms
from timm.data.auto_augment import rand_augment_transform
from torch import Tensor

from sslens.data.colour import IMAGENET_MEAN, Parameters, check_probability
from sslens.data.views import stream
from sslens.errors import InputError

#: key of the random stream that images are mixed by; see `sslens.data.views.stream`
MIXING = 4
_TRIES = 10
_SPELLING = re.compile(r"rand(-(m|n|mmax|inc)\d+|-(p|mstd)\d+(\.\d+)?)*")


@dataclass(frozen=True)
class RandAugment:
    """timm's RandAugment (Cubuk et al., 2020, arXiv:1909.13719), each image with a random stream of its own.

    timm draws from Python's and NumPy's global generators: they are seeded for each image, and put back afterwards. It works on
    8-bit images and stands before `Normalize`. Raises InputError for a configuration that timm does not take.

    Attributes:
        config: as timm spells it; `rand-m9-mstd0.5-inc1` is two operations of magnitude 9 ± 0.5 that grow with it.
        mean: colour, 0 to 1, that comes in where an image is moved or turned.

    >>> whole = torch.arange(192.0).reshape(1, 3, 8, 8) / 255
    >>> operation = RandAugment()
    >>> drawn = operation.draw(stream(0, 0), 1)
    >>> torch.equal(operation.apply(whole, drawn), operation.apply(whole, drawn))
    True
    """

    config: str = "rand-m9-mstd0.5-inc1"
    mean: tuple[float, float, float] = IMAGENET_MEAN

    def __post_init__(self) -> None:
        if _SPELLING.fullmatch(self.config) is None:  # of what timm does not know it leaves some out silently
            raise InputError(
                f'"{self.config}" is no RandAugment: expected timm\'s spelling, such as rand-m9-mstd0.5-inc1.'
            )

    def draw(self, rng: np.random.Generator, count: int) -> Parameters:
        """A seed an image."""
        return {"seed": rng.integers(1 << 32, size=count)}

    def apply(self, batch: Float32[Tensor, "image 3 h w"], parameters: Parameters) -> Float32[Tensor, "image 3 h w"]:
        """The batch, each image changed by its own operations."""
        operation = _timms(self.config, min(batch.shape[-2:]), self.mean)
        pixels = (batch * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        changed = np.empty_like(pixels)
        with _generators_kept():
            for row, seed in enumerate(parameters["seed"].tolist()):
                random.seed(seed)
                np.random.seed(seed)
                changed[row] = operation(Image.fromarray(pixels[row]))
        values = torch.from_numpy(changed).permute(0, 3, 1, 2)
        return values.to(batch.device, torch.float32, memory_format=torch.contiguous_format).div_(255)


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
    """An image with so many bits of each colour; without any it is black, which timm may ask for and Pillow 13 refuses.

    >>> image = Image.new("RGB", (1, 1), (255, 100, 3))
    >>> [posterize(image, bits).getpixel((0, 0)) for bits in (0, 1, 8)]
    [(0, 0, 0), (128, 0, 0), (255, 100, 3)]
    """
    return ImageOps.posterize(image, bits) if bits else Image.new(image.mode, image.size)


@contextlib.contextmanager
def _generators_kept() -> Iterator[None]:
    """The states of the global generators, put back at the end."""
    states: tuple[Any, Any] = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


@dataclass(frozen=True)
class RandomErasing:
    """A rectangle of an image replaced by normal noise, with probability `p` (Zhong et al., 2020, arXiv:1708.04896).

    As timm's "pixel". Up to ten tries of an area of 0.02–1/3 of the image and a ratio r = h/w, log r uniform between log 0.3 and
    −log 0.3, give h = round(√(A r)) and w = round(√(A / r)); the first with h and w below the image's is placed uniformly.
    Stands after `Normalize`.

    >>> erasing = RandomErasing(p=1.0)
    >>> erased = erasing.apply(torch.full((1, 3, 32, 32), 9.0), erasing.draw(stream(0, 0), 1))
    >>> 0.02 < (erased != 9.0).float().mean().item() < 0.34
    True
    """

    p: float = 0.25

    def __post_init__(self) -> None:
        check_probability(self, self.p)

    def draw(self, rng: np.random.Generator, count: int) -> Parameters:
        """Which images are erased, ten areas and ratios each, the place in [0, 1)² of the free room, and a seed of the noise."""
        return {
            "chosen": rng.random(count) < self.p,
            "area": rng.uniform(0.02, 1 / 3, (count, _TRIES)),
            "ratio": np.exp(rng.uniform(math.log(0.3), -math.log(0.3), (count, _TRIES))),
            "place": rng.random((count, 2)),
            "seed": rng.integers(1 << 32, size=count),
        }

    def boxes(self, height: int, width: int, parameters: Parameters) -> Int64[np.ndarray, "image 4"]:
        """(upper, left, height, width) of each image's rectangle; of no height where no try fits."""
        area = parameters["area"] * height * width
        tried = np.stack([np.sqrt(area * parameters["ratio"]), np.sqrt(area / parameters["ratio"])], axis=2).round()
        fits = np.all(tried < (height, width), axis=2)
        sizes = tried[np.arange(len(tried)), np.argmax(fits, axis=1)] * np.any(fits, axis=1, keepdims=True)
        corner = np.floor(parameters["place"] * (np.array([height, width]) - sizes + 1))
        return np.concatenate([corner, sizes], axis=1).astype(np.int64)

    def apply(self, batch: Float32[Tensor, "image 3 h w"], parameters: Parameters) -> Float32[Tensor, "image 3 h w"]:
        """The batch with the chosen images' rectangles replaced."""
        chosen = np.flatnonzero(parameters["chosen"]).tolist()
        if not chosen:
            return batch
        erased, boxes = batch.clone(), self.boxes(batch.shape[-2], batch.shape[-1], parameters)
        for row in chosen:
            upper, left, h, w = boxes[row].tolist()
            noise = np.random.Generator(np.random.PCG64(int(parameters["seed"][row])))
            values = torch.from_numpy(noise.standard_normal((batch.shape[1], h, w), dtype=np.float32))
            erased[row, :, upper : upper + h, left : left + w] = values.to(batch.device)
        return erased


@dataclass(frozen=True)
class Mixing:
    """Mixup (Zhang et al., 2018, arXiv:1710.09412) and cutmix (Yun et al., 2019, arXiv:1905.04899) of pairs of images.

    As timm's by batch, but that images which stand beside each other in a step, (0, 1), (2, 3), …, are mixed with each other;
    which those are is random, since the order of the images is. With a share λ: mixup gives λx + (1 − λ)x′, λ from
    Beta(mixup, mixup); cutmix puts a box of x′ into x, of √(1 − λ) of the sides around a uniform centre, λ from
    Beta(cutmix, cutmix), and λ becomes the share of x that is left. Where both are above 0 either is taken with probability
    1/2. `together` images are mixed by one draw, as many as one process of the released code mixed at once: so what is drawn
    depends on no number of processes.

    >>> mixing = Mixing(mixup=0.8, cutmix=0.0)
    >>> images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 2, 2)
    >>> mixed, share = mixing.apply(images, seed=0, step=0, rows=slice(0, 4), total=4)
    >>> torch.allclose(mixed[2, 0, 0, 0], 3 - share[2])  # 2λ + 3(1 − λ)
    True

    Raises:
        InputError: a parameter below 0, or no images together.
    """

    mixup: float = 0.8
    cutmix: float = 1.0
    together: int = 32

    def __post_init__(self) -> None:
        for name, low in (("mixup", 0), ("cutmix", 0), ("together", 2)):
            if not low <= getattr(self, name) < math.inf:
                raise InputError(f"Images cannot be mixed with {name} {getattr(self, name)}: give {low} or more.")

    def draw(self, rng: np.random.Generator, count: int) -> Parameters:
        """For `count` groups: whether by cutmix, λ, and the centre of the box in [0, 1)²."""
        cut = rng.random(count) < (0.5 if self.mixup and self.cutmix else float(self.cutmix > 0))
        shares: list[Float64[np.ndarray, " group"]] = [
            rng.beta(alpha, alpha, count) if alpha else np.ones(count) for alpha in (self.mixup, self.cutmix)
        ]
        return {"cut": cut, "share": np.where(cut, shares[1], shares[0]), "centre": rng.random((count, 2))}

    def apply(
        self, batch: Float32[Tensor, "image 3 h w"], *, seed: int, step: int, rows: slice, total: int
    ) -> tuple[Float32[Tensor, "image 3 h w"], Float32[Tensor, " image"]]:
        """Each image mixed with its neighbour, and λ, the share that is its own; of the `total` images of a step those in `rows`.

        Raises ValueError if `rows` part a pair.
        """
        if rows.start % 2 or len(batch) % 2:
            raise ValueError(f"rows {rows.start} to {rows.stop} part a pair of images that are mixed")
        drawn = self.draw(stream(seed, step, MIXING), -(-total // self.together))
        mixed, share = batch.clone(), torch.ones(len(batch))
        first = rows.start // self.together
        for group in range(first, -(-rows.stop // self.together)):
            inside = slice(max(group * self.together, rows.start), min((group + 1) * self.together, rows.stop))
            here = slice(inside.start - rows.start, inside.stop - rows.start)
            own = batch[here]
            other = own.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
            left = float(drawn["share"][group])
            if drawn["cut"][group]:
                upper, lower, start, end = box(batch.shape[-2], batch.shape[-1], left, drawn["centre"][group])
                mixed[here, :, upper:lower, start:end] = other[:, :, upper:lower, start:end]
                left = 1 - (lower - upper) * (end - start) / (batch.shape[-2] * batch.shape[-1])
            else:
                mixed[here] = own * left + other * (1 - left)
            share[here] = left
        return mixed, share


def box(height: int, width: int, share: float, centre: Float64[np.ndarray, "2"]) -> tuple[int, int, int, int]:
    """Cutmix's box (upper, lower, left, right): √(1 − λ) of both sides around a centre, cut off at the image's edges.

    >>> box(8, 8, share=0.75, centre=np.array([0.5, 0.0]))  # 4 × 4 around row 4, column 0
    (2, 6, 0, 2)
    """
    edges: list[int] = []
    for side, place in zip((height, width), centre.tolist(), strict=True):
        length, middle = int(side * math.sqrt(1 - share)), int(place * side)
        edges += [max(middle - length // 2, 0), min(middle + (length + 1) // 2, side)]
    return edges[0], edges[1], edges[2], edges[3]
