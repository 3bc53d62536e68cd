"""What architectures have in common: how they are asked, and how timm's transformers are found,
listed and built."""

import abc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, final

from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.models.vit import ViTArch
from sslens.zoo.attention import choose_heads
from sslens.zoo.finders import Shaped, count_blocks, find_patches
from sslens.zoo.hints import Hints

if TYPE_CHECKING:
    from torch import nn

#: weights in timm's names, of which only the shapes are read
Weights: TypeAlias = Mapping[str, Shaped]
#: names and shapes of tensors
Tensors: TypeAlias = Iterator[tuple[str, tuple[int, ...]]]


class Architecture(abc.ABC):
    """The architecture of a network, as the shapes of its weights tell it."""

    @property
    @abc.abstractmethod
    def name(self) -> str | None:
        """The NAME in `random:NAME:SEED` for this architecture, or None where it has no name."""

    @property
    @abc.abstractmethod
    def image_size(self) -> int:
        """Side in pixels of the square images for which the model is prepared."""

    @abc.abstractmethod
    def iterate_tensors(self) -> Tensors:
        """Yield the name and the shape of every tensor of the network, without timm."""

    @abc.abstractmethod
    def empty(self) -> "nn.Module":
        """Build the network without memory for its weights (on the meta device)."""

    @abc.abstractmethod
    def describe(self) -> str:
        """Describe the architecture in words."""

    def list_tensors(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor of the network, by name."""
        return dict(self.iterate_tensors())


class PlainTransformer(Architecture):
    """A transformer of one width and one kind of blocks."""

    arch: ViTArch
    hidden: int

    @property
    def image_size(self) -> int:
        """Side in pixels of the square images for which the model is prepared."""
        return self.arch.image_size

    @abc.abstractmethod
    def describe_variant(self) -> Iterator[str]:
        """Yield the differences from a plain Vision Transformer, in words; some may be empty."""

    def describe(self) -> str:
        """Describe the architecture in words."""
        return describe_transformer(self.name, self.arch, *self.describe_variant())


def read_arch(shape: Architecture) -> ViTArch | None:
    """Return the sizes of a plain transformer; None of another network."""
    return shape.arch if isinstance(shape, PlainTransformer) else None


def read_heads(shape: Architecture) -> int | None:
    """Return the number of attention heads in the first block, where it can be chosen; None of
    other networks.

    >>> from sslens.zoo.shapes import CNNShape, CNNArch
    >>> read_heads(CNNShape(CNNArch.parse("resnet50"))) is None
    True
    """
    arch = read_arch(shape)
    heads = getattr(shape, "heads", None) if arch is None else arch.heads
    assert heads is None or isinstance(heads, int)
    return heads


def are_heads_told(shape: Architecture) -> bool:
    """Whether weights tell the numbers of heads of a network, or it has none."""
    told = getattr(shape, "tells_heads", read_arch(shape) is None)
    assert isinstance(told, bool)
    return told


# ------------------------------------------------------------------------------------------------
# finding


@final
@dataclass(frozen=True)
class Found:
    """What the shapes of a plain transformer's weights tell.

    Attributes:
        arch: image and patch size, width, blocks, heads.
        hidden: the width of the input of the MLPs' second layer.
        norm: whether there is a final normalisation.
        qkv_bias: whether queries, keys and values have a bias.
    """

    arch: ViTArch
    hidden: int
    norm: bool
    qkv_bias: bool


def find_transformer(
    weights: Weights,
    where: str,
    heads: int | None,
    *,
    image_size: Callable[[int], int],
    told: int | None = None,
    patches: tuple[int, int] | None = None,
) -> Found:
    """Find the sizes of a plain transformer.

    Args:
        weights: the weights.
        where: the file, for messages.
        heads: the number of heads that was asked for or told; chosen by the width unless given.
        image_size: the side of the images, from the patch size.
        told: the number of heads that the weights tell.
        patches: the width and the patch size, if not as `find_patches` finds them.

    Raises:
        InputError: the shapes make no such network, or `heads` differ from those that the weights
            tell.
    """
    dim, patch = patches or find_patches(weights, where)
    hidden = find_hidden(weights, where)
    if told is not None and heads not in (None, told):
        raise InputError(
            f"{where} has relative positions for {spell_count(told, 'head')} of attention, and not"
            f" for {heads}: leave num_heads out."
        )
    count = choose_heads(dim, told or heads, None, where)
    return Found(
        ViTArch(image_size(patch), patch, dim, count_blocks(weights, "blocks."), count),
        hidden=hidden,
        norm="norm.weight" in weights,
        qkv_bias="blocks.0.attn.qkv.bias" in weights,
    )


def cut_to_patches(hints: Hints, usual: int) -> Callable[[int], int]:
    """Return how a patch size decides the side of the images of a network that takes images of all
    sizes: the side that is told, or the usual one, cut to whole patches.

    >>> cut_to_patches(Hints(image_size=230), 224)(16), cut_to_patches(Hints(), 256)(16)
    (224, 256)
    """
    size = hints.image_size or usual
    return lambda patch: size - size % patch


def find_hidden(weights: Weights, where: str) -> int:
    """Return the width of the input of the MLPs' second layer.

    Raises:
        InputError: the first block has no MLP of two layers.
    """
    for name in ("blocks.0.mlp.fc1.weight", "blocks.0.mlp.fc2.weight"):
        gated = name.replace("fc1.", "fc1_g.")  # a first layer that is in two parts
        if name not in weights and gated not in weights:
            raise InputError(f"{where} is a ViT whose first block has no {name}.")
    second = weights["blocks.0.mlp.fc2.weight"]
    if second.ndim != 2:
        raise InputError(f"{where} is a ViT whose blocks.0.mlp.fc2.weight has no two axes.")
    return int(second.shape[1])


def require_activation(hints: Hints, needed: str, where: str) -> None:
    """Refuse a network that is told to have another activation function than its kind has.

    Raises:
        InputError: the message names both.
    """
    if hints.activation not in (None, needed):
        raise InputError(
            f"{where} is said to have the activation function {hints.activation}; networks of its"
            f" kind have {needed} here, and no other is read."
        )


# ------------------------------------------------------------------------------------------------
# listing


def list_affine(name: str, out: int, *inputs: int, bias: bool = True) -> Tensors:
    """List a linear layer, a convolution or a normalisation: a weight, and a bias of its outputs.

    >>> dict(list_affine("norm", 8))
    {'norm.weight': (8,), 'norm.bias': (8,)}
    """
    yield f"{name}.weight", (out, *inputs)
    if bias:
        yield f"{name}.bias", (out,)


def list_block(
    block: str,
    dim: int,
    hidden: int,
    *,
    inputs: int | None = None,
    qkv_bias: bool = True,
    firsts: tuple[str, ...] = ("fc1",),
    first: int | None = None,
    scales: tuple[str, ...] = (),
) -> Tensors:
    """List a block of a transformer: attention and an MLP, each after a normalisation.

    Args:
        block: the block's name.
        dim: the width of its output.
        hidden: the width of the input of the MLP's second layer.
        inputs: the width of its input, if not that of its output.
        qkv_bias: whether queries, keys and values have a bias.
        firsts: the names of the MLP's first layers.
        first: the outputs of each first layer, if not `hidden`.
        scales: the names of its layer scales.
    """
    before = inputs or dim
    for scale in scales:
        yield f"{block}.{scale}", (dim,)
    yield from list_affine(f"{block}.norm1", before)
    yield from list_affine(f"{block}.attn.qkv", 3 * dim, before, bias=qkv_bias)
    yield from list_affine(f"{block}.attn.proj", dim, dim)
    yield from list_affine(f"{block}.norm2", dim)
    for layer in firsts:
        yield from list_affine(f"{block}.mlp.{layer}", first or hidden, dim)
    yield from list_affine(f"{block}.mlp.fc2", dim, hidden)


def list_convnext(
    blocks: tuple[int, ...], widths: tuple[int, ...], stem: int, *, grn: bool
) -> Tensors:
    """List a ConvNeXt, of the second version where it has global response normalisation (`grn`),
    else of the first one, with layer scale.

    Args:
        blocks: the number of blocks of each stage.
        widths: the channels of each stage.
        stem: the stride of the first convolution in pixels.
        grn: whether it is of the second version.
    """
    before = widths[0]
    yield from list_affine("stem.0", before, 3, stem, stem)
    yield from list_affine("stem.1", before)
    for stage, (count, width) in enumerate(zip(blocks, widths, strict=True)):
        if stage:
            yield from list_affine(f"stages.{stage}.downsample.0", before)
            yield from list_affine(f"stages.{stage}.downsample.1", width, before, 2, 2)
        for i in range(count):
            block = f"stages.{stage}.blocks.{i}"
            yield from list_affine(f"{block}.conv_dw", width, 1, 7, 7)
            yield from list_affine(f"{block}.norm", width)
            yield from list_affine(f"{block}.mlp.fc1", 4 * width, width)
            yield from list_affine(f"{block}.mlp.fc2", width, 4 * width)
            if grn:
                yield from list_affine(f"{block}.mlp.grn", 4 * width)
            else:
                yield f"{block}.gamma", (width,)
        before = width


# ------------------------------------------------------------------------------------------------
# building


def build_transformer(
    make: Callable[..., "nn.Module"],
    arch: ViTArch,
    hidden: int,
    *,
    norm: bool,
    eps: float,
    **settings: Any,
) -> "nn.Module":
    """Build a plain transformer of timm's without memory for its weights, and without a head.

    Args:
        make: timm's class.
        arch: image and patch size, width, blocks, heads.
        hidden: the outputs of the MLPs' first layer.
        norm: whether there is a final normalisation.
        eps: what normalisations add to the variance.
        settings: of the class.
    """
    import torch
    from timm.layers import LayerNorm

    from sslens.models.sketching import sketch_networks
    from sslens.models.transformers import join_qkv
    from sslens.zoo.tables import fill_tables

    with sketch_networks():
        network = make(
            img_size=arch.image_size,
            patch_size=arch.patch_size,
            embed_dim=arch.dim,
            depth=arch.blocks,
            num_heads=arch.heads,
            mlp_ratio=(hidden + 0.5) / arch.dim,  # which timm rounds down
            num_classes=0,
            norm_layer=partial(LayerNorm, eps=eps),
            **settings,
        )
        join_qkv(network)
    if not norm:
        network.norm = torch.nn.Identity()
    return fill_tables(network)


# ------------------------------------------------------------------------------------------------
# describing


def describe_transformer(name: str | None, arch: ViTArch, *words: str) -> str:
    """Describe a plain transformer; empty words are left out.

    >>> describe_transformer(None, ViTArch(32, 8, 64, 4, 1), "", "no CLS token")
    'ViT: 4 blocks of width 64 with 1 head, patches of 8 px, images of 32 px, no CLS token'
    """
    heads = "1 head" if arch.heads == 1 else f"{arch.heads} heads"
    parts = [
        f"{name or 'ViT'}: {spell_count(arch.blocks, 'block')} of width {arch.dim} with {heads}",
        f"patches of {arch.patch_size} px, images of {arch.image_size} px",
        *words,
    ]
    return ", ".join(filter(None, parts))


def describe_stages(
    name: str | None, kind: str, blocks: tuple[int, ...], channels: int, image_size: int
) -> str:
    """Describe a network in stages, each of smaller maps than the one before.

    >>> describe_stages("resnet18", "resnet", (2, 2, 2, 2), 512, 224)
    'resnet18: stages of 2, 2, 2, 2 blocks, 512 channels at the end, for images of 224 px'
    """
    counts = ", ".join(map(str, blocks))
    return (
        f"{name or kind}: stages of {counts} blocks, {channels} channels at the end, for images of"
        f" {image_size} px"
    )
