"""Random views of images for pre-training, and the fixed transform for evaluation.

All randomness of a training step is drawn for the whole global batch from (seed, step), and each process, micro-batch
or data worker takes its rows. So a step has the same views however its batch is split, and resuming at any step needs
no generator's state. Hence an operation is two functions: `draw(rng, count)`, parameters for `count` images, which
depends on nothing else; and `apply(batch, parameters)`, which is deterministic and treats each image by itself.

A `View` is one crop, taken from PIL images of any size, and operations on the float32 batch of these crops, vectorised
with a parameter per image, on a CPU or a GPU. A `Recipe` is the views that an objective wants of each image.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from PIL import Image
from torch import Tensor

from sslens.errors import InputError, nearest

Parameters = dict[str, np.ndarray]
"""What `draw` returns: arrays whose first axis is the image."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_TRIES = 10
_CHUNK = 1 << 20  # values a CPU takes through the operations at a time; ColorJitter works on a fifth of them
_CACHED = 1 << 17  # values which, with an operation's temporaries, stay in a CPU's second-level cache
_BAND = 32  # rows of a large image that one product with the Gaussian's band matrix makes


# ------------------------------------------------------------------------------------------------ randomness by step


def stream(seed: int, step: int, *key: int) -> np.random.Generator:
    """The generator of one purpose (`key`) in one training step, independent of all others.

    PCG64 seeded by NumPy's `SeedSequence(seed, spawn_key=(step, *key))`. The views of a `Recipe` use the keys
    (0, view, operation), `mask_noise` uses (1,). Raises InputError for a negative seed and a step outside 32 bits.

    >>> stream(0, 7, 1).random(2).round(4).tolist()
    [0.0134, 0.9416]
    """
    if seed < 0 or not 0 <= step < 1 << 32:  # a longer step would run into the key
        raise InputError(f"The seed is {seed} and the step {step}; both must be 0 or more, and the step below 2³².")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(step, *key))))


def mask_noise(seed: int, step: int, rows: slice, total: int, patches: int) -> Float32[Tensor, "image patch"]:
    """Uniform noise in [0, 1) for random masking: a patch is kept if its noise is among its image's smallest.

    Drawn for the `total` images of the step; returned for those in `rows` (MAE: He et al., 2022, section 3).

    >>> whole = mask_noise(0, 3, slice(0, 4), total=4, patches=9)
    >>> bool((mask_noise(0, 3, slice(2, 4), total=4, patches=9) == whole[2:]).all())
    True
    """
    return torch.from_numpy(stream(seed, step, 1).random((total, patches), dtype=np.float32)[rows])


# -------------------------------------------------------------------------------------------------------- operations


@runtime_checkable
class Operation(Protocol):
    """What a `View` does to its crops: `apply` never changes the batch it is given, but may return it."""

    def draw(self, rng: np.random.Generator, count: int) -> Parameters:
        """Parameters for `count` images: arrays whose first axis is the image."""

    def apply(self, batch: Float32[Tensor, "image 3 h w"], parameters: Parameters) -> Float32[Tensor, "image 3 h w"]:
        """The batch, image i changed by row i of the parameters; values are in [0, 1] until `Normalize`."""


