"""Operations on the pixels of a float32 batch: colour jitter, grey, blur, solarisation and
normalisation.

Each operation is vectorised with a parameter per image, on a CPU or a GPU. It treats each image by
itself: on a CPU the result for an image does not depend, bit for bit, on the other images in the
batch. `draw(rng, count)` returns the parameters of `count` images, `apply(batch, parameters)` is
deterministic; values are in [0, 1] until `Normalize`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from sslens.data.imagenet import IMAGENET_MEAN, IMAGENET_STD
from sslens.errors import InputError

Parameters = dict[str, np.ndarray]
"""The parameters that `draw` returns: arrays by name, with the image as their first axis."""

#: values which, with an operation's temporaries, stay in a CPU's second-level cache
_CACHED = 1 << 17
_BAND = 32  # rows of a large image that one product with the Gaussian's band matrix makes


@dataclass(frozen=True)
class ColorJitter:
    """Random changes of brightness, contrast, saturation and hue in random order, as in
    torchvision's ColorJitter; an image gets all four changes with probability `p`, or none.

    With a factor f uniform in [max(0, 1 − strength), 1 + strength], the image x becomes f x + (1 −
    f) y, clamped to [0, 1], where y is black (brightness), the mean of the grey image (contrast) or
    the grey image (saturation). The hue turns by a part of the colour circle that is uniform in
    [−hue, hue]; HSV's value and saturation stay. Each image has its own factors and order. Values
    stay floats, while torchvision rounds PIL images to 8 bits after each change.

    >>> grey = torch.full((1, 3, 1, 1), 0.5)
    >>> jitter = ColorJitter(0.4, 0.4, 0.2, 0.1)
    >>> parameters = jitter.draw(np.random.default_rng(0), 1)
    >>> parameters |= {"chosen": np.array([True]), "brightness": np.array([1.2])}
    >>> round(jitter.apply(grey, parameters)[0, 0].item(), 4)
    0.6
    """

    brightness: float
    contrast: float
    saturation: float
    hue: float
    p: float = 0.8

    def __post_init__(self) -> None:
        check_probability(self, self.p)
        if min(self.brightness, self.contrast, self.saturation) < 0 or not 0 <= self.hue <= 0.5:
            raise InputError(
                f"{self}: the strengths must be 0 or more, and the hue's at most 0.5, half the"
                " circle."
            )

    def draw(self, rng: np.random.Generator, count: int) -> Parameters:
        """Draw the parameters of `count` images.

        Returns:
            "chosen": whether each image is changed; "brightness", "contrast" and "saturation": the
            factors f; "hue": the turn, as a share of the colour circle; "order": the order of the
            four changes, [image, 4], where 0 is brightness, 1 contrast, 2 saturation and 3 hue.
        """
        return {
            "chosen": rng.random(count) < self.p,
            "brightness": rng.uniform(max(0.0, 1 - self.brightness), 1 + self.brightness, count),
            "contrast": rng.uniform(max(0.0, 1 - self.contrast), 1 + self.contrast, count),
            "saturation": rng.uniform(max(0.0, 1 - self.saturation), 1 + self.saturation, count),
            "hue": rng.uniform(-self.hue, self.hue, count),
            "order": rng.random((count, 4)).argsort(axis=1),
        }

    def apply(
        self, batch: Float32[Tensor, "image 3 h w"], parameters: Parameters
    ) -> Float32[Tensor, "image 3 h w"]:
        """Apply to each chosen image i the changes `order[i, 0]`, then `order[i, 1]`, and so on."""
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

    >>> red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    >>> Grayscale().apply(red, {"chosen": np.array([True])}).flatten()
    tensor([0.2989, 0.2989, 0.2989])
    """

    p: float = 0.2

    def __post_init__(self) -> None:
        check_probability(self, self.p)

    def draw(self, rng: np.random.Generator, count: int) -> Parameters:
        """Draw "chosen": whether each of `count` images becomes grey."""
        return {"chosen": rng.random(count) < self.p}

    def apply(
        self, batch: Float32[Tensor, "image 3 h w"], parameters: Parameters
    ) -> Float32[Tensor, "image 3 h w"]:
        """Return the batch with the chosen images turned grey."""
        return change_chosen(batch, parameters["chosen"], lambda x: _grey(x).repeat(1, 3, 1, 1))


