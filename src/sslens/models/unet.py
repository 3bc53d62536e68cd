"""The UNet of guided diffusion, to which RCDM adds a representation: from a noisy image and a time
to the noise that it holds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from sslens.counts import spell_count
from sslens.errors import InputError, nearest
from sslens.models.unet_blocks import (
    GROUPS,
    Attention,
    ResBlock,
    Stage,
    embed_times,
    require_condition,
    require_counts,
    start_at_zero,
)

#: channels of an image
COLOURS = 3


@final
@dataclass(frozen=True)
class UNetShape:
    """The shape of a UNet: all that is needed to build one. It is plain JSON by `asdict`.

    Attributes:
        size: the side of the images in pixels.
        width: the channels of the first level, a multiple of 32.
        blocks: the residual blocks of a level on the way down; there is one more on the way up.
        multipliers: for each level, its channels in multiples of the width. Each level's map has
            half the side of the level before.
        attention: the sides of the maps, in places, after which blocks attend; the middle always
            does.
        heads: the heads of each attention.
        head_width: the channels of a head; where it is given, `heads` says nothing.
        learned_variance: whether three more channels come out, for the variances.
        condition: the width of the representation that is added to the time's embedding; None for a
            network without one.
        dropout: the share of activations that are dropped in training, in each residual block.
        fold: the side in pixels of the squares that become channels before the first convolution
            and pixels again after the last: 1 as in guided diffusion; 2 makes small images cheap.

    Raises:
        InputError: the side cannot be halved so often, a width is no multiple of 32 or of the
            heads, a side with attention is no level's, or a number is out of its range.

    >>> shape = UNetShape.named("rcdm_128", condition=2048)
    >>> shape.sides, shape.out_channels
    ((128, 64, 32, 16, 8), 6)
    >>> UNetShape(36, width=32, multipliers=(1, 2, 2), attention=(9,)).sides
    (36, 18, 9)
    >>> UNetShape(36, width=32, multipliers=(1, 2, 2, 2), attention=())
    Traceback (most recent call last):
    sslens.errors.InputError: Images of 36 px cannot be halved 3 times: give a size of 8, 16, ….
    """

    size: int = 128
    width: int = 256
    blocks: int = 2
    multipliers: Sequence[int] = (1, 1, 2, 3, 4)
    attention: Sequence[int] = (32, 16, 8)
    heads: int = 4
    head_width: int | None = None
    learned_variance: bool = True
    condition: int | None = None
    dropout: float = 0.0
    fold: int = 1

    def __post_init__(self) -> None:
        # JSON has lists only
        object.__setattr__(self, "multipliers", tuple(self.multipliers))
        object.__setattr__(self, "attention", tuple(self.attention))
        if not self.multipliers:
            raise InputError(
                "A UNet without multipliers has no level",
                mend="give {settings.multipliers} a list with a number a level, such as [1,2,2]",
            )
        least = {"width": GROUPS, "blocks": 1, "heads": 1, "fold": 1, "head_width": 1}
        require_counts(vars(self), least | {"multipliers": 1, "attention": 1, "condition": 1})
        if not 0 <= self.dropout < 1:
            raise InputError(f"The dropout is {self.dropout}: expected 0 or more, and under 1.")
        halvings = len(self.multipliers) - 1
        unit = self.fold << halvings
        if self.size < unit or self.size % unit:
            folded = f" in squares of {self.fold} px" if self.fold > 1 else ""
            raise InputError(
                f"Images of {self.size} px cannot be halved {halvings} times{folded}",
                mend=f"give a {{size}} of {unit}, {2 * unit}, …",
            )
        if self.width % GROUPS:
            raise InputError(
                f"The width is {self.width}: expected a multiple of {GROUPS}, the groups of each"
                " normalisation."
            )
        self._require_heads()

    def _require_heads(self) -> None:
        """Raise InputError where attention fits no map or no width."""
        for side in self.attention:
            if side not in self.sides:
                raise InputError(
                    f"No map has {spell_count(side, 'place')} a side: the maps have"
                    f" {', '.join(map(str, self.sides))}",
                    mend="give {settings.attention} a list of some of these",
                )
        unit = self.head_width or self.heads
        attend = [side in self.attention for side in self.sides]
        attend[-1] = True  # the middle
        for multiplier, attends in zip(self.multipliers, attend, strict=True):
            if attends and (unit < 1 or self.width * multiplier % unit):
                raise InputError(
                    f"{self.width * multiplier} channels cannot be cut into heads: expected a"
                    f" multiple of {unit}."
                )

    @classmethod
    def named(cls, name: str, condition: int | None = None) -> "UNetShape":
        """Return the shape of a preset, for a representation of some width.

        Raises:
            InputError: there is no preset of this name; the message offers the nearest.

        >>> UNetShape.named("rcdm_64", condition=192).multipliers
        (1, 2, 3, 4)
        """
        if name not in PRESETS:
            raise InputError(f'There is no UNet "{name}": {nearest(name, PRESETS)}')
        return replace(PRESETS[name], condition=condition)

    @property
    def sides(self) -> tuple[int, ...]:
        """The side of each level's map, in places."""
        return tuple(self.size // self.fold >> level for level in range(len(self.multipliers)))

    @property
    def out_channels(self) -> int:
        """The channels that come out: noise, and where variances are learned as many for these."""
        return 2 * COLOURS if self.learned_variance else COLOURS

    def build(self, seed: int | None = None) -> "UNet":
        """Build a network of this shape.

        The last convolution of each branch and the last layer start at zero, as in guided
        diffusion; other layers start as torch's do.

        Args:
            seed: if given, the weights depend on it alone, and the random numbers of the process
                are left as they were.
        """
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            return UNet(self)


#: RCDM's network at 128 px (its README) and, by guided diffusion's rules, at other sizes
PRESETS = {
    "rcdm_32": UNetShape(32, 128, multipliers=(1, 2, 2, 2), attention=(16, 8)),
    "rcdm_64": UNetShape(64, 192, multipliers=(1, 2, 3, 4), attention=(32, 16, 8)),
    "rcdm_128": UNetShape(),
    "rcdm_256": UNetShape(256, 256, multipliers=(1, 1, 2, 2, 4, 4), attention=(32, 16, 8)),
}


@final
class UNet(nn.Module):
    """guided diffusion's UNet (Dhariwal and Nichol, 2021, arXiv:2105.05233), to which RCDM adds a
    representation (Bordes et al., 2022, arXiv:2112.09164, section 3.1).

    The embedding e of a time t and a representation h is

        e = W₂ SiLU(W₁ φ(t) + b₁) + b₂ + W h + b,   φ(t) = (cos ω t, sin ω t),
        ω_i = 10000^(−i / (width / 2)).

    Each residual block puts out skip(x) + C₂ SiLU((1 + s) GN(C₁ SiLU(GN(x))) + r), where C are
    3 × 3 convolutions, GN is a group normalisation with 32 groups, and (s, r) is linear in SiLU(e).
    The block that ends a level halves or doubles the map before its first convolution.

    Tensors have the names of the authors' files. Under bfloat16's autocast, the embeddings and the
    last layer are computed in float32, and normalisations and attention sum in float32.

    Args:
        shape: the shape of the network.

    >>> network = UNetShape(16, 32, 1, (1, 2), attention=(8,), condition=10).build(seed=0)
    >>> images, times = torch.zeros(2, 3, 16, 16), torch.tensor([0, 999])
    >>> network(images, times, torch.ones(2, 10)).shape  # the noise, then the variances
    torch.Size([2, 6, 16, 16])
    """

    def __init__(self, shape: UNetShape) -> None:
        super().__init__()
        self.shape = shape
        width, wide = shape.width, 4 * shape.width
        self.time_embed = nn.Sequential(nn.Linear(width, wide), nn.SiLU(), nn.Linear(wide, wide))
        if shape.condition is not None:
            self.ssl_emb = nn.Linear(shape.condition, wide)
        squares = shape.fold**2
        first = width * shape.multipliers[0]
        stem = nn.Conv2d(COLOURS * squares, first, 3, padding=1)
        down, channels = _list_down(shape, first)
        self.input_blocks = nn.ModuleList([Stage(stem), *down])
        last = channels[-1]
        heads = _count_heads(shape, last)
        self.middle_block = Stage(
            _make_block(shape, last, last), Attention(last, heads), _make_block(shape, last, last)
        )
        self.output_blocks = nn.ModuleList(_list_up(shape, channels))
        out = nn.Conv2d(first, shape.out_channels * squares, 3, padding=1)
        self.out = nn.Sequential(nn.GroupNorm(GROUPS, first), nn.SiLU(), start_at_zero(out))

    def forward(
        self,
        images: Float[Tensor, "image 3 size size"],
        times: Float[Tensor, " image"] | Int[Tensor, " image"],
        condition: Float[Tensor, "image dim"] | None = None,
    ) -> Float[Tensor, "image channel size size"]:
        """Predict the noise in images, and the variances where they are learned.

        Args:
            images: noisy images; clean ones have values in [−1, 1].
            times: a time from 0 to 1000 for each image; it may be fractional.
            condition: a representation for each image; None for a network that was built for none.

        Raises:
            InputError: images have another side, or the representations have another width, than
                the network was built for, or are missing.
        """
        return self.denoise(images, self.embed(times, condition))

    def embed(
        self,
        times: Float[Tensor, " image"] | Int[Tensor, " image"],
        condition: Float[Tensor, "image dim"] | None = None,
    ) -> Float[Tensor, "image embedding"]:
        """Embed times, and representations where they are given, in the precision of the weights.

        Raises:
            InputError: the representations have another width than the network was built for, or
                are missing.
        """
        require_condition(condition, self.shape.condition)
        dtype = next(self.time_embed.parameters()).dtype
        with torch.autocast(times.device.type, enabled=False):
            waves = embed_times(times.to(dtype), self.shape.width)
            embedding: Tensor = self.time_embed(waves)
            if condition is not None:
                embedding = embedding + self.ssl_emb(condition.to(dtype))
        return embedding

    def denoise(
        self,
        images: Float[Tensor, "image 3 size size"],
        embedding: Float[Tensor, "image embedding"],
    ) -> Float[Tensor, "image channel size size"]:
        """Predict from noisy images and an embedding of the time and of the representation.

        Raises:
            InputError: images have another side than the network was built for.
        """
        if images.shape[-1] != self.shape.size:
            raise InputError(
                f"The images have {images.shape[-1]} px, and the generator was built for"
                f" {self.shape.size} px",
                mend=f"give {{size={self.shape.size}}}",
            )
        active = F.silu(embedding)
        x = F.pixel_unshuffle(images, self.shape.fold)
        if _is_faster_channels_last(x):
            x = x.contiguous(memory_format=torch.channels_last)
        skips = []
        for stage in self.input_blocks:
            x = stage(x, active)
            skips.append(x)
        x = self.middle_block(x, active)
        for stage in self.output_blocks:
            x = stage(torch.cat([x, skips.pop()], dim=1), active)
        with torch.autocast(x.device.type, enabled=False):
            x = self.out(x.to(images.dtype))
        return F.pixel_shuffle(x, self.shape.fold)


def _is_faster_channels_last(x: Tensor) -> bool:
    """Whether channels of maps should lie last in memory, where a CPU's convolutions want them.

    Of such maps torch's group normalisation takes twenty times as long with a gradient, and in
    bfloat16 so much longer that nothing is won for sure.
    """
    if x.device.type != "cpu" or torch.is_grad_enabled():
        return False
    return x.dtype != torch.bfloat16 and not torch.is_autocast_enabled("cpu")


def _count_heads(shape: UNetShape, channels: int) -> int:
    return channels // shape.head_width if shape.head_width else shape.heads


def _list_down(shape: UNetShape, first: int) -> tuple[list[Stage], list[int]]:
    """The stages on the way down after the first convolution, and the channels that each stage and
    the convolution put out."""
    stages, channels = [], [first]
    for level, (multiplier, side) in enumerate(zip(shape.multipliers, shape.sides, strict=True)):
        for _ in range(shape.blocks):
            stages.append(_make_stage(shape, channels[-1], multiplier, side))
            channels.append(multiplier * shape.width)
        if level < len(shape.multipliers) - 1:
            out = channels[-1]
            stages.append(Stage(_make_block(shape, out, out, scale=0.5)))
            channels.append(out)
    return stages, channels


def _list_up(shape: UNetShape, channels: Sequence[int]) -> Iterator[Stage]:
    """The stages on the way up; each takes what the stage before and a stage on the way down put
    out."""
    skips, before = list(channels), channels[-1]
    levels = list(zip(shape.multipliers, shape.sides, strict=True))
    for level, (multiplier, side) in reversed(list(enumerate(levels))):
        out = multiplier * shape.width
        for number in range(shape.blocks + 1):
            stage = _make_stage(shape, before + skips.pop(), multiplier, side)
            if level and number == shape.blocks:
                stage.append(_make_block(shape, out, out, scale=2.0))
            yield stage
            before = out


def _make_stage(shape: UNetShape, into: int, multiplier: int, side: int) -> Stage:
    """A residual block, and attention after it at the sides that have some."""
    out = multiplier * shape.width
    stage = Stage(_make_block(shape, into, out))
    if side in shape.attention:
        stage.append(Attention(out, _count_heads(shape, out)))
    return stage


def _make_block(shape: UNetShape, into: int, out: int, scale: float = 1.0) -> ResBlock:
    return ResBlock(into, out, 4 * shape.width, shape.dropout, scale)