@dataclass(frozen=True)
class RandomResizedCrop:
    """A box of random area and shape, resized to `size` × `size` by PIL (antialiased), as torchvision's on PIL images.

    Up to ten tries of an area A = s·H·W, s uniform in `scale`, and a ratio r = w/h, log r uniform in log `ratio`, give
    w = round(√(A r)) and h = round(√(A / r)); the first that fits in the image is placed uniformly. If none fits, the
    box is the largest central one with a ratio within bounds (Szegedy et al., 2015). The box is cut out first, so that
    the resampling never sees a pixel outside it. Raises InputError for an unknown interpolation or an impossible range.

    >>> crop = RandomResizedCrop(2, scale=(1.0, 1.0), ratio=(1.0, 1.0), interpolation="bilinear")
    >>> image = Image.fromarray(np.full((6, 6, 3), 9, np.uint8))
    >>> crop.apply([image], crop.draw(stream(0, 0), 1))[0, 0].tolist()
    [[9, 9], [9, 9]]
    """

    size: int
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        _resampling(self.interpolation)
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise InputError(f"A crop's scale is {self.scale}; give two fractions of the area, 0 < low ≤ high ≤ 1.")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise InputError(f"A crop's ratio is {self.ratio}; give two ratios width / height, 0 < low ≤ high.")

    def draw(self, rng: np.random.Generator, count: int) -> Parameters:
        """Ten areas (fractions of the image) and ratios an image, and where in [0, 1)² of the free room the box is."""
        return {
            "area": rng.uniform(*self.scale, (count, _TRIES)),
            "ratio": np.exp(rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1]), (count, _TRIES))),
            "place": rng.random((count, 2)),
        }

    def boxes(self, sizes: Int64[np.ndarray, "image 2"], parameters: Parameters) -> Int64[np.ndarray, "image 4"]:
        """(left, upper, right, lower) in pixels, as PIL's `crop` takes them, in images of (width, height) `sizes`."""
        area = parameters["area"] * sizes.prod(axis=1, keepdims=True)
        tried = np.stack([np.sqrt(area * parameters["ratio"]), np.sqrt(area / parameters["ratio"])], axis=2).round()
        fits = np.all((tried > 0) & (tried <= sizes[:, None]), axis=2)
        chosen = tried[np.arange(len(sizes)), np.argmax(fits, axis=1)]
        corner = np.floor(parameters["place"] * (sizes - chosen + 1))
        missed = np.flatnonzero(~np.any(fits, axis=1))
        width, height = sizes[missed].T
        chosen[missed, 0] = np.minimum(width, np.round(height * self.ratio[1]))
        chosen[missed, 1] = np.minimum(height, np.round(width / self.ratio[0]))
        corner[missed] = (sizes[missed] - chosen[missed]) // 2
        return np.concatenate([corner, corner + chosen], axis=1).astype(np.int64)

    def apply(self, images: Sequence[Image.Image], parameters: Parameters) -> UInt8[Tensor, "image 3 size size"]:
        """The crops (strided channels-last, as PIL stores them). Raises InputError for an image that is not RGB."""
        resampling, sheet = _resampling(self.interpolation), Image.new("RGB", (self.size, self.size * len(images)))
        sizes = np.array([image.size for image in images], np.int64).reshape(-1, 2)
        for row, (image, box) in enumerate(zip(images, self.boxes(sizes, parameters).tolist(), strict=True)):
            crop = _rgb(image).crop(tuple(box)).resize((self.size, self.size), resampling)
            sheet.paste(
                crop, (0, row * self.size)
            )  # one conversion for the batch: one an image costs as much as a crop
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
        _check_probability(self, self.p)

    def draw(self, rng: np.random.Generator, count: int) -> Parameters:
        """Which images are flipped."""
        return {"chosen": rng.random(count) < self.p}

    def apply(self, batch: Float32[Tensor, "image 3 h w"], parameters: Parameters) -> Float32[Tensor, "image 3 h w"]:
        """The batch with the chosen images flipped."""
        return _replace(batch, parameters["chosen"], lambda x: x.flip(-1))


