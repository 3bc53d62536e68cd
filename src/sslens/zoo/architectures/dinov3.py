"""DINOv3's Vision Transformer (Siméoni et al., 2025): rotary positions in each attention, and
registers. timm builds it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sslens.counts import spell_count
from sslens.models.vit import ViTArch
from sslens.zoo.architecture import (
    PlainTransformer,
    Tensors,
    Weights,
    build_transformer,
    cut_to_patches,
    find_transformer,
    list_affine,
    list_block,
    require_activation,
)
from sslens.zoo.hints import Hints

if TYPE_CHECKING:
    from torch import nn

TITLE = "DINOv3's Vision Transformer"
#: width and blocks of the released networks, with what timm calls them
_SIZES = {
    (192, 12, False): "tiny",
    (384, 12, False): "small",
    (384, 12, True): "small_plus",
    (768, 12, False): "base",
    (1024, 24, False): "large",
    (1280, 32, True): "huge_plus",
}


@dataclass(frozen=True)
class RopeShape(PlainTransformer):
    """The architecture of a DINOv3 Vision Transformer: rotary positions in each attention, and no
    table of positions.

    Attributes:
        arch: image and patch size, width, blocks, heads; images of other sizes are taken too.
        hidden: the width of the input of the MLPs' second layer.
        gated: whether the MLPs are SwiGLU, with two first layers.
        qkv_bias, norm: whether there is one; `norm` is the final normalisation.
        registers: the number of tokens between CLS and the patches.
        eps: what normalisations add to the variance.
    """

    arch: ViTArch
    hidden: int
    gated: bool = False
    qkv_bias: bool = True
    norm: bool = True
    registers: int = 4
    eps: float = 1e-5

    @property
    def name(self) -> str | None:
        """The NAME in `random:NAME:SEED` for this shape, or None where it has no name."""
        size = _SIZES.get((self.arch.dim, self.arch.blocks, self.gated))
        usual = self.arch.patch_size == 16 and self.registers == 4 and self.qkv_bias
        return f"timm/vit_{size}_patch16_dinov3_qkvb" if size and usual else None

    def iterate_tensors(self) -> Tensors:
        """Yield the name and the shape of every tensor."""
        arch, dim = self.arch, self.arch.dim
        yield "cls_token", (1, 1, dim)
        if self.registers:
            yield "reg_token", (1, self.registers, dim)
        yield from list_affine("patch_embed.proj", dim, 3, arch.patch_size, arch.patch_size)
        for i in range(arch.blocks):
            yield from list_block(
                f"blocks.{i}",
                dim,
                self.hidden,
                qkv_bias=self.qkv_bias,
                firsts=("fc1_g", "fc1_x") if self.gated else ("fc1",),
                scales=("gamma_1", "gamma_2"),
            )
        if self.norm:
            yield from list_affine("norm", dim)

    def empty(self) -> "nn.Module":
        """Build the network without memory for its weights (on the meta device)."""
        from timm.models.eva import Eva

        return build_transformer(
            Eva,
            self.arch,
            self.hidden,
            norm=self.norm,
            eps=self.eps,
            swiglu_mlp=self.gated,
            swiglu_align_to=1,
            qkv_bias=self.qkv_bias,
            init_values=1.0,
            global_pool="token",
            num_reg_tokens=self.registers,
            use_abs_pos_emb=False,
            use_rot_pos_emb=True,
            rope_type="dinov3",
            rope_temperature=100.0,
            rope_rotate_half=True,
            use_fc_norm=False,
            dynamic_img_size=True,
        )

    def describe_variant(self) -> Iterator[str]:
        """Yield the differences from a plain Vision Transformer, in words; some may be empty."""
        yield "rotary positions"
        yield spell_count(self.registers, "register") if self.registers else ""
        yield "layer scale"
        yield "gated MLPs" if self.gated else ""
        yield "" if self.qkv_bias else "no qkv bias"
        yield "" if self.norm else "no final norm"


SHAPE = RopeShape


def matches(weights: Weights) -> bool:
    """Whether the weights have layer scale and registers, and no table of positions."""
    return "blocks.0.gamma_1" in weights and "reg_token" in weights and "pos_embed" not in weights


def find(weights: Weights, where: str, heads: int | None, hints: Hints) -> RopeShape:
    """Find the architecture of a DINOv3 Vision Transformer.

    Raises:
        InputError: the shapes make no such network.
    """
    gated = "blocks.0.mlp.fc1_g.weight" in weights
    require_activation(hints, "silu" if gated else "gelu", where)
    found = find_transformer(
        weights, where, heads or hints.heads, image_size=cut_to_patches(hints, 224)
    )
    return RopeShape(
        found.arch,
        hidden=found.hidden,
        gated=gated,
        qkv_bias=found.qkv_bias,
        norm=found.norm,
        registers=int(weights["reg_token"].shape[1]),
        eps=hints.eps or 1e-5,
    )
