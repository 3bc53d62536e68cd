"""The architectures of three kin of the plain networks: DINOv3's Vision Transformer, BEiT's, and
the first ConvNeXt. timm builds them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from sslens.errors import InputError
from sslens.models.vit import ViTArch
from sslens.zoo.attention import choose_heads
from sslens.zoo.finders import Shaped, count_blocks, find_patches, find_root
from sslens.zoo.hints import Hints

if TYPE_CHECKING:
    from torch import nn

#: width and blocks of DINOv3's released networks, with what timm calls them
_DINOV3 = {
    (192, 12, False): "tiny",
    (384, 12, False): "small",
    (384, 12, True): "small_plus",
    (768, 12, False): "base",
    (1024, 24, False): "large",
    (1280, 32, True): "huge_plus",
}
_BEIT = {(768, 12): "base", (1024, 24): "large"}
_CONVNEXT: dict[tuple[tuple[int, ...], int], str] = {
    ((3, 3, 9, 3), 96): "tiny",
    ((3, 3, 27, 3), 96): "small",
    ((3, 3, 27, 3), 128): "base",
    ((3, 3, 27, 3), 192): "large",
    ((3, 3, 27, 3), 256): "xlarge",
}


@dataclass(frozen=True)
class RopeShape:
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
        size = _DINOV3.get((self.arch.dim, self.arch.blocks, self.gated))
        usual = self.arch.patch_size == 16 and self.registers == 4 and self.qkv_bias
        return f"timm/vit_{size}_patch16_dinov3_qkvb" if size and usual else None

    @property
    def image_size(self) -> int:
        """Side in pixels of the images for which the model is prepared."""
        return self.arch.image_size

    def empty(self) -> "nn.Module":
        """Build the network without memory for its weights (on the meta device)."""
        import torch
        from timm.layers import LayerNorm
        from timm.models.eva import Eva

        from sslens.models.transformers import join_qkv
        from sslens.zoo.tables import fill_tables

        arch = self.arch
        with torch.device("meta"):
            network = Eva(
                img_size=arch.image_size,
                patch_size=arch.patch_size,
                embed_dim=arch.dim,
                depth=arch.blocks,
                num_heads=arch.heads,
                mlp_ratio=(self.hidden + 0.5) / arch.dim,  # which timm rounds down
                swiglu_mlp=self.gated,
                swiglu_align_to=1,
                qkv_bias=self.qkv_bias,
                init_values=1.0,
                num_classes=0,
                global_pool="token",
                num_reg_tokens=self.registers,
                use_abs_pos_emb=False,
                use_rot_pos_emb=True,
                rope_type="dinov3",
                rope_temperature=100.0,
                rope_rotate_half=True,
                use_fc_norm=False,
                dynamic_img_size=True,
                norm_layer=partial(LayerNorm, eps=self.eps),
            )
            join_qkv(network)
        if not self.norm:
            network.norm = torch.nn.Identity()
        return fill_tables(network)


@dataclass(frozen=True)
class BeitShape:
    """The architecture of a BEiT: relative positions in each attention, in one table for all blocks
    or in one for each.

    Attributes:
        arch: image and patch size, width, blocks, heads.
        hidden: the width of the input of the MLPs' second layer.
        relative: where the relative positions are: "blocks", "shared", or None without any.
        positions: whether there is a table of absolute positions.
        layer_scale, norm: whether there is one; `norm` is the final normalisation.
        eps: what normalisations add to the variance.
    """

    arch: ViTArch
    hidden: int
    relative: Literal["blocks", "shared"] | None = "blocks"
    positions: bool = False
    layer_scale: bool = True
    norm: bool = True
    eps: float = 1e-6

    @property
    def name(self) -> str | None:
        """The NAME in `random:NAME:SEED` for this shape, or None where it has no name."""
        arch = self.arch
        size = _BEIT.get((arch.dim, arch.blocks))
        usual = arch.patch_size == 16 and arch.image_size == 224 and not self.positions
        same = usual and self.relative == "blocks" and self.layer_scale
        return f"timm/beit_{size}_patch16_224" if size and same else None

    @property
    def image_size(self) -> int:
        """Side in pixels of the images for which it has positions."""
        return self.arch.image_size

    def empty(self) -> "nn.Module":
        """Build the network without memory for its weights (on the meta device)."""
        import torch
        from timm.layers import LayerNorm
        from timm.models.beit import Beit

        from sslens.models.transformers import join_qkv
        from sslens.zoo.tables import fill_tables

        arch = self.arch
        with torch.device("meta"):
            network = Beit(
                img_size=arch.image_size,
                patch_size=arch.patch_size,
                embed_dim=arch.dim,
                depth=arch.blocks,
                num_heads=arch.heads,
                mlp_ratio=(self.hidden + 0.5) / arch.dim,  # which timm rounds down
                init_values=1.0 if self.layer_scale else None,
                num_classes=0,
                global_pool="token",
                use_abs_pos_emb=self.positions,
                use_rel_pos_bias=self.relative == "blocks",
                use_shared_rel_pos_bias=self.relative == "shared",
                use_fc_norm=False,
                norm_layer=partial(LayerNorm, eps=self.eps),
            )
            join_qkv(network)
        if not self.norm:
            network.norm = torch.nn.Identity()
        return fill_tables(network)


@dataclass(frozen=True)
class ConvNeXtShape:
    """The architecture of a ConvNeXt of the first version (Liu et al., 2022), with layer scale and
    without GRN.

    Attributes:
        blocks, widths: stage by stage.
        stem: the stride of the first convolution in pixels.
        image_size: the side in pixels of the images for which the model is prepared.
    """

    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    stem: int = 4
    image_size: int = 224

    @property
    def name(self) -> str | None:
        """The NAME in `random:NAME:SEED` for this shape, or None where it has no name."""
        widths = tuple(self.widths[0] * 2**i for i in range(4))
        size = _CONVNEXT.get((self.blocks, self.widths[0]))
        return (
            f"timm/convnext_{size}" if size and widths == self.widths and self.stem == 4 else None
        )

    def empty(self) -> "nn.Module":
        """Build the network without memory for its weights (on the meta device)."""
        import torch
        from timm.models.convnext import ConvNeXt

        from sslens.models.convolutions import drop_head

        with torch.device("meta"):
            network = ConvNeXt(
                depths=self.blocks, dims=self.widths, num_classes=0, patch_size=self.stem
            )
        drop_head(network)
        return network


def is_rotary(weights: Mapping[str, Shaped]) -> bool:
    """Whether weights in timm's names are of a DINOv3 Vision Transformer."""
    return "blocks.0.gamma_1" in weights and "reg_token" in weights and "pos_embed" not in weights