@dataclass(frozen=True)
class ColorJitter:
    """Brightness, contrast, saturation and hue changed in random order, all with probability `p`, as torchvision's.

    With a factor f uniform in [max(0, 1 − strength), 1 + strength], the image x becomes f x + (1 − f) y, clamped to
    [0, 1], where y is black (brightness), the mean of the grey image (contrast) or the grey image (saturation). The hue
    turns by a part of the circle uniform in [−hue, hue], HSV's value and saturation kept. Each image has its own
    factors and order. On floats, while torchvision on PIL images rounds to 8 bits after each.

    >>> grey = torch.full((1, 3, 1, 1), 0.5)
    >>> jitter = ColorJitter(0.4, 0.4, 0.2, 0.1)
    >>> drawn = jitter.draw(stream(0, 0), 1) | {"chosen": np.array([True]), "brightness": np.array([1.2])}
    >>> round(jitter.apply(grey, drawn)[0, 0].item(), 4)
    0.6
    """

    brightness: float
    contrast: float
    saturation: float
    hue: float
    p: float = 0.8

    def __post_init__(self) -> None:
        _check_probability(self, self.p)
        if min(self.brightness, self.contrast, self.saturation) < 0 or not 0 <= self.hue <= 0.5:
            raise InputError(f"{self}: the strengths must be 0 or more, and the hue's at most 0.5, half the circle.")

    def draw(self, rng: np.random.Generator, count: int) -> Parameters:
        """Which images are changed, the three factors, the turn of the hue, and the order of the four changes."""
        return {
            "chosen": rng.random(count) < self.p,
            "brightness": rng.uniform(max(0.0, 1 - self.brightness), 1 + self.brightness, count),
            "contrast": rng.uniform(max(0.0, 1 - self.contrast), 1 + self.contrast, count),
            "saturation": rng.uniform(max(0.0, 1 - self.saturation), 1 + self.saturation, count),
            "hue": rng.uniform(-self.hue, self.hue, count),
            "order": rng.random((count, 4)).argsort(axis=1),
        }

    def apply(self, batch: Float32[Tensor, "image 3 h w"], parameters: Parameters) -> Float32[Tensor, "image 3 h w"]:
        """The batch, changes `order[i, 0]`, then `order[i, 1]`, … of image i if it is chosen (0 is the brightness)."""
        if not parameters["chosen"].any():
            return batch
        batch = batch.clone()
        for position in range(4):
            for number, (name, change_) in enumerate(_CHANGES.items()):
                chosen = parameters["chosen"] & (parameters["order"][:, position] == number)
                if getattr(self, name) == 0 or not chosen.any():
                    continue
                amount = torch.from_numpy(parameters[name][chosen]).to(batch).view(-1, 1, 1, 1)
                if chosen.all():
                    change_(batch, amount)
                else:
                    rows = _rows(chosen, batch)
                    batch.index_copy_(0, rows, change_(batch.index_select(0, rows), amount))
        return batch


@dataclass(frozen=True)
class Grayscale:
    """Grey, 0.2989 R + 0.587 G + 0.114 B in all three channels, with probability `p`.

    >>> Grayscale().apply(torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1), {"chosen": np.array([True])}).flatten()
    tensor([0.2989, 0.2989, 0.2989])
    """

    p: float = 0.2

    def __post_init__(self) -> None:
        _check_probability(self, self.p)

    def draw(self, rng: np.random.Generator, count: int) -> Parameters:
        """Which images become grey."""
        return {"chosen": rng.random(count) < self.p}

    def apply(self, batch: Float32[Tensor, "image 3 h w"], parameters: Parameters) -> Float32[Tensor, "image 3 h w"]:
        """The batch with the chosen images grey."""
        return _replace(batch, parameters["chosen"], lambda x: _grey(x).repeat(1, 3, 1, 1))


@dataclass(frozen=True)
class GaussianBlur:
    """Convolution with a Gaussian of a standard deviation uniform in `sigma` pixels, with probability `p`.

    Separable, cut off at round(4 σ) pixels, edges extended. MoCo-v3 uses PIL's `GaussianBlur(radius=sigma)`, which
    approximates the same Gaussian by repeated box filters and rounds to 8 bits.

    >>> blur = GaussianBlur()
    >>> dot = torch.nn.functional.pad(torch.ones(1, 3, 1, 1), (4, 4, 4, 4))
    >>> out = blur.apply(dot, {"chosen": np.array([True]), "sigma": np.array([1.0])})
    >>> round(1 / (2 * math.pi), 4), round(out[0, 0, 4, 4].item(), 4)
    (0.1592, 0.1592)
    """

    sigma: tuple[float, float] = (0.1, 2.0)
    p: float = 1.0

    def __post_init__(self) -> None:
        _check_probability(self, self.p)
        if not 0 < self.sigma[0] <= self.sigma[1]:
            raise InputError(f"A blur's sigma is {self.sigma}; give two lengths in pixels, 0 < low ≤ high.")

    def draw(self, rng: np.random.Generator, count: int) -> Parameters:
        """Which images are blurred, and by how many pixels."""
        return {"chosen": rng.random(count) < self.p, "sigma": rng.uniform(*self.sigma, count)}

    def apply(self, batch: Float32[Tensor, "image 3 h w"], parameters: Parameters) -> Float32[Tensor, "image 3 h w"]:
        """The batch with the chosen images blurred."""
        chosen = parameters["chosen"]
        if not chosen.any():
            return batch
        sigma = parameters["sigma"][chosen, None]
        offset = np.arange(-_radius(self.sigma[1]), _radius(self.sigma[1]) + 1)
        weights = np.exp(-0.5 * (offset / sigma) ** 2) * (abs(offset) <= _radius(sigma))
        kernels = torch.from_numpy(weights / weights.sum(axis=1, keepdims=True)).to(batch)
        return _replace(
            batch, chosen, lambda x: torch.cat([_convolve(x[few], kernels[few]) for few in _chunks(x, _CACHED)])
        )


