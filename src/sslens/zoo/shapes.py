"""The architecture of a network, found from its weights in timm's names; an architecture can build
an empty network to be filled with weights."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from sslens.errors import InputError
from sslens.models.cnn import CNNArch
from sslens.models.vit import SIZES, ViTArch
from sslens.zoo.attention import choose_heads
from sslens.zoo.windows import Windows, find_windows

if TYPE_CHECKING:
    from torch import nn


@runtime_checkable
class Shaped(Protocol):
    """A torch tensor or an array of a file; only the shape is used here."""

    @property
    def shape(self) -> Sequence[int]:
        """The size along each axis."""
        ...

    @property
    def ndim(self) -> int:
        """The number of axes."""
        ...


_UNKNOWN_VIT = (
    ("rel_pos", "relative positions, as BEiT's and detectors' ViTs do"),
    ("relative_position", "relative positions, as BEiT's"),
    ("attn.q_bias", "separate biases of queries and values, as BEiT's and EVA's"),
    ("attn.q_proj", "separate queries, keys and values in timm's EVA names"),
    (
        "norm_pre",
        (
            "a normalisation before the first block, as CLIP's, whose activation function no weight"
            " tells"
        ),
    ),
    ("attn.q_norm", "normalised queries and keys"),
    ("gamma_1", "BEiT's layer scale"),
)


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

    @property
    def name(self) -> str | None:
        """The NAME in `random:NAME:SEED` for this shape, or None where it has no name."""
        arch = self.arch
        if not self.cls or not self.qkv_bias or self.distilled or self.windows:
            return None
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

    @property
    def image_size(self) -> int:
        """Side in pixels of the images for which it has positions."""
        return self.arch.image_size

    def empty(self) -> "nn.Module":
        """Build the network without memory for its weights (on the meta device)."""
        import torch
        from timm.layers import SwiGLUPacked
        from timm.models.deit import VisionTransformerDistilled
        from timm.models.vision_transformer import VisionTransformer

        arch = self.arch
        settings: dict[str, Any] = (
            {"mlp_layer": SwiGLUPacked, "act_layer": torch.nn.SiLU} if self.gated else {}
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
        return int(self.empty().pretrained_cfg["input_size"][-1])  # type: ignore[index]

    def empty(self) -> "nn.Module":
        """Build the network at timm's random initialisation. Its memory is real, since some of its
        tables are not among the weights."""
        import torch

        from sslens.models import networks

        network = networks.create(self.timm, seed=0)
        if not self.norm:
            network.norm = torch.nn.Identity()
        return network


Shape: TypeAlias = ViTShape | CNNShape | NamedShape


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
    from timm.models.vision_transformer import VisionTransformer
    from torch import nn

    if name is not None and name.startswith("timm/"):
        bare = isinstance(getattr(network, "norm", None), nn.Identity)
        return {"timm": name.removeprefix("timm/"), "norm": not bare}
    if name is not None and CNNArch.is_name(name):
        return asdict(CNNArch.parse(name))  # no weight tells strides or the images' size
    heads = network.blocks[0].attn.num_heads if isinstance(network, VisionTransformer) else None
    shape = find_shape(network.state_dict(), where, heads)
    if isinstance(shape, CNNShape):
        return asdict(replace(shape.arch, image_size=shape.image_size))
    assert isinstance(shape, ViTShape)
    plain = ViTShape(shape.arch, hidden=4 * shape.arch.dim)
    if shape == plain:
        return asdict(shape.arch)
    return {name: value for name, value in asdict(shape).items() if value is not None}


def read_shape(shape: Mapping[str, Any]) -> Shape:
    """Read the shape from the header of one of this package's files.

    >>> read_shape({"image_size": 32, "patch_size": 8, "dim": 64, "blocks": 4, "heads": 1}).name
    'vit_nano_patch8_32'
    """
    if "timm" in shape:
        return NamedShape(shape["timm"], shape["norm"])
    if "kind" in shape:
        arch = CNNArch(**shape)
        return CNNShape(arch, arch.image_size)
    if "arch" in shape:
        windows = shape.get("windows")
        windows = windows and Windows(**{**windows, "wide": tuple(windows["wide"])})
        return ViTShape(**{**shape, "arch": ViTArch(**shape["arch"]), "windows": windows})
    return ViTShape(ViTArch(**shape), hidden=4 * shape["dim"])


def find_shape(weights: Mapping[str, Shaped], where: str, heads: int | None) -> Shape:
    """Find the architecture of weights in timm's names.

    Args:
        weights: the weights, without heads and decoders.
        where: the file, for messages.
        heads: the number of attention heads; for None as many as the released network of this width
            has, or width / 64.

    Raises:
        InputError: a variant that is not known here, or shapes that make no network.
    """
    if "layer1.0.conv1.weight" in weights:
        return CNNShape(_find_resnet(weights, where))
    if "stages.0.blocks.0.conv_dw.weight" in weights:
        return CNNShape(_find_convnext(weights, where))
    return _find_vit(weights, where, heads)


def _count_blocks(weights: Mapping[str, Shaped], start: str) -> int:
    """How many of `start`0., `start`1., … there are in a row."""
    there = {name[len(start) :].split(".")[0] for name in weights if name.startswith(start)}
    return next(i for i in range(len(there) + 1) if str(i) not in there)


def _find_resnet(weights: Mapping[str, Shaped], where: str) -> CNNArch:
    bottleneck = "layer1.0.conv3.weight" in weights
    if weights["layer1.0.conv2.weight"].shape[1] != weights["layer1.0.conv2.weight"].shape[0]:
        raise InputError(
            f"{where} is a ResNet with grouped convolutions (ResNeXt): only plain ResNets are read"
            " from files."
        )
    if weights["conv1.weight"].shape[2] != 7:
        raise InputError(
            f"{where} is a ResNet whose first convolution is {weights['conv1.weight'].shape[2]} px"
            " wide: only ResNets with a 7 × 7 convolution, for images of about 224 px, are read"
            " from files."
        )
    return CNNArch(
        "resnet",
        [_count_blocks(weights, f"layer{i}.") for i in range(1, 5)],
        [int(weights[f"layer{i}.0.conv2.weight"].shape[0]) for i in range(1, 5)],
        bottleneck,
    )


def _find_convnext(weights: Mapping[str, Shaped], where: str) -> CNNArch:
    if "stages.0.blocks.0.mlp.grn.weight" not in weights:
        raise InputError(
            f"{where} is a ConvNeXt of the first version (no grn): load it by its name, timm:NAME."
        )
    blocks = [_count_blocks(weights, f"stages.{i}.blocks.") for i in range(4)]
    stem = weights.get("stem.0.weight")  # where it is missing, loading says so
    return CNNArch(
        "convnextv2",
        blocks,
        [int(weights[f"stages.{i}.blocks.0.conv_dw.weight"].shape[0]) for i in range(4)],
        stem=int(stem.shape[2]) if stem is not None else 4,
    )


def _find_vit(weights: Mapping[str, Shaped], where: str, heads: int | None) -> ViTShape:
    windows = None
    if "cls_token" not in weights:
        windows = find_windows({name: tuple(value.shape) for name, value in weights.items()}, where)
    for part, said in _UNKNOWN_VIT[1 if windows else 0 :]:
        if any(part in name for name in weights):
            raise InputError(
                f"{where} is a ViT with {said}: load it by its name, timm:NAME, where timm has it."
            )
    dim, patch = _find_patches(weights, where)
    if "pos_embed" not in weights:
        raise InputError(
            f"{where} is a ViT without a position table: load it by its name, timm:NAME, where timm"
            " has it."
        )
    cls, distilled = "cls_token" in weights, "dist_token" in weights
    registers = int(weights["reg_token"].shape[1]) if "reg_token" in weights else 0
    before = cls + distilled + registers
    table = weights["pos_embed"]
    rows = int(table.shape[1]) if table.ndim == 3 else 0
    if windows is not None:  # CLS itself is not in the file
        cls, before = _find_root(rows) is None, int(_find_root(rows) is None)
    positioned = _find_root(rows - before) is not None and before > 0
    grid = _find_root(rows - before if positioned else rows)
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
    heads = choose_heads(dim, heads, windows.head if windows else None, where)
    return ViTShape(
        ViTArch(grid * patch, patch, dim, _count_blocks(weights, "blocks."), heads),
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
    )


def _find_patches(weights: Mapping[str, Shaped], where: str) -> tuple[int, int]:
    """Width and patch size."""
    if "patch_embed.proj.weight" not in weights:
        there = [name for name in weights if name.startswith("patch_embed")]
        raise InputError(
            f"{where} is a ViT that cuts its patches by several convolutions (patch_embed has"
            f" {', '.join(sorted(there)[:2]) or 'no weights'}):"
            " only plain patches are read."
        )
    kernel = weights["patch_embed.proj.weight"]
    if kernel.ndim != 4 or kernel.shape[1] != 3 or kernel.shape[2] != kernel.shape[3]:
        raise InputError(
            f"{where} has patches of shape {tuple(kernel.shape)}: expected [width, 3, P, P], square"
            " patches of colour images."
        )
    return int(kernel.shape[0]), int(kernel.shape[2])


def _find_root(count: int) -> int | None:
    side = round(max(count, 0) ** 0.5)
    return side if side > 0 and side * side == count else None
