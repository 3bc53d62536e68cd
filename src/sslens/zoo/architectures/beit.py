"""BEiT's Vision Transformer (Bao et al., 2022): relative positions in each attention, in one table
for all blocks or in one for each. BEiT v2, SimMIM and data2vec have it too; timm builds it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sslens.errors import InputError
from sslens.models.vit import ViTArch
from sslens.zoo.architecture import (
    PlainTransformer,
    Tensors,
    Weights,
    build_transformer,
    find_transformer,
    list_affine,
    list_block,
    require_activation,
)
from sslens.zoo.finders import find_root
from sslens.zoo.hints import Hints

if TYPE_CHECKING:
    from torch import nn

TITLE = "BEiT's Vision Transformer"
_SIZES = {(768, 12): "base", (1024, 24): "large"}
_SHARED = "rel_pos_bias.relative_position_bias_table"
_OF_BLOCK = "blocks.0.attn.relative_position_bias_table"


@dataclass(frozen=True)
class BeitShape(PlainTransformer):
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
        size = _SIZES.get((arch.dim, arch.blocks))
        usual = arch.patch_size == 16 and arch.image_size == 224 and not self.positions
        same = usual and self.relative == "blocks" and self.layer_scale
        return f"timm/beit_{size}_patch16_224" if size and same else None

    @property
    def tells_heads(self) -> bool:
        """Whether tables of relative positions tell the number of heads."""
        return self.relative is not None

    def iterate_tensors(self) -> Tensors:
        """Yield the name and the shape of every tensor."""
        arch, dim = self.arch, self.arch.dim
        table = ((2 * arch.grid - 1) ** 2 + 3, arch.heads)
        yield "cls_token", (1, 1, dim)
        if self.positions:
            yield "pos_embed", (1, arch.grid**2 + 1, dim)
        if self.relative == "shared":
            yield _SHARED, table
        yield from list_affine("patch_embed.proj", dim, 3, arch.patch_size, arch.patch_size)
        for i in range(arch.blocks):
            scales = ("gamma_1", "gamma_2") if self.layer_scale else ()
            yield from list_block(f"blocks.{i}", dim, self.hidden, scales=scales)
            if self.relative == "blocks":
                yield _OF_BLOCK.replace("blocks.0", f"blocks.{i}"), table
        if self.norm:
            yield from list_affine("norm", dim)

    def empty(self) -> "nn.Module":
        """Build the network without memory for its weights (on the meta device)."""
        from timm.models.beit import Beit

        return build_transformer(
            Beit,
            self.arch,
            self.hidden,
            norm=self.norm,
            eps=self.eps,
            init_values=1.0 if self.layer_scale else None,
            global_pool="token",
            use_abs_pos_emb=self.positions,
            use_rel_pos_bias=self.relative == "blocks",
            use_shared_rel_pos_bias=self.relative == "shared",
            use_fc_norm=False,
        )

    def describe_variant(self) -> Iterator[str]:
        """Yield the differences from a plain Vision Transformer, in words; some may be empty."""
        places = {"blocks": "in each block", "shared": "shared by the blocks"}
        yield f"relative positions {places[self.relative]}" if self.relative else ""
        yield "layer scale" if self.layer_scale else ""
        yield "" if self.norm else "no final norm"


SHAPE = BeitShape


def matches(weights: Weights) -> bool:
    """Whether the weights have layer scale, or relative positions with those of CLS, of a Vision
    Transformer without registers."""
    if "reg_token" in weights and "pos_embed" not in weights:
        return False
    return "blocks.0.gamma_1" in weights or _SHARED in weights or _OF_BLOCK in weights


def find(weights: Weights, where: str, heads: int | None, hints: Hints) -> BeitShape:
    """Find the architecture of a BEiT. Its tables of relative positions tell the number of heads
    and the size of images: for n × n patches and CLS they have (2n − 1)² + 3 rows.

    Raises:
        InputError: the shapes make no such network, or its MLPs are gated, as EVA's are.
    """
    if any("mlp.fc1_g" in name or "mlp.w1" in name or ".rope" in name for name in weights):
        raise InputError(
            f"{where} is a ViT of EVA's kind, with gated MLPs or rotary positions: load it by its"
            " name, timm:NAME, where timm has it."
        )
    require_activation(hints, "gelu", where)
    shared = weights.get(_SHARED)
    table = weights.get(_OF_BLOCK, shared)
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
    grid, told = rows, int(table.shape[1]) if table is not None else None
    found = find_transformer(
        weights,
        where,
        heads or (hints.heads if told is None else None),
        image_size=lambda patch: grid * patch,
        told=told,
    )
    return BeitShape(
        found.arch,
        hidden=found.hidden,
        relative=None if table is None else "blocks" if shared is None else "shared",
        positions=positions is not None,
        layer_scale="blocks.0.gamma_1" in weights,
        norm=found.norm,
        eps=hints.eps or 1e-6,
    )