@dataclass(frozen=True)
class Solarize:
    """Values of `threshold` and above inverted, x ← 1 − x, with probability `p`.

    >>> Solarize().apply(torch.tensor([0.25, 0.5, 0.75]).view(1, 3, 1, 1), {"chosen": np.array([True])}).flatten()
    tensor([0.2500, 0.5000, 0.2500])
    """

    threshold: float = 128 / 255
    p: float = 0.2

    def __post_init__(self) -> None:
        _check_probability(self, self.p)

    def draw(self, rng: np.random.Generator, count: int) -> Parameters:
        """Which images are solarised."""
        return {"chosen": rng.random(count) < self.p}

    def apply(self, batch: Float32[Tensor, "image 3 h w"], parameters: Parameters) -> Float32[Tensor, "image 3 h w"]:
        """The batch with the chosen images solarised."""
        return _replace(batch, parameters["chosen"], lambda x: torch.where(x >= self.threshold, 1 - x, x))


@dataclass(frozen=True)
class Normalize:
    """(x − mean) / std, channel by channel.

    >>> Normalize().apply(torch.tensor([0.485, 0.456, 0.63]).view(1, 3, 1, 1), {}).flatten().round(decimals=4)
    tensor([0.0000, 0.0000, 0.9956])
    """

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def draw(self, rng: np.random.Generator, count: int) -> Parameters:
        """Nothing is random."""
        return {}

    def apply(self, batch: Float32[Tensor, "*image 3 h w"], parameters: Parameters) -> Float32[Tensor, "*image 3 h w"]:
        """The normalised batch."""
        mean, std = (batch.new_tensor(value).view(3, 1, 1) for value in (self.mean, self.std))
        return (batch - mean).div_(std)


# ----------------------------------------------------------------------------------------------------------- recipes


@dataclass(frozen=True)
class View:
    """One random view: a crop, then operations on the crops in their order."""

    crop: RandomResizedCrop
    operations: tuple[Operation, ...]