def is_beit(weights: Mapping[str, Shaped]) -> bool:
    """Whether weights in timm's names are of a BEiT."""
    return (
        "blocks.0.gamma_1" in weights
        or "rel_pos_bias.relative_position_bias_table" in weights
        or "blocks.0.attn.relative_position_bias_table" in weights
    )


def find_rotary(
    weights: Mapping[str, Shaped], where: str, heads: int | None, hints: Hints
) -> RopeShape:
    """Find the architecture of a DINOv3 Vision Transformer.

    Raises:
        InputError: the shapes make no such network.
    """
    dim, patch = find_patches(weights, where)
    hidden = _find_hidden(weights, where)
    size = hints.image_size or 16 * 14
    gated = "blocks.0.mlp.fc1_g.weight" in weights
    _require_activation(hints, "silu" if gated else "gelu", where)
    heads = choose_heads(dim, heads or hints.heads, None, where)
    return RopeShape(
        ViTArch(size - size % patch, patch, dim, count_blocks(weights, "blocks."), heads),
        hidden=hidden,
        gated=gated,
        qkv_bias="blocks.0.attn.qkv.bias" in weights,
        norm="norm.weight" in weights,
        registers=int(weights["reg_token"].shape[1]),
        eps=hints.eps or 1e-5,
    )


def find_beit(
    weights: Mapping[str, Shaped], where: str, heads: int | None, hints: Hints
) -> BeitShape:
    """Find the architecture of a BEiT. Its tables of relative positions tell the number of heads
    and the size of images: for n × n patches and CLS they have (2n − 1)² + 3 rows.

    Raises:
        InputError: the shapes make no such network, or its MLPs are gated, as EVA's are.
    """
    dim, patch = find_patches(weights, where)
    hidden = _find_hidden(weights, where)
    if any("mlp.fc1_g" in name or "mlp.w1" in name or ".rope" in name for name in weights):
        raise InputError(
            f"{where} is a ViT of EVA's kind, with gated MLPs or rotary positions: load it by its"
            " name, timm:NAME, where timm has it."
        )
    _require_activation(hints, "gelu", where)
    shared = weights.get("rel_pos_bias.relative_position_bias_table")
    table = weights.get("blocks.0.attn.relative_position_bias_table", shared)
    positions = weights.get("pos_embed")
    rows = None
    if table is not None and table.ndim == 2:
        side = find_root(int(table.shape[0]) - 3)
        rows = (side + 1) // 2 if side and side % 2 else None
    elif positions is not None and positions.ndim == 3:
        rows = find_root(int(positions.shape[1]) - 1)
    if rows is None:
        raise InputError(
            f"{where} is a BEiT whose positions are for no square of patches: only square images"
            " are read."
        )
    told = int(table.shape[1]) if table is not None else None
    if told and heads not in (None, told):
        raise InputError(
            f"{where} has relative positions for {told} heads of attention, and not for {heads}:"
            " leave num_heads out."
        )
    heads = choose_heads(dim, told or heads or hints.heads, None, where)
    return BeitShape(
        ViTArch(rows * patch, patch, dim, count_blocks(weights, "blocks."), heads),
        hidden=hidden,
        relative=None if table is None else "blocks" if shared is None else "shared",
        positions=positions is not None,
        layer_scale="blocks.0.gamma_1" in weights,
        norm="norm.weight" in weights,
        eps=hints.eps or 1e-6,
    )


def find_first_convnext(weights: Mapping[str, Shaped], hints: Hints) -> ConvNeXtShape:
    """Find the architecture of a ConvNeXt of the first version."""
    stem = weights.get("stem.0.weight")  # where it is missing, loading says so
    return ConvNeXtShape(
        tuple(count_blocks(weights, f"stages.{i}.blocks.") for i in range(4)),
        tuple(int(weights[f"stages.{i}.blocks.0.conv_dw.weight"].shape[0]) for i in range(4)),
        int(stem.shape[2]) if stem is not None else 4,
        hints.image_size or 224,
    )


def _require_activation(hints: Hints, needed: str, where: str) -> None:
    if hints.activation not in (None, needed):
        raise InputError(
            f"{where} is said to have the activation function {hints.activation}; networks of its"
            f" kind have {needed} here, and no other is read."
        )


def _find_hidden(weights: Mapping[str, Shaped], where: str) -> int:
    name = "blocks.0.mlp.fc2.weight"
    if name not in weights or weights[name].ndim != 2:
        raise InputError(f"{where} is a ViT whose first block has no {name}.")
    return int(weights[name].shape[1])
