"""The plain Vision Transformer (Dosovitskiy et al., 2021) with the variants of DINOv2, I-JEPA,
CLIP, SigLIP and ViTDet."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.models.vit import SIZES, ViTArch
from sslens.zoo.architecture import (
    PlainTransformer,
    Tensors,
    Weights,
    build_transformer,
    find_hidden,
    list_affine,
    list_block,
)
from sslens.zoo.attention import choose_heads
from sslens.zoo.finders import count_blocks, find_patches, find_root
from sslens.zoo.hints import Hints
from sslens.zoo.windows import Windows, find_windows

if TYPE_CHECKING:
    from torch import nn

TITLE = "a Vision Transformer with a table of positions"
_UNKNOWN = (
    ("rel_pos", "relative positions, as BEiT's and detectors' ViTs do"),
    ("relative_position", "relative positions, as BEiT's"),
    ("attn.q_bias", "separate biases of queries and values, as EVA's"),
    ("attn.q_proj", "separate queries, keys and values in timm's EVA names"),
    ("attn.q_norm", "normalised queries and keys"),
)
#: CLIP's sizes in timm: width, blocks, patch size
_CLIP = {(768, 12, 32): "base", (768, 12, 16): "base", (1024, 24, 14): "large"}


@dataclass(frozen=True)
class ViTShape(PlainTransformer):
    """The architecture of a Vision Transformer, with variants that `ViTArch` lacks. All but the
    number of heads can be told from the names and shapes of its weights.

    Attributes:
        arch: image and patch size, width, blocks, heads.
        hidden: the width of the input of the MLPs' second layer.
        gated: whether the MLPs are SwiGLU, with gate and value in one layer.
        qkv_bias, layer_scale, norm: whether there is one; `norm` is the final normalisation.
        cls, registers, distilled: the tokens before the patches: CLS, the number of registers, and
            a distillation token.
        cls_positions: whether the tokens before the patches have positions.
        windows: the windows of a ViTDet, of which CLS has left its position alone; None for others.
        pre_norm: whether there is a normalisation before the first block, as CLIP has it; then the
            patches have no bias.
        activation: the function in the MLPs, in timm's names: "gelu", "gelu_tanh", "quick_gelu".
        eps: what normalisations add to the variance.
    """

    arch: ViTArch
    hidden: int
    gated: bool = False
    qkv_bias: bool = True
    layer_scale: bool = False
    norm: bool = True
    cls: bool = True
    registers: int = 0
    distilled: bool = False
    cls_positions: bool = True
    windows: Windows | None = None
    pre_norm: bool = False
    activation: str = "gelu"
    eps: float = 1e-6

    @property
    def name(self) -> str | None:
        """The NAME in `random:NAME:SEED` for this shape, or None where it has no name."""
        arch = self.arch
        if not self.cls or not self.qkv_bias or self.distilled or self.windows:
            return None
        if self.pre_norm or self.activation != "gelu":
            return self._name_clip()
        size = next(
            (size for size in ("small", "base", "large") if SIZES[size] == (arch.dim, arch.blocks)),
            None,
        )
        if (
            self.layer_scale
            and not self.gated
            and arch.patch_size == 14
            and arch.image_size == 518
            and size is not None
        ):
            return f"timm/vit_{size}_patch14_{'reg4_' if self.registers == 4 else ''}dinov2"
        plain = (
            not (self.layer_scale or self.registers or self.gated) and self.hidden == 4 * arch.dim
        )
        return arch.name if plain else None

    def _name_clip(self) -> str | None:
        arch = self.arch
        size = _CLIP.get((arch.dim, arch.blocks, arch.patch_size))
        if (
            size is None
            or arch.image_size != 224
            or not self.pre_norm
            or self.activation == "gelu_tanh"
        ):
            return None
        quick = "quickgelu_" if self.activation == "quick_gelu" else ""
        return f"timm/vit_{size}_patch{arch.patch_size}_clip_{quick}224"

    @property
    def tells_heads(self) -> bool:
        """Whether tables of relative positions tell the number of heads."""
        return self.windows is not None

    def iterate_tensors(self) -> Tensors:
        """Yield the name and the shape of every tensor.

        >>> found = ViTShape(ViTArch.parse("vit_nano_patch8_32"), hidden=256).list_tensors()
        >>> found["pos_embed"], found["blocks.3.mlp.fc1.weight"], len(found)
        ((1, 17, 64), (256, 64), 54)
        """
        arch, dim = self.arch, self.arch.dim
        if self.cls and self.windows is None:
            yield "cls_token", (1, 1, dim)
        if self.registers:
            yield "reg_token", (1, self.registers, dim)
        if self.distilled:
            yield "dist_token", (1, 1, dim)
        before = 2 if self.distilled else (self.cls + self.registers) * self.cls_positions
        yield "pos_embed", (1, arch.grid**2 + before, dim)
        patch = arch.patch_size
        yield from list_affine("patch_embed.proj", dim, 3, patch, patch, bias=not self.pre_norm)
        if self.pre_norm:
            yield from list_affine("norm_pre", dim)
        for i in range(arch.blocks):
            yield from list_block(
                f"blocks.{i}",
                dim,
                self.hidden,
                qkv_bias=self.qkv_bias,
                first=self.hidden * (2 if self.gated else 1),
                scales=("ls1.gamma", "ls2.gamma") if self.layer_scale else (),
            )
            if self.windows is not None:
                rows, columns = self.windows.count_entries(i)
                yield f"blocks.{i}.attn.rel_pos_h", (rows, self.windows.head)
                yield f"blocks.{i}.attn.rel_pos_w", (columns, self.windows.head)
        if self.norm:
            yield from list_affine("norm", dim)

    def empty(self) -> "nn.Module":
        """Build the network without memory for its weights (on the meta device)."""
        import torch
        from timm.layers import SwiGLUPacked
        from timm.models.deit import VisionTransformerDistilled
        from timm.models.vision_transformer import VisionTransformer

        settings: dict[str, Any] = (
            {"mlp_layer": SwiGLUPacked, "act_layer": torch.nn.SiLU}
            if self.gated
            # by its name timm's own GELU would come, and another digest of the same model
            else {"act_layer": torch.nn.GELU if self.activation == "gelu" else self.activation}
        )
        network = build_transformer(
            VisionTransformerDistilled if self.distilled else VisionTransformer,
            self.arch,
            self.hidden * (2 if self.gated else 1),
            norm=self.norm,
            eps=self.eps,
            qkv_bias=self.qkv_bias,
            init_values=1.0 if self.layer_scale else None,
            class_token=self.cls,
            reg_tokens=self.registers,
            no_embed_class=not self.cls_positions,
            global_pool="token" if self.cls else "avg",
            fc_norm=False,
            pre_norm=self.pre_norm,
            weight_init="skip",
            **settings,
        )
        if (windows := self.windows) is None:
            return network
        from sslens.models.windowed import WindowedViT

        grid = (windows.rows, windows.columns)
        assert isinstance(network, VisionTransformer)
        return WindowedViT(network, window=windows.side, global_blocks=windows.wide, grid=grid)

    def describe_variant(self) -> Iterator[str]:
        """Yield the differences from a plain Vision Transformer, in words; some may be empty."""
        yield "" if self.cls and not self.windows else "no CLS token"
        yield str(self.windows or "")
        yield spell_count(self.registers, "register") if self.registers else ""
        yield "layer scale" if self.layer_scale else ""
        yield "gated MLPs" if self.gated else ""
        yield "" if self.qkv_bias else "no qkv bias"
        yield "a norm before the first block" if self.pre_norm else ""
        yield f"activation {self.activation}" if self.activation != "gelu" else ""
        yield f"eps {self.eps:g}" if self.eps != 1e-6 else ""
        yield "" if self.norm else "no final norm"


SHAPE = ViTShape


def matches(weights: Weights) -> bool:
    """Whether the weights have a table of positions of tokens."""
    return "pos_embed" in weights and "blocks.0.norm1.weight" in weights


def find(weights: Weights, where: str, heads: int | None, hints: Hints) -> ViTShape:
    """Find the architecture of a Vision Transformer.

    Raises:
        InputError: a variant that is not known here, or shapes that make no network.
    """
    windows = None
    if "cls_token" not in weights:
        windows = find_windows({name: tuple(value.shape) for name, value in weights.items()}, where)
    _refuse_variants(weights, where, hints, windowed=windows is not None)
    dim, patch = find_patches(weights, where)
    cls, distilled = "cls_token" in weights, "dist_token" in weights
    registers = int(weights["reg_token"].shape[1]) if "reg_token" in weights else 0
    before = cls + distilled + registers
    table = weights["pos_embed"]
    rows = int(table.shape[1]) if table.ndim == 3 else 0
    if windows is not None:  # CLS itself is not in the file
        cls, before = find_root(rows) is None, int(find_root(rows) is None)
    positioned = find_root(rows - before) is not None and before > 0
    grid = find_root(rows - before if positioned else rows)
    if grid is None:
        raise InputError(
            f"{where} has positions for {spell_count(rows, 'token')}, {before} of them before the"
            " patches: the patches are no square, and only square images are read."
        )
    hidden = find_hidden(weights, where)
    head = windows.head if windows else None
    heads = choose_heads(dim, heads if windows else heads or hints.heads, head, where)
    return ViTShape(
        ViTArch(grid * patch, patch, dim, count_blocks(weights, "blocks."), heads),
        hidden=hidden,
        gated=int(weights["blocks.0.mlp.fc1.weight"].shape[0]) == 2 * hidden,
        qkv_bias="blocks.0.attn.qkv.bias" in weights,
        layer_scale="blocks.0.ls1.gamma" in weights,
        norm="norm.weight" in weights,
        cls=cls,
        registers=registers,
        distilled=distilled,
        cls_positions=positioned,
        windows=windows,
        pre_norm="norm_pre.weight" in weights,
        activation=hints.activation or "gelu",
        eps=hints.eps or 1e-6,
    )


def _refuse_variants(weights: Weights, where: str, hints: Hints, *, windowed: bool) -> None:
    """Refuse a Vision Transformer of a kind that is not known here."""
    for part, said in _UNKNOWN[1 if windowed else 0 :]:
        if any(part in name for name in weights):
            raise InputError(
                f"{where} is a ViT with {said}: load it by its name, timm:NAME, where timm has it."
            )
    if "norm_pre.weight" in weights and hints.activation is None:
        raise InputError(
            f"{where} is a ViT with a normalisation before the first block, as CLIP's, whose"
            " activation function no weight tells: load it by its name, timm:NAME, where timm has"
            " it, or from its folder with its config.json."
        )
    if "pos_embed" not in weights:
        raise InputError(
            f"{where} is a ViT without a position table: load it by its name, timm:NAME, where timm"
            " has it."
        )