@dataclass(frozen=True)
class Recipe:
    """The random views that an objective takes of each image.

    `batch` is `finish` of `crops`; taken apart, data workers can crop (8-bit, small to send) and a GPU do the rest. Of a
    step's `total` images the call gets those in `rows`. On a CPU the result is the same bit for bit however the
    step's images are split; on a GPU to the rounding of matrix products.

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
        """Each view's crops of the images. Raises InputError if `rows` are not as many as the images."""
        _check_rows(len(images), rows, total)
        return tuple(
            view.crop.apply(images, _take(view.crop.draw(stream(seed, step, 0, number, 0), total), rows))
            for number, view in enumerate(self.views)
        )

    def finish(
        self, crops: tuple[UInt8[Tensor, "image 3 _ _"], ...], *, seed: int, step: int, rows: slice, total: int
    ) -> tuple[Float32[Tensor, "image 3 _ _"], ...]:
        """Each view's operations on its crops, on the crops' device. Raises InputError as `crops` does."""
        finished = []
        for number, (view, crop) in enumerate(zip(self.views, crops, strict=True)):
            _check_rows(len(crop), rows, total)
            drawn = [
                _take(operation.draw(stream(seed, step, 0, number, place), total), rows)
                for place, operation in enumerate(view.operations, start=1)
            ]
            whole = torch.empty(crop.shape, device=crop.device)
            for chunk in _chunks(crop, _CHUNK):
                batch = crop[chunk].to(torch.float32, memory_format=torch.contiguous_format).div_(255)
                for operation, parameters in zip(view.operations, drawn, strict=True):
                    batch = operation.apply(batch, _take(parameters, chunk))
                whole[chunk] = batch
            finished.append(whole)
        return tuple(finished)

    def batch(
        self, images: Sequence[Image.Image], *, seed: int, step: int, rows: slice, total: int
    ) -> tuple[Float32[Tensor, "image 3 _ _"], ...]:
        """Each view of the images in `rows` of the step's `total`. Raises InputError as `crops` does."""
        crops = self.crops(images, seed=seed, step=step, rows=rows, total=total)
        return self.finish(crops, seed=seed, step=step, rows=rows, total=total)


def mae_views(size: int) -> Recipe:
    """MAE's one view: a crop of 0.2–1 of the area, bicubic, and a flip (He et al., 2022, appendix A.1, table 8).

    >>> [type(operation).__name__ for operation in mae_views(224).views[0].operations]
    ['Flip', 'Normalize']
    """
    return Recipe((View(RandomResizedCrop(size, scale=(0.2, 1.0)), (Flip(), Normalize())),))


def moco_v3_views(size: int) -> Recipe:
    """MoCo-v3's two views (Chen, Xie and He, 2021; after BYOL: Grill et al., 2020, appendix B, table 6).

    Both: a crop of 0.08–1 of the area, bilinear; jitter (0.4, 0.4, 0.2, 0.1) with p 0.8; grey with p 0.2; a flip. The
    first is always blurred by 0.1–2 pixels; the second with p 0.1, and solarised with p 0.2.

    >>> [operation.p for operation in moco_v3_views(224).views[1].operations[:-1]]
    [0.8, 0.2, 0.1, 0.2, 0.5]
    """
    crop = RandomResizedCrop(size, interpolation="bilinear")
    colour = (ColorJitter(0.4, 0.4, 0.2, 0.1, p=0.8), Grayscale(p=0.2))
    first = View(crop, (*colour, GaussianBlur((0.1, 2.0), p=1.0), Flip(), Normalize()))
    second = View(crop, (*colour, GaussianBlur((0.1, 2.0), p=0.1), Solarize(p=0.2), Flip(), Normalize()))
    return Recipe((first, second))


# -------------------------------------------------------------------------------------------------------- evaluation


