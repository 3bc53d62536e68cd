"""The shapes of Vision Transformers. Only building one imports torch and timm."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from sslens.counts import spell_count
from sslens.errors import InputError

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

#: width and number of blocks; heads are dim / 64, as in most released ViTs, but not in MoCo-v3's
#: small (12) and MAE's huge (16)
SIZES = {
    "nano": (64, 4),
    "mini": (128, 6),
    "tiny": (192, 12),
    "small": (384, 12),
    "base": (768, 12),
    "large": (1024, 24),
    "huge": (1280, 32),
}
_NAME = re.compile(rf"vit_({'|'.join(SIZES)}|\d+x\d+)_patch(\d+)_(\d+)(?:_heads(\d+))?")


@dataclass(frozen=True)
class ViTArch:
    """The shape of a Vision Transformer: all that is needed to build one. Checkpoints carry it in
    their header.

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
    kind: ClassVar[str] = "vit"

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise InputError(f"A ViT's {name} is {value}: give 1 or more.")
        if self.image_size % self.patch_size:
            raise InputError(
                f"Images of {self.image_size} px cannot be cut into patches of {self.patch_size}"
                " px: the image size must be a multiple of the patch size."
            )
        if self.dim % self.heads:
            raise InputError(
                f"A width of {self.dim} cannot be shared by {spell_count(self.heads, 'head')}."
            )

    @property
    def grid(self) -> int:
        """Number of patches along one side."""
        return self.image_size // self.patch_size

    @property
    def tokens(self) -> int:
        """Number of tokens: the patches and CLS."""
        return self.grid**2 + 1

    @classmethod
    def parse(cls, name: str, num_heads: int | None = None, **overrides: int) -> "ViTArch":
        """Return the architecture of a name such as `vit_small_patch16_224`, in timm's spelling,
        for any patch and image size.

        Where no named size has the same width and blocks, these stand in place of the size, as in
        `vit_128x3_patch16_64`; `_heads12` at the end gives the number of heads where it is not
        width / 64.

        Raises:
            InputError: the name is not of this form, or an override names no field.

        >>> ViTArch.parse("vit_small_patch16_224_heads12").heads
        12
        >>> ViTArch.parse("vit_128x3_patch16_64").blocks
        3
        """
        match = _NAME.fullmatch(name)
        if match is None:
            raise InputError(
                f'"{name}" is not an architecture: expected vit_SIZE_patchP_S, with SIZE one of'
                f" {', '.join(SIZES)}, P the patch size and S the image size in pixels, e.g."
                " vit_mini_patch8_64."
            )
        dim, blocks = SIZES[match[1]] if match[1] in SIZES else map(int, match[1].split("x"))
        heads = num_heads or int(match[4] or 0) or max(1, dim // 64)
        arch = cls(int(match[3]), int(match[2]), dim, blocks, heads)
        unknown = set(overrides) - set(asdict(arch))
        if unknown:
            raise InputError(
                f"A ViT has no {', '.join(sorted(unknown))}: it has {', '.join(asdict(arch))}."
            )
        return replace(arch, **overrides)

    @property
    def name(self) -> str:
        """The name that `parse` takes.

        >>> ViTArch(224, 16, 384, 12, 12).name, ViTArch(64, 16, 128, 3, 2).name
        ('vit_small_patch16_224_heads12', 'vit_128x3_patch16_64')
        """
        named = {shape: size for size, shape in SIZES.items()}
        size = named.get((self.dim, self.blocks), f"{self.dim}x{self.blocks}")
        heads = "" if self.heads == max(1, self.dim // 64) else f"_heads{self.heads}"
        return f"vit_{size}_patch{self.patch_size}_{self.image_size}{heads}"

    @staticmethod
    def is_name(text: str) -> bool:
        """Whether a text has the form of a name that `parse` takes; its numbers may still make no
        network."""
        return _NAME.fullmatch(text) is not None

    def build(self, seed: int | None = None) -> "VisionTransformer":
        """Build a network of this shape without a head, with timm's initialisation, qkv bias,
        LayerNorms with eps 1e-6, and fixed sin-cos positions.

        Args:
            seed: if given, the weights depend on it alone, and the random numbers of the process
                are left as they were.
        """
        import torch
        from timm.models.vision_transformer import VisionTransformer
        from torch import nn

        from sslens.models.positions import make_sincos_positions

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
        network.pos_embed = nn.Parameter(
            make_sincos_positions(self.dim, self.grid), requires_grad=False
        )
        return network


def describe(arch: ViTArch) -> Mapping[str, Any]:
    """Return the architecture as plain JSON values for a checkpoint's header."""
    return asdict(arch)
