"""The architecture of a network, found from its weights in timm's names; an architecture can build
an empty network to be filled with weights."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from sslens.errors import InputError
from sslens.models.cnn import CNNArch
from sslens.models.vit import SIZES, ViTArch
from sslens.zoo.attention import choose_heads
from sslens.zoo.finders import (
    Shaped,
    count_blocks,
    find_convnext,
    find_patches,
    find_resnet,
    find_root,
)
from sslens.zoo.hints import NONE, Hints, read_hints
from sslens.zoo.variants import (
    BeitShape,
    ConvNeXtShape,
    RopeShape,
    find_beit,
    find_first_convnext,
    find_rotary,
    is_beit,
    is_rotary,
)
from sslens.zoo.windows import Windows, find_windows

if TYPE_CHECKING:
    from torch import nn


_UNKNOWN_VIT = (
    ("rel_pos", "relative positions, as BEiT's and detectors' ViTs do"),
    ("relative_position", "relative positions, as BEiT's"),
    ("attn.q_bias", "separate biases of queries and values, as EVA's"),
    ("attn.q_proj", "separate queries, keys and values in timm's EVA names"),
    ("attn.q_norm", "normalised queries and keys"),
)
#: CLIP's sizes in timm: width, blocks, patch size
_CLIP = {(768, 12, 32): "base", (768, 12, 16): "base", (1024, 24, 14): "large"}


@dataclass(frozen=True)
class ViTShape:
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
    def image_size(self) -> int:
        """Side in pixels of the images for which it has positions."""
        return self.arch.image_size

    def empty(self) -> "nn.Module":
        """Build the network without memory for its weights (on the meta device)."""
        import torch
        from timm.layers import LayerNorm, SwiGLUPacked
        from timm.models.deit import VisionTransformerDistilled
        from timm.models.vision_transformer import VisionTransformer

        arch = self.arch
        settings: dict[str, Any] = (
            {"mlp_layer": SwiGLUPacked, "act_layer": torch.nn.SiLU}
            if self.gated
            # by its name timm's own GELU would come, and another digest of the same model
            else {"act_layer": torch.nn.GELU if self.activation == "gelu" else self.activation}
        )
        with torch.device("meta"):
            network = (VisionTransformerDistilled if self.distilled else VisionTransformer)(
                img_size=arch.image_size,
                patch_size=arch.patch_size,
                embed_dim=arch.dim,
                depth=arch.blocks,
                num_heads=arch.heads,
                mlp_ratio=self.hidden * (2 if self.gated else 1) / arch.dim,
                qkv_bias=self.qkv_bias,
                init_values=1.0 if self.layer_scale else None,
                class_token=self.cls,
                reg_tokens=self.registers,
                no_embed_class=not self.cls_positions,
                num_classes=0,
                global_pool="token" if self.cls else "avg",
                fc_norm=False,
                pre_norm=self.pre_norm,
                norm_layer=partial(LayerNorm, eps=self.eps),
                weight_init="skip",
                **settings,
            )
        if not self.norm:
            network.norm = torch.nn.Identity()
        if (windows := self.windows) is None:
            return network
        from sslens.models.windowed import WindowedViT

        grid = (windows.rows, windows.columns)
        return WindowedViT(network, window=windows.side, global_blocks=windows.wide, grid=grid)


@dataclass(frozen=True)
class CNNShape:
    """The architecture of a ResNet or ConvNeXt-V2; the image size is 224 px unless given."""

    arch: CNNArch
    image_size: int = 224

    @property
    def name(self) -> str | None:
        """The NAME in `random:NAME:SEED` for this shape, or None where it has no name."""
        return self.arch.name

    def empty(self) -> "nn.Module":
        """Build the network without memory for its weights (on the meta device)."""
        import torch

        with torch.device("meta"):
            return self.arch.build()


@dataclass(frozen=True)
class NamedShape:
    """The architecture of a model that timm knows by name, where weights alone do not tell the
    architecture."""

    timm: str
    norm: bool = True

    @property
    def name(self) -> str:
        """The NAME in `random:NAME:SEED` for this shape."""
        return f"timm/{self.timm}"

    @property
    def image_size(self) -> int:
        """Side in pixels of the images that the model takes."""
        import timm

        return int(timm.get_pretrained_cfg(self.timm).input_size[-1])

    def list_tensors(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of every tensor, by name, without memory for a network so large."""
        import torch

        with torch.device("meta"):
            weights = self.empty().state_dict()
        return {key: tuple(value.shape) for key, value in weights.items()}

    def empty(self) -> "nn.Module":
        """Build the network at timm's random initialisation. Its memory is real, since some of its
        tables are not among the weights."""
        import torch

        from sslens.models import networks

        network = networks.create(self.timm, seed=0)
        if not self.norm:
            network.norm = torch.nn.Identity()
        return network


Shape: TypeAlias = ViTShape | RopeShape | BeitShape | CNNShape | ConvNeXtShape | NamedShape
#: the shapes with attention
TRANSFORMERS = (ViTShape, RopeShape, BeitShape)
#: the names of shapes in headers of files, except for those that have none there
_WRITTEN: Mapping[str, Any] = {"dinov3": RopeShape, "beit": BeitShape, "convnext": ConvNeXtShape}