@dataclass(frozen=True)
class GaussianBlur:
    """Convolution with a Gaussian of a standard deviation uniform in `sigma` pixels, with
    probability `p`.

    The Gaussian is separable and cut off at round(4 σ) pixels; the image's edges are extended.
    MoCo-v3 uses PIL's `GaussianBlur(radius=sigma)`, which approximates the same Gaussian by
    repeated box filters and rounds to 8 bits.

    >>> blur = GaussianBlur()
    >>> dot = torch.nn.functional.pad(torch.ones(1, 3, 1, 1), (4, 4, 4, 4))
    >>> out = blur.apply(dot, {"chosen": np.array([True]), "sigma": np.array([1.0])})
    >>> round(1 / (2 * np.pi), 4), round(out[0, 0, 4, 4].item(), 4)
    (0.1592, 0.1592)
    """

    sigma: tuple[float, float] = (0.1, 2.0)
    p: float = 1.0

    def __post_init__(self) -> None:
        check_probability(self, self.p)
        if not 0 < self.sigma[0] <= self.sigma[1]:
            raise InputError(
                f"A blur's sigma is {self.sigma}; give two lengths in pixels, 0 < low ≤ high."
            )

    def draw(self, rng: np.random.Generator, count: int) -> Parameters:
        """Draw "chosen", whether each of `count` images is blurred, and "sigma" in pixels."""
        return {"chosen": rng.random(count) < self.p, "sigma": rng.uniform(*self.sigma, count)}

    def apply(
        self, batch: Float32[Tensor, "image 3 h w"], parameters: Parameters
    ) -> Float32[Tensor, "image 3 h w"]:
        """Return the batch with the chosen images blurred."""
        chosen = parameters["chosen"]
        if not chosen.any():
            return batch
        sigma = parameters["sigma"][chosen, None]
        offset = np.arange(-_radius(self.sigma[1]), _radius(self.sigma[1]) + 1)
        weights = np.exp(-0.5 * (offset / sigma) ** 2) * (abs(offset) <= _radius(sigma))
        kernels = torch.from_numpy(weights / weights.sum(axis=1, keepdims=True)).to(batch)

        def blur(x: Tensor) -> Tensor:
            return torch.cat([_convolve(x[part], kernels[part]) for part in chunks(x, _CACHED)])

        return change_chosen(batch, chosen, blur)


@dataclass(frozen=True)
class Solarize:
    """Values of `threshold` and above inverted, x ← 1 − x, with probability `p`.

    >>> pixel = torch.tensor([0.25, 0.5, 0.75]).view(1, 3, 1, 1)
    >>> Solarize().apply(pixel, {"chosen": np.array([True])}).flatten()
    tensor([0.2500, 0.5000, 0.2500])
    """

    threshold: float = 128 / 255
    p: float = 0.2

    def __post_init__(self) -> None:
        check_probability(self, self.p)

    def draw(self, rng: np.random.Generator, count: int) -> Parameters:
        """Draw "chosen": whether each of `count` images is solarised."""
        return {"chosen": rng.random(count) < self.p}

    def apply(
        self, batch: Float32[Tensor, "image 3 h w"], parameters: Parameters
    ) -> Float32[Tensor, "image 3 h w"]:
        """Return the batch with the chosen images solarised."""
        return change_chosen(
            batch, parameters["chosen"], lambda x: torch.where(x >= self.threshold, 1 - x, x)
        )


