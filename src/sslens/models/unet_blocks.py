"""The blocks of guided diffusion's UNet: residual blocks that an embedding scales and shifts, and
attention."""

import math
from collections.abc import Mapping
from typing import Any, TypeVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sslens.errors import InputError

Layer = TypeVar("Layer", bound=nn.Module)

#: groups of each normalisation (Wu and He, 2018), as in guided diffusion
GROUPS = 32
#: the longest wave of the times' embedding is 2π times this
LONGEST = 10_000


def embed_times(times: Float[Tensor, " image"], width: int) -> Float[Tensor, "image width"]:
    """Embed times by waves, all cosines first: φ(t) = (cos ω t, sin ω t) with ω_i = 10000^(−2i /
    width) (Vaswani et al., 2017, in guided diffusion's order).

    The width is even. The frequencies are rounded to float32, as the authors' are.

    >>> embed_times(torch.tensor([0.0, 1.0], dtype=torch.float64), 4).round(decimals=4).tolist()
    [[1.0, 1.0, 0.0, 0.0], [0.5403, 1.0, 0.8415, 0.01]]
    """
    half = width // 2
    powers = torch.arange(half, dtype=torch.float32, device=times.device) / half
    angles = times[:, None] * torch.exp(-math.log(LONGEST) * powers)
    return torch.cat([angles.cos(), angles.sin()], dim=1).to(times.dtype)


#: the numbers of blocks of a shape, with their verbs, and the most that there may be
DEPTHS, DEEPEST = {"blocks": "are", "decoder": "is"}, 4096


def require_counts(values: Mapping[str, Any], least: Mapping[str, int]) -> None:
    """Refuse the shape of a network with a number that is too small, or with more blocks than any
    network has.

    Args:
        values: the numbers of the shape by their names, some of them in lists; None is left alone.
        least: the smallest that each may be, by its name.

    Raises:
        InputError: a number is smaller, or there are too many blocks; the message names the
            first one.

    >>> require_counts({"width": -3, "blocks": 2}, {"width": 32, "blocks": 1})
    Traceback (most recent call last):
    sslens.errors.InputError: The width is -3: expected 32 or more.
    """
    for name, low in least.items():
        value = values[name]
        if isinstance(value, tuple):
            small = [number for number in value if number < low]
            if small:
                raise InputError(f"The {name} hold {small[0]}: expected {low} or more each.")
        elif value is not None and value < low:
            verb = "are" if name == "blocks" or name == "heads" else "is"
            raise InputError(f"The {name} {verb} {value}: expected {low} or more.")
        elif name in DEPTHS and value is not None and value > DEEPEST:
            raise InputError(f"The {name} {DEPTHS[name]} {value}: expected {DEEPEST:,} or less.")


def require_condition(condition: Float[Tensor, "image dim"] | None, width: int | None) -> None:
    """Refuse representations that a network was not built for.

    Args:
        condition: a representation for each image, or None.
        width: the width that the network was built for; None for a network without
            representations.

    Raises:
        InputError: the representations have another width, or are missing: a training never leaves
            them out, so that no null representation is learned.
    """
    wanted = "no representation" if width is None else f"representations of width {width}"
    if condition is None and width is not None:
        raise InputError(
            f"The generator was built for {wanted}, and none is given: training never leaves them"
            " out, so that it has learned nothing without them."
        )
    if condition is not None and condition.shape[1] != width:
        raise InputError(
            f"The representations have a width of {condition.shape[1]}, and the generator was built"
            f" for {wanted}: give features of the model, tap and pooling that it was trained on."
        )


@final
class Stage(nn.Sequential):
    """Layers in turn; those that take the embedding are given it."""

    def forward(self, x: Tensor, active: Tensor) -> Tensor:  # type: ignore[override]
        for layer in self:
            x = layer(x, active) if isinstance(layer, ResBlock) else layer(x)
        return x