def describe_network(network: "nn.Module", name: str | None, where: str) -> Mapping[str, Any]:
    """Return the shape of a loaded network as plain JSON values for a file's header;
    `read_shape` reads it back.

    Args:
        network: the network; its final norm may have been removed.
        name: the architecture's name as in `Backbone.about`; a network of timm's is described by
            it.
        where: what messages call the network.

    Raises:
        InputError: the network has no known shape, and no name in timm.

    >>> from sslens.models.vit import ViTArch
    >>> describe_network(ViTArch.parse("vit_nano_patch8_32").build(), None, "mine")
    {'image_size': 32, 'patch_size': 8, 'dim': 64, 'blocks': 4, 'heads': 1}
    """
    from torch import nn

    if name is not None and name.startswith("timm/"):
        bare = isinstance(getattr(network, "norm", None), nn.Identity)
        return {"timm": name.removeprefix("timm/"), "norm": not bare}
    if name is not None and CNNArch.is_name(name):
        return asdict(CNNArch.parse(name))  # no weight tells strides or the images' size
    heads, hints = read_hints(network)
    shape = find_shape(network.state_dict(), where, heads, hints)
    written = next((key for key, kind in _WRITTEN.items() if isinstance(shape, kind)), None)
    if written is not None:
        return {"network": written, **asdict(shape)}
    if isinstance(shape, CNNShape):
        return asdict(replace(shape.arch, image_size=shape.image_size))
    assert isinstance(shape, ViTShape)
    plain = ViTShape(shape.arch, hidden=4 * shape.arch.dim)
    if shape == plain:
        return asdict(shape.arch)
    later = ("pre_norm", "activation", "eps")  # which files of before do not have
    usual = {key for key in later if getattr(shape, key) == getattr(plain, key)}
    values = asdict(shape).items()
    return {key: value for key, value in values if value is not None and key not in usual}


def read_shape(shape: Mapping[str, Any]) -> Shape:
    """Read the shape from the header of one of this package's files.

    >>> read_shape({"image_size": 32, "patch_size": 8, "dim": 64, "blocks": 4, "heads": 1}).name
    'vit_nano_patch8_32'
    """
    if "timm" in shape:
        return NamedShape(shape["timm"], shape["norm"])
    if "network" in shape:
        kind = _WRITTEN[shape["network"]]
        given = {key: tuple(v) if isinstance(v, list) else v for key, v in shape.items()}
        given |= {"arch": ViTArch(**shape["arch"])} if "arch" in shape else {}
        shaped: Shape = kind(**{key: v for key, v in given.items() if key != "network"})
        return shaped
    if "kind" in shape:
        arch = CNNArch(**shape)
        return CNNShape(arch, arch.image_size)
    if "arch" in shape:
        windows = shape.get("windows")
        windows = windows and Windows(**{**windows, "wide": tuple(windows["wide"])})
        return ViTShape(**{**shape, "arch": ViTArch(**shape["arch"]), "windows": windows})
    return ViTShape(ViTArch(**shape), hidden=4 * shape["dim"])


def find_shape(
    weights: Mapping[str, Shaped], where: str, heads: int | None, hints: Hints = NONE
) -> Shape:
    """Find the architecture of weights in timm's names.

    Args:
        weights: the weights, without heads and decoders.
        where: the file, for messages.
        heads: the number of attention heads that was asked for; for None that of `hints`, else as
            many as the released network of this width has, or width / 64.
        hints: what is told of the network beside its weights.

    Raises:
        InputError: a variant that is not known here, or shapes that make no network.
    """
    if "layer1.0.conv1.weight" in weights:
        return CNNShape(find_resnet(weights, where))
    if "stages.0.blocks.0.conv_dw.weight" in weights:
        if "stages.0.blocks.0.mlp.grn.weight" not in weights:
            return find_first_convnext(weights, hints)
        return CNNShape(find_convnext(weights))
    if is_rotary(weights):
        return find_rotary(weights, where, heads, hints)
    if is_beit(weights):
        return find_beit(weights, where, heads, hints)
    return _find_vit(weights, where, heads, hints)


def _find_vit(
    weights: Mapping[str, Shaped], where: str, heads: int | None, hints: Hints
) -> ViTShape:
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
            f"{where} has positions for {rows} tokens, {before} of them before the patches: the"
            " patches are no square, and only square images are read."
        )
    first, second = "blocks.0.mlp.fc1.weight", "blocks.0.mlp.fc2.weight"
    if first not in weights or second not in weights:
        raise InputError(
            f"{where} is a ViT whose first block has no"
            f" {first if first not in weights else second}."
        )
    hidden = int(weights[second].shape[1])
    head = windows.head if windows else None
    heads = choose_heads(dim, heads if windows else heads or hints.heads, head, where)
    return ViTShape(
        ViTArch(grid * patch, patch, dim, count_blocks(weights, "blocks."), heads),
        hidden=hidden,
        gated=int(weights[first].shape[0]) == 2 * hidden,
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


def _refuse_variants(
    weights: Mapping[str, Shaped], where: str, hints: Hints, *, windowed: bool
) -> None:
    """Refuse a Vision Transformer of a kind that is not known here."""
    for part, said in _UNKNOWN_VIT[1 if windowed else 0 :]:
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