@dataclass(frozen=True)
class EvalTransform:
    """The shorter side to `resize` (PIL, antialiased), the central `crop` × `crop`, [0, 1], (x − mean) / std.

    Equal, value by value, to torchvision's Resize, CenterCrop, ToTensor and Normalize on PIL images. An image of
    crop × crop pixels with resize = crop is not resampled. Raises InputError for an unknown interpolation, a crop
    larger than `resize`, or an image that is not RGB.

    >>> transform = EvalTransform(resize=2, crop=2, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    >>> transform(Image.fromarray(np.array([[[0] * 3, [51] * 3], [[102] * 3, [255] * 3]], np.uint8)))[0]
    tensor([[0.0000, 0.2000],
            [0.4000, 1.0000]])
    """

    resize: int = 256
    crop: int = 224
    interpolation: str = "bicubic"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        _resampling(self.interpolation)
        if not 0 < self.crop <= self.resize:
            raise InputError(f"The crop is {self.crop} and the resize {self.resize}; give 0 < crop ≤ resize.")

    def __call__(self, image: Image.Image) -> Float32[Tensor, "3 crop crop"]:
        """The transformed image."""
        shorter = min(_rgb(image).size)
        width, height = (int(self.resize * side / shorter) for side in image.size)
        if (width, height) != image.size:
            image = image.resize((width, height), _resampling(self.interpolation))
        left, upper = round((width - self.crop) / 2), round((height - self.crop) / 2)
        pixels = np.array(image.crop((left, upper, left + self.crop, upper + self.crop)))
        values = torch.from_numpy(pixels).permute(2, 0, 1).to(torch.float32, memory_format=torch.contiguous_format)
        return Normalize(self.mean, self.std).apply(values.div_(255), {})

    def spec(self) -> dict[str, Any]:
        """The settings as plain JSON values.

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


# ----------------------------------------------------------------------------------------- changes of whole batches


def _adjust_brightness_(x: Float32[Tensor, "image 3 h w"], factor: Float32[Tensor, "image 1 1 1"]) -> Tensor:
    return x.mul_(factor).clamp_(0, 1)


def _adjust_contrast_(x: Float32[Tensor, "image 3 h w"], factor: Float32[Tensor, "image 1 1 1"]) -> Tensor:
    # Two sums: torch may split a single one among threads, then its bits would depend on the batch's size.
    mean = _grey(x).sum(-1, keepdim=True).sum(-2, keepdim=True) / (x.shape[-2] * x.shape[-1])
    return x.mul_(factor).add_((1 - factor) * mean).clamp_(0, 1)


def _adjust_saturation_(x: Float32[Tensor, "image 3 h w"], factor: Float32[Tensor, "image 1 1 1"]) -> Tensor:
    grey = _grey(x).mul_(1 - factor)
    return x.mul_(factor).add_(grey).clamp_(0, 1)


def _turn_hue_(x: Float32[Tensor, "image 3 h w"], turn: Float32[Tensor, "image 1 1 1"]) -> Tensor:
    """The hue of HSV turned by a part of the circle.

    With M and m the largest and smallest channel, c = M − m = V S and the hue H in sixths of the circle, HSV → RGB is
    R = m + c [|H − 3| − 1], G = m + c [2 − |H − 2|], B = m + c [2 − |H − 4|], where [·] clamps to [0, 1].
    """
    r, g, b = x.unbind(1)
    high, low = torch.maximum(r, g), torch.minimum(r, g)
    torch.maximum(high, b, out=high), torch.minimum(low, b, out=low)
    c = high - low
    # Few buffers, so that all stay in cache. `lerp` with 0 or 1 selects exactly, several times faster than `where`.
    hue, other, weight = r - g, b - r, c * 4
    hue.add_(weight)
    other.add_(torch.mul(c, 2, out=weight))
    hue.lerp_(other, torch.eq(g, high, out=weight))
    hue.lerp_(torch.sub(g, b, out=other), torch.eq(r, high, out=weight))
    hue.div_(torch.clamp_min(c, torch.finfo(c.dtype).tiny, out=weight))  # a grey pixel has c = 0 and hue 0
    hue.add_(turn[:, 0] * 6)
    hue.sub_(torch.div(hue, 6, out=weight).floor_().mul_(6))
    torch.sub(hue, 3, out=weight).abs_().sub_(1).clamp_(0, 1).mul_(c)
    torch.add(weight, low, out=r)
    for channel, centre in ((g, 2), (b, 4)):
        torch.sub(hue, centre, out=weight).abs_().neg_().add_(2).clamp_(0, 1).mul_(c)
        torch.add(weight, low, out=channel)
    return x


_CHANGES = {
    "brightness": _adjust_brightness_,
    "contrast": _adjust_contrast_,
    "saturation": _adjust_saturation_,
    "hue": _turn_hue_,
}


def _grey(x: Float32[Tensor, "image 3 h w"]) -> Float32[Tensor, "image 1 h w"]:
    # No fused multiply-add (`alpha=`, `addcmul`): it rounds otherwise in a vector's body than in its tail.
    r, g, b = x.split(1, dim=1)
    return (r * 0.2989).add_(g * 0.587).add_(b * 0.114)


def _radius(sigma: Any) -> Any:
    # Cut off for speed too: far weights would be subnormal numbers, which slow a product down a hundredfold.
    return np.floor(4 * sigma + 0.5).astype(int)


def _convolve(
    x: Float32[Tensor, "image 3 h w"], kernels: Float32[Tensor, "image taps"]
) -> Float32[Tensor, "image 3 h w"]:
    """Each image convolved with its own kernel along both axes, as products with band matrices."""
    n, _, h, w = x.shape
    radius = kernels.shape[1] // 2
    across = _band_matrices(kernels, w)
    down = across if h == w else _band_matrices(kernels, h)
    rows, half = x.reshape(n, 3 * h, w), x.new_empty(n, 3 * h, w)
    for out, source in _bands(w, radius):
        half[:, :, out] = torch.bmm(rows[:, :, source], across[:, out, source].transpose(1, 2))
    half, whole = half.view(n, 3, h, w), torch.empty_like(x)
    for out, source in _bands(h, radius):
        whole[:, :, out] = torch.matmul(down[:, None, out, source], half[:, :, source])
    return whole


def _bands(side: int, radius: int) -> Iterator[tuple[slice, slice]]:
    """Slices of the output of a convolution, and those of the input that they need."""
    step = side if side <= 2 * _BAND else _BAND
    for start in range(0, side, step):
        yield slice(start, start + step), slice(max(0, start - radius), start + step + radius)


def _band_matrices(kernels: Float32[Tensor, "image taps"], side: int) -> Float32[Tensor, "image side side"]:
    """T with (T x)_i = Σ_k w_k x_(i + k), where x_j is the nearest edge's for j outside."""
    n, taps = kernels.shape
    radius = taps // 2
    padded = side + 2 * radius
    band = kernels.new_zeros(n, side, padded + 1)
    band[:, :, :taps] = kernels[:, None]
    # Rows one longer than the matrix's, read at its width: each row starts one further to the right.
    band = band.view(n, -1)[:, : side * padded].view(n, side, padded)
    matrices = band[:, :, radius : radius + side].clone()
    matrices[:, :, 0] += band[:, :, :radius].sum(-1)
    matrices[:, :, -1] += band[:, :, radius + side :].sum(-1)
    return matrices