@final
class ResBlock(nn.Module):
    """A residual block that the embedding scales and shifts (see `sslens.models.unet.UNet`).

    Args:
        into: the channels of its input.
        out: the channels of its output.
        embedding: the width of the embedding.
        dropout: the share of activations that are dropped in training.
        scale: the side of the output's map over the side of the input's: 1, 2 or 0.5.
    """

    def __init__(
        self, into: int, out: int, embedding: int, dropout: float = 0.0, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.scale = scale
        self.in_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, into), nn.SiLU(), nn.Conv2d(into, out, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * out))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, out),
            nn.SiLU(),
            nn.Dropout(dropout),
            start_at_zero(nn.Conv2d(out, out, 3, padding=1)),
        )
        self.skip_connection = nn.Identity() if into == out else nn.Conv2d(into, out, 1)

    def forward(
        self, x: Float[Tensor, "image into _ _"], active: Float[Tensor, "image embedding"]
    ) -> Float[Tensor, "image out _ _"]:
        """Compute the block's output from a map and from SiLU of the embedding."""
        norm, activation, convolve = self.in_layers
        h = convolve(self._resize(activation(_normalise(norm, x))))
        scale, shift = self.emb_layers[1](active)[:, :, None, None].chunk(2, dim=1)
        norm, *layers = self.out_layers
        h = torch.addcmul(shift.to(h.dtype), _normalise(norm, h), (1 + scale).to(h.dtype))
        for layer in layers:
            h = layer(h)
        skip: Tensor = self.skip_connection(self._resize(x))
        return skip + h

    def _resize(self, x: Tensor) -> Tensor:
        if self.scale == 2:
            return F.interpolate(x, scale_factor=2, mode="nearest")
        return F.avg_pool2d(x, 2) if self.scale == 0.5 else x


@final
class Attention(nn.Module):
    """Attention among the places of a map, added to the map: x + P softmax(q kᵀ / √d) v, where the
    channels of GN(x) W are cut into heads first, and each head into q, k and v.

    Args:
        channels: the channels of the map.
        heads: the number of heads.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = start_at_zero(nn.Conv1d(channels, channels, 1))

    def forward(
        self, x: Float[Tensor, "image channel row column"]
    ) -> Float[Tensor, "image channel row column"]:
        """Compute the map plus what each place takes from all places."""
        tokens = _normalise(self.norm, x).flatten(2).transpose(1, 2)
        mixed = F.linear(tokens, self.qkv.weight[:, :, 0], self.qkv.bias)
        q, k, v = mixed.unflatten(2, (self.heads, 3, -1)).permute(3, 0, 2, 1, 4)
        taken = _attend(q, k, v).transpose(1, 2).flatten(2)
        out = F.linear(taken, self.proj_out.weight[:, :, 0], self.proj_out.bias)
        return x + out.transpose(1, 2).unflatten(2, x.shape[2:])


def _attend(
    q: Float[Tensor, "image head place dim"],
    k: Float[Tensor, "image head place dim"],
    v: Float[Tensor, "image head place dim"],
) -> Float[Tensor, "image head place dim"]:
    """Compute softmax(q kᵀ / √d) v.

    With a gradient, on CPUs in bfloat16, two products with the softmax between them take a third of
    the time of torch's fused attention (`bench/rcdm.py`); maps are too small to need fusion.
    """
    slow = q.device.type == "cpu" and q.dtype == torch.bfloat16 and torch.is_grad_enabled()
    if not slow:
        return F.scaled_dot_product_attention(q, k, v)
    heads = q.shape[:2]
    q, k, v = (x.flatten(0, 1) for x in (q, k, v))
    scores = torch.baddbmm(
        q.new_empty(1, 1, 1), q, k.transpose(1, 2), beta=0, alpha=q.shape[2] ** -0.5
    )
    return torch.bmm(scores.softmax(-1), v).unflatten(0, heads)


def _normalise(norm: nn.Module, x: Tensor) -> Tensor:
    """Normalise a map. Both CPUs' and GPUs' kernels sum in float32; what comes out has the map's
    type, where autocast alone would make it float32."""
    normal: Tensor = norm(x)
    return normal.to(x.dtype)


def start_at_zero(layer: Layer) -> Layer:
    """Set all parameters of a layer to zero in place, and return the layer."""
    for value in layer.parameters():
        nn.init.zeros_(value)
    return layer