@dataclass(frozen=True)
class Normalize:
    """(x − mean) / std, channel by channel.

    >>> pixel = torch.tensor([0.485, 0.456, 0.63]).view(1, 3, 1, 1)
    >>> Normalize().apply(pixel, {}).flatten().round(decimals=4)
    tensor([0.0000, 0.0000, 0.9956])
    """

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def draw(self, rng: np.random.Generator, count: int) -> Parameters:
        """Return no parameters, because nothing is random."""
        return {}

    def apply(
        self, batch: Float32[Tensor, "*image 3 h w"], parameters: Parameters
    ) -> Float32[Tensor, "*image 3 h w"]:
        """Return the normalised batch."""
        mean, std = self._like(batch)
        return (batch - mean).div_(std)

    def apply_(self, batch: Float32[Tensor, "*image 3 h w"]) -> Float32[Tensor, "*image 3 h w"]:
        """Normalise the batch in place."""
        mean, std = self._like(batch)
        return batch.sub_(mean).div_(std)

    def _like(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        return batch.new_tensor(self.mean).view(3, 1, 1), batch.new_tensor(self.std).view(3, 1, 1)


def _adjust_brightness_(
    x: Float32[Tensor, "image 3 h w"], factor: Float32[Tensor, "image 1 1 1"]
) -> Tensor:
    return x.mul_(factor).clamp_(0, 1)


def _adjust_contrast_(
    x: Float32[Tensor, "image 3 h w"], factor: Float32[Tensor, "image 1 1 1"]
) -> Tensor:
    # Two sums, because torch may split a single sum among threads: its bits would then depend on
    # the batch's size.
    mean = _grey(x).sum(-1, keepdim=True).sum(-2, keepdim=True) / (x.shape[-2] * x.shape[-1])
    return x.mul_(factor).add_((1 - factor) * mean).clamp_(0, 1)


def _adjust_saturation_(
    x: Float32[Tensor, "image 3 h w"], factor: Float32[Tensor, "image 1 1 1"]
) -> Tensor:
    grey = _grey(x).mul_(1 - factor)
    return x.mul_(factor).add_(grey).clamp_(0, 1)


def _turn_hue_(x: Float32[Tensor, "image 3 h w"], turn: Float32[Tensor, "image 1 1 1"]) -> Tensor:
    """Turn the hue of HSV by a part of the circle.

    With M and m the largest and smallest channel, c = M − m = V S and the hue H in sixths of the
    circle, HSV → RGB is R = m + c [|H − 3| − 1], G = m + c [2 − |H − 2|], B = m + c [2 − |H − 4|],
    where [·] clamps to [0, 1].
    """
    r, g, b = x.unbind(1)
    high, low = torch.maximum(r, g), torch.minimum(r, g)
    torch.maximum(high, b, out=high), torch.minimum(low, b, out=low)
    c = high - low
    # There are few buffers, so that all stay in the cache. `lerp` with 0 or 1 selects exactly, and
    # several times faster than `where`.
    hue, other, weight = r - g, b - r, c * 4
    hue.add_(weight)
    other.add_(torch.mul(c, 2, out=weight))
    hue.lerp_(other, torch.eq(g, high, out=weight))
    hue.lerp_(torch.sub(g, b, out=other), torch.eq(r, high, out=weight))
    # a grey pixel has c = 0, and gets the hue 0
    hue.div_(torch.clamp_min(c, torch.finfo(c.dtype).tiny, out=weight))
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
    # A fused multiply-add (`alpha=`, `addcmul`) would round otherwise in the body of a vector than
    # in the vector's tail.
    r, g, b = x.split(1, dim=1)
    return (r * 0.2989).add_(g * 0.587).add_(b * 0.114)


def _radius(sigma: Any) -> Any:
    # Weights are cut off for speed too: those far away would be subnormal numbers, which slow a
    # product down a hundredfold.
    return np.floor(4 * sigma + 0.5).astype(int)


def _convolve(
    x: Float32[Tensor, "image 3 h w"], kernels: Float32[Tensor, "image taps"]
) -> Float32[Tensor, "image 3 h w"]:
    """Convolve each image with its own kernel along both axes, as products with band matrices."""
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
    """Yield slices of the output of a convolution, each with the slice of the input that it
    needs."""
    step = side if side <= 2 * _BAND else _BAND
    for start in range(0, side, step):
        yield slice(start, start + step), slice(max(0, start - radius), start + step + radius)


def _band_matrices(
    kernels: Float32[Tensor, "image taps"], side: int
) -> Float32[Tensor, "image side side"]:
    """Make T with (T x)_i = Σ_k w_k x_(i + k), where x_j beyond an edge is the value at that
    edge."""
    n, taps = kernels.shape
    radius = taps // 2
    padded = side + 2 * radius
    band = kernels.new_zeros(n, side, padded + 1)
    band[:, :, :taps] = kernels[:, None]
    # The buffer's rows are one longer than the matrix's. Read at the matrix's width, each row
    # starts one place further to the right.
    band = band.view(n, -1)[:, : side * padded].view(n, side, padded)
    matrices = band[:, :, radius : radius + side].clone()
    matrices[:, :, 0] += band[:, :, :radius].sum(-1)
    matrices[:, :, -1] += band[:, :, radius + side :].sum(-1)
    return matrices


def change_chosen(
    batch: Tensor, chosen: Bool[np.ndarray, " image"], function: Callable[[Tensor], Tensor]
) -> Tensor:
    """Apply a function to the chosen images of a batch, and leave the other images unchanged.

    >>> change_chosen(torch.tensor([1.0, 2.0]), np.array([False, True]), lambda x: 10 * x)
    tensor([ 1., 20.])
    """
    if chosen.all() or not chosen.any():
        return function(batch) if chosen.any() else batch
    rows = _rows(chosen, batch)
    return batch.index_copy(0, rows, function(batch.index_select(0, rows)))


def _rows(chosen: Bool[np.ndarray, " image"], batch: Tensor) -> Int64[Tensor, " row"]:
    return torch.from_numpy(np.flatnonzero(chosen)).to(batch.device)


def chunks(batch: Tensor, values: int) -> Iterator[slice]:
    """Divide a batch into slices of images that hold about `values` values each.

    A slice has at least one image. On a GPU the only slice is the whole batch.

    >>> list(chunks(torch.zeros(5, 3, 2, 2), values=24))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 6, None)]
    """
    image = max(1, batch[:1].numel())
    images = 1 if image >= _CACHED else max(1, values // image)
    if batch.device.type != "cpu":
        images = max(1, len(batch))
    return (slice(start, start + images) for start in range(0, len(batch), images))


def check_probability(operation: object, p: float) -> None:
    """Raise InputError, which names the operation, if its probability `p` is outside [0, 1].

    >>> check_probability(Grayscale(), 0.5)
    """
    if not 0 <= p <= 1:
        raise InputError(f"{operation}: p must be a probability, from 0 to 1.")