# ------------------------------------------------------------------------------------------------- rows and checks


def _take(parameters: Parameters, rows: slice) -> Parameters:
    return {name: values[rows] for name, values in parameters.items()}


def _replace(batch: Tensor, chosen: Bool[np.ndarray, "image"], function: Callable[[Tensor], Tensor]) -> Tensor:
    """The batch with the chosen images put through the function."""
    if chosen.all() or not chosen.any():
        return function(batch) if chosen.any() else batch
    rows = _rows(chosen, batch)
    return batch.index_copy(0, rows, function(batch.index_select(0, rows)))


def _rows(chosen: Bool[np.ndarray, "image"], batch: Tensor) -> Int64[Tensor, "row"]:
    return torch.from_numpy(np.flatnonzero(chosen)).to(batch.device)


def _chunks(batch: Tensor, values: int) -> Iterator[slice]:
    """Slices of so many values; of one image where its values alone fill the cache; of the whole batch on a GPU."""
    image = max(1, batch[:1].numel())
    images = 1 if image >= _CACHED else max(1, values // image)
    if batch.device.type != "cpu":
        images = max(1, len(batch))
    return (slice(start, start + images) for start in range(0, len(batch), images))


def _check_rows(given: int, rows: slice, total: int) -> None:
    wanted = len(range(total)[rows])
    if given != wanted:
        raise InputError(f"There are {given} images for rows {rows.start} to {rows.stop} of {total}; give {wanted}.")


def _check_probability(operation: object, p: float) -> None:
    if not 0 <= p <= 1:
        raise InputError(f"{operation}: p must be a probability, from 0 to 1.")


def _resampling(interpolation: str) -> Image.Resampling:
    if interpolation not in _RESAMPLING:
        raise InputError(f"The interpolation {interpolation!r} is unknown; {nearest(interpolation, _RESAMPLING)}.")
    return _RESAMPLING[interpolation]


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode != "RGB":
        raise InputError(f"An image has PIL mode {image.mode}, RGB is needed: call image.convert('RGB').")
    return image
