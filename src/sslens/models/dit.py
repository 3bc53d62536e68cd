"""A transformer on patches of a noisy image, with a representation in the time's embedding: small
and fast at small sides."""

from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.models.unet_blocks import (
    embed_times,
    require_condition,
    require_counts,
    start_at_zero,
)

#: channels of an image
COLOURS = 3
#: width of the waves by which times are embedded, as in the released code of DiT
WAVES = 256
#: the epsilon of the normalisations, as in the released code of DiT
EPSILON = 1e-6


@final
@dataclass(frozen=True)
class DiTShape:
    """The shape of a diffusion transformer: all that is needed to build one. It is plain JSON by
    `asdict`.

    Attributes:
        size: the side of the images in pixels.
        patch: the side of a patch in pixels.
        width: the width of the tokens.
        blocks: the number of blocks.
        heads: the heads of each attention.
        embedding: the width of the embedding of time and representation.
        canvas: for each patch, so many numbers are computed from the embedding by a layer of two
            and enter the patch's token; 0 for none, as in DiT.
        decoder: the width of two hidden layers that compute the canvas from the representation
            itself; 0 computes it from the embedding by one.
        learned_variance: whether three more channels come out, for the variances.
        condition: the width of the representation that is added to the time's embedding; None for a
            network without one.

    Raises:
        InputError: patches do not tile the images, heads do not divide the width, or a number is
            below 1.

    >>> DiTShape(size=32, patch=4).grid
    8
    >>> DiTShape(size=36, patch=8)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    sslens.errors.InputError: Patches of 8 px do not tile images of 36 px: give a size ...
    """

    size: int = 32
    patch: int = 4
    width: int = 192
    blocks: int = 6
    heads: int = 3
    embedding: int = 192
    canvas: int = 0
    decoder: int = 0
    learned_variance: bool = False
    condition: int | None = None

    def __post_init__(self) -> None:
        least = dict.fromkeys(("size", "patch", "width", "blocks", "heads", "embedding"), 1)
        require_counts(vars(self), least | {"condition": 1, "canvas": 0, "decoder": 0})
        if self.size % self.patch:
            sizes = [
                self.patch * count
                for count in (self.size // self.patch, -(-self.size // self.patch))
            ]
            divisors = [side for side in range(1, self.size + 1) if self.size % side == 0]
            patch = min(divisors, key=lambda side: (abs(side - self.patch), side))
            raise InputError(
                f"Patches of {self.patch} px do not tile images of {self.size} px",
                mend=f"give a {{size}} of {' or '.join(str(size) for size in sizes if size)}, or"
                f" {{settings.patch={patch}}}",
            )
        if self.width % self.heads:
            raise InputError(
                f"A width of {self.width} cannot be cut into {spell_count(self.heads, 'head')}:"
                " expected a multiple."
            )

    @property
    def grid(self) -> int:
        """The number of patches along a side."""
        return self.size // self.patch

    @property
    def drawn(self) -> bool:
        """Whether a decoder draws the canvas."""
        return self.condition is not None and self.decoder > 0 and self.canvas > 0

    @property
    def out_channels(self) -> int:
        """The channels that come out: an image, and where variances are learned as many for
        these."""
        return 2 * COLOURS if self.learned_variance else COLOURS

    def build(self, seed: int | None = None) -> "DiT":
        """Build a network of this shape.

        Args:
            seed: if given, the weights depend on it alone, and the random numbers of the process
                are left as they were.
        """
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            return DiT(self)


@final
class DiT(nn.Module):
    """A diffusion transformer (Peebles and Xie, 2023, arXiv:2212.09748), to which a representation
    is added as RCDM does (Bordes et al., 2022, arXiv:2112.09164, section 3.1).

    The embedding e of a time t and a representation h is that of `sslens.models.unet.UNet`: e = W₂
    SiLU(W₁ φ(t) + b₁) + b₂ + W h + b. Patch p of the image is a token

        z_p = W x_p + a_p + C SiLU(D_p SiLU(e)),

    with learned positions a_p. The last term, which DiT does not have, is the canvas: a
    representation of a whole image says there at once what is where. With a decoder it is

        C SiLU(D_p SiLU(D₂ SiLU(D₁ h + d₁) + d₂)),

    a small network that draws what the representation says of the image. In each block

        z ← z + g ⊙ Attention((1 + s) ⊙ LN(z) + r),   z ← z + g' ⊙ MLP((1 + s') ⊙ LN(z) + r'),

    with (s, r, g, s', r', g') linear in SiLU(e), all 0 at the beginning, and LN without weights;
    and so, without a g, before the last layer, which is 0 at the beginning too. The MLP is four
    times as wide as the tokens, with SiLU for DiT's GELU, which takes a CPU twice the time.

    Under bfloat16's autocast, the embeddings and the last layer are computed in float32.

    Args:
        shape: the shape of the network.

    >>> network = DiTShape(16, 4, width=8, blocks=2, heads=2, canvas=4, condition=10).build(seed=0)
    >>> network(torch.zeros(2, 3, 16, 16), torch.tensor([0, 999]), torch.ones(2, 10)).shape
    torch.Size([2, 3, 16, 16])
    """

    def __init__(self, shape: DiTShape) -> None:
        super().__init__()
        self.shape = shape
        wide, width, patches = shape.embedding, shape.width, shape.grid**2
        self.time_embed = nn.Sequential(nn.Linear(WAVES, wide), nn.SiLU(), nn.Linear(wide, wide))
        if shape.condition is not None:
            self.ssl_emb = nn.Linear(shape.condition, wide)
        self.patch_embed = nn.Linear(COLOURS * shape.patch**2, width)
        self.positions = nn.Parameter(0.02 * torch.randn(patches, width))
        if shape.canvas:
            if shape.drawn:
                self.decoder = nn.Sequential(
                    nn.Linear(shape.condition or 0, shape.decoder),
                    nn.SiLU(),
                    nn.Linear(shape.decoder, shape.decoder),
                    nn.SiLU(),
                )
                self.paint_out = nn.Linear(shape.canvas, COLOURS * shape.patch**2)
            said = shape.decoder if shape.drawn else wide
            self.canvas = nn.Linear(said, patches * shape.canvas)
            self.canvas_embed = nn.Linear(shape.canvas, width)
        self.blocks = nn.ModuleList(Block(width, shape.heads, wide) for _ in range(shape.blocks))
        self.modulate = start_at_zero(nn.Linear(wide, 2 * width))
        self.out = start_at_zero(nn.Linear(width, shape.out_channels * shape.patch**2))

    def forward(
        self,
        images: Float[Tensor, "image 3 size size"],
        times: Float[Tensor, " image"] | Int[Tensor, " image"],
        condition: Float[Tensor, "image dim"] | None = None,
    ) -> Float[Tensor, "image channel size size"]:
        """Predict from noisy images what the process asks for.

        Args:
            images: noisy images; clean ones have values in [−1, 1].
            times: a time from 0 to 1000 for each image; it may be fractional.
            condition: a representation for each image; None for a network that was built for none.

        Raises:
            InputError: images have another side, or the representations have another width, than
                the network was built for.
        """
        shape = self.shape
        if images.shape[-1] != shape.size:
            raise InputError(
                f"The images have {images.shape[-1]} px, and the generator was built for"
                f" {shape.size} px",
                mend=f"give {{size={shape.size}}}",
            )
        active = F.silu(self.embed(times, condition))
        patches = F.pixel_unshuffle(images, shape.patch).flatten(2).transpose(1, 2)
        tokens = self.patch_embed(patches) + self.positions
        if shape.canvas:
            tokens = tokens + self.canvas_embed(self._draw(active, condition))
        for block in self.blocks:
            tokens = block(tokens, active)
        scale, shift = self.modulate(active)[:, None].chunk(2, dim=2)
        with torch.autocast(images.device.type, enabled=False):
            tokens = _normalise(tokens.to(images.dtype)) * (1 + scale) + shift
            squares = self.out(tokens.to(images.dtype))
        map_of_squares = squares.transpose(1, 2).unflatten(2, (shape.grid, shape.grid))
        return F.pixel_shuffle(map_of_squares, shape.patch)

    def paint(self, condition: Float[Tensor, "image dim"]) -> Float[Tensor, "image 3 size size"]:
        """Paint the picture that a representation says by itself: each patch from its numbers of
        the canvas, by a linear layer. Trained beside the process, it is the mean of all images
        with this representation, and teaches the decoder what the canvas is for."""
        squares = self.paint_out(self._draw(condition, condition))
        grid = self.shape.grid
        return F.pixel_shuffle(squares.transpose(1, 2).unflatten(2, (grid, grid)), self.shape.patch)

    def _draw(
        self, active: Float[Tensor, "image embedding"], condition: Float[Tensor, "image dim"] | None
    ) -> Float[Tensor, "image patch canvas"]:
        """The numbers of the canvas."""
        said = self.decoder(condition) if self.shape.drawn else active
        return F.silu(self.canvas(said)).unflatten(1, (-1, self.shape.canvas))

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
        dtype = self.positions.dtype
        with torch.autocast(times.device.type, enabled=False):
            embedding: Tensor = self.time_embed(embed_times(times.to(dtype), WAVES))
            if condition is not None:
                embedding = embedding + self.ssl_emb(condition.to(dtype))
        return embedding


@final
class Block(nn.Module):
    """A block of a diffusion transformer (see `DiT`).

    Args:
        width: the width of the tokens.
        heads: the number of heads.
        embedding: the width of the embedding.
    """

    def __init__(self, width: int, heads: int, embedding: int) -> None:
        super().__init__()
        self.heads = heads
        self.fused_attn = True  # `sslens.models.transformers.set_explicit_attention` changes it
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.modulate = start_at_zero(nn.Linear(embedding, 6 * width))

    def forward(
        self, tokens: Float[Tensor, "image patch width"], active: Float[Tensor, "image embedding"]
    ) -> Float[Tensor, "image patch width"]:
        """Compute the block's output from tokens and from SiLU of the embedding."""
        scale, shift, gate, scale2, shift2, gate2 = self.modulate(active)[:, None].chunk(6, dim=2)
        x = _normalise(tokens) * (1 + scale) + shift
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.fused_attn:
            taken = F.scaled_dot_product_attention(q, k, v)
        else:
            weights = (q * q.shape[-1] ** -0.5 @ k.transpose(2, 3)).softmax(3)
            taken = weights.to(v.dtype) @ v
        tokens = tokens + gate * self.proj(taken.transpose(1, 2).flatten(2))
        x = _normalise(tokens) * (1 + scale2) + shift2
        return tokens + gate2 * self.fc2(F.silu(self.fc1(x)))


def _normalise(tokens: Tensor) -> Tensor:
    """Normalise each token to mean 0 and variance 1."""
    return F.layer_norm(tokens, tokens.shape[-1:], eps=EPSILON)
