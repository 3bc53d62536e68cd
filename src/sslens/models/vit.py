"""Vision Transformers with named taps; timm underneath."""

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from sslens.errors import InputError
from sslens.models.taps import Tap

#: width and number of blocks; heads are dim / 64, as in the released ViTs (but for MoCo-v3's small, with 12)
SIZES = {
    "nano": (64, 4),
    "mini": (128, 6),
    "tiny": (192, 12),
    "small": (384, 12),
    "base": (768, 12),
    "large": (1024, 24),
    "huge": (1280, 32),
}
_NAME = re.compile(rf"vit_({'|'.join(SIZES)})_patch(\d+)_(\d+)")


@dataclass(frozen=True)
class ViTArch:
    """The shape of a Vision Transformer: all that is needed to build one, and what its checkpoints carry.

    >>> ViTArch.parse("vit_base_patch16_224")
    ViTArch(image_size=224, patch_size=16, dim=768, blocks=12, heads=12)
    >>> ViTArch.parse("vit_mini_patch8_32").tokens  # a 4 × 4 grid and CLS
    17
    """

    image_size: int
    patch_size: int
    dim: int
    blocks: int
    heads: int

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise InputError(f"A ViT's {name} is {value}: give 1 or more.")
        if self.image_size % self.patch_size:
            raise InputError(
                f"Images of {self.image_size} px cannot be cut into patches of {self.patch_size} px: "
                "the image size must be a multiple of the patch size."
            )
        if self.dim % self.heads:
            raise InputError(f"A width of {self.dim} cannot be shared by {self.heads} heads.")

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size

    @property
    def tokens(self) -> int:
        """Patch tokens and the CLS token."""
        return self.grid**2 + 1

    @classmethod
    def parse(cls, name: str, num_heads: int | None = None, **overrides: int) -> "ViTArch":
        """The arch of a name such as `vit_small_patch16_224`, in timm's spelling, for any patch and image size.

        Raises:
            InputError: the name is not of this form, or an override names no field.
        """
        match = _NAME.fullmatch(name)
        if match is None:
            raise InputError(
                f'"{name}" is not an architecture: expected vit_SIZE_patchP_S, with SIZE one of {", ".join(SIZES)}, '
                "P the patch size and S the image size in pixels, e.g. vit_mini_patch8_64."
            )
        dim, blocks = SIZES[match[1]]
        arch = cls(int(match[3]), int(match[2]), dim, blocks, num_heads or dim // 64)
        unknown = set(overrides) - set(asdict(arch))
        if unknown:
            raise InputError(f"A ViT has no {', '.join(sorted(unknown))}: it has {', '.join(asdict(arch))}.")
        return replace(arch, **overrides)

    def build(self, seed: int | None = None) -> VisionTransformer:
        """A network of this shape without a head: qkv bias, LayerNorm eps 1e-6, timm's initialisation, fixed sin-cos positions.

        The random numbers of the process are left as they were when `seed` is given.
        """
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            network = VisionTransformer(
                img_size=self.image_size,
                patch_size=self.patch_size,
                embed_dim=self.dim,
                depth=self.blocks,
                num_heads=self.heads,
                num_classes=0,
            )
        network.pos_embed = nn.Parameter(sincos_positions(self.dim, self.grid), requires_grad=False)
        return network


def sincos_positions(dim: int, grid: int, *, transposed: bool = False) -> Float[Tensor, "1 token {dim}"]:
    """Fixed two-dimensional sin-cos positions, a zero row for CLS first (MAE; Vaswani et al., 2017, in each direction).

    With ω_i = 10000^(−4i/dim), i < dim/4, a patch at column x and row y has [sin xω, cos xω, sin yω, cos yω].
    `transposed` exchanges x and y, which is MoCo-v3's table.

    >>> table = sincos_positions(8, 2)
    >>> [round(v, 3) for v in table[0, 2].tolist()]  # x = 1, y = 0, ω = 1, 0.01
    [0.841, 0.01, 0.54, 1.0, 0.0, 0.0, 1.0, 1.0]
    """
    if dim % 4:
        raise InputError(f"Sin-cos positions need a width that is a multiple of 4, got {dim}.")
    omega = 10000.0 ** (-torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
    y, x = torch.meshgrid(*(torch.arange(grid, dtype=torch.float64),) * 2, indexing="ij")
    first, second = (y, x) if transposed else (x, y)
    angles = [place.reshape(-1, 1) * omega for place in (first, second)]
    table = torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)
    return torch.cat([torch.zeros(1, dim, dtype=torch.float64), table]).float()[None]


def taps(network: VisionTransformer) -> Iterator[Tap]:
    """The taps of a ViT in the order of computation; the depth of what lies in block i of L is (i + 1) / L."""
    count = len(network.blocks)
    for i in range(count):
        depth = (i + 1) / count
        for path, kind in (("norm1", "norm1"), ("attn.qkv", "qkv"), ("mlp.fc1", "fc1")):
            yield Tap(f"blocks.{i}.{path}", kind, depth)
        yield Tap(f"blocks.{i}", "block", depth)
    if not isinstance(network.norm, nn.Identity):
        yield Tap("norm", "norm", 1.0)


def prefix_tokens(network: VisionTransformer) -> int:
    """How many tokens stand before the patches: CLS and registers."""
    return int(network.num_prefix_tokens)


def explicit_attention(network: nn.Module, explicit: bool) -> None:
    """Compute attention as softmax(qkᵀ)v in the open rather than by the fused kernel.

    On a CPU the fused kernel's backward pass is the slower one at these lengths (LOG.md); on a GPU it is the faster one.
    """
    for module in network.modules():
        if hasattr(module, "fused_attn"):
            setattr(module, "fused_attn", not explicit)  # noqa: B010 (modules declare tensors only)


def describe(arch: ViTArch) -> dict[str, Any]:
    """The arch as plain JSON values, for a checkpoint's header."""
    return asdict(arch)
