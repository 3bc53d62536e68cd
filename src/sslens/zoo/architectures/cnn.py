"""ResNets (He et al., 2016) and ConvNeXt-V2s (Woo et al., 2023)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sslens.models.cnn import CNNArch
from sslens.zoo.architecture import (
    Architecture,
    Tensors,
    Weights,
    describe_stages,
    list_affine,
    list_convnext,
)
from sslens.zoo.finders import find_convnext, find_resnet
from sslens.zoo.hints import Hints

if TYPE_CHECKING:
    from torch import nn

TITLE = "a ResNet or a ConvNeXt-V2"
_RESNET = "layer1.0.conv1.weight"
_CONVNEXT = "stages.0.blocks.0.conv_dw.weight"
_GRN = "stages.0.blocks.0.mlp.grn.weight"


@dataclass(frozen=True)
class CNNShape(Architecture):
    """The architecture of a ResNet or ConvNeXt-V2; the image size is 224 px unless given."""

    arch: CNNArch
    image_size: int = 224

    @property
    def name(self) -> str | None:
        """The NAME in `random:NAME:SEED` for this shape, or None where it has no name."""
        return self.arch.name

    def iterate_tensors(self) -> Tensors:
        """Yield the name and the shape of every tensor."""
        arch = self.arch
        if arch.kind == "resnet":
            return _list_resnet(arch)
        return list_convnext(tuple(arch.blocks), tuple(arch.widths), arch.stem, grn=True)

    def empty(self) -> "nn.Module":
        """Build the network without memory for its weights (on the meta device)."""
        from sslens.models.sketching import sketch_networks

        with sketch_networks():
            return self.arch.build()

    def describe(self) -> str:
        """Describe the architecture in words.

        >>> CNNShape(CNNArch.parse("resnet50")).describe()
        'resnet50: stages of 3, 4, 6, 3 blocks, 2048 channels at the end, for images of 224 px'
        """
        arch = self.arch
        blocks = tuple(arch.blocks)
        return describe_stages(self.name, arch.kind, blocks, arch.channels, self.image_size)


SHAPE = CNNShape


def matches(weights: Weights) -> bool:
    """Whether the weights have a ResNet's first stage, or a ConvNeXt's with GRN."""
    return _RESNET in weights or (_CONVNEXT in weights and _GRN in weights)


def find(weights: Weights, where: str, heads: int | None, hints: Hints) -> CNNShape:
    """Find the architecture of a ResNet or a ConvNeXt-V2.

    Raises:
        InputError: a ResNet's convolutions are grouped, or its first one is not 7 px wide.
    """
    return CNNShape(find_resnet(weights, where) if _RESNET in weights else find_convnext(weights))


def _list_batch_norm(name: str, channels: int) -> Tensors:
    yield from list_affine(name, channels)
    yield f"{name}.running_mean", (channels,)
    yield f"{name}.running_var", (channels,)
    yield f"{name}.num_batches_tracked", ()


def _list_resnet(arch: CNNArch) -> Tensors:
    before, kernel = (64, 7) if arch.stem == 4 else (arch.widths[0], 3)
    yield "conv1.weight", (before, 3, kernel, kernel)
    yield from _list_batch_norm("bn1", before)
    for stage, (count, width) in enumerate(zip(arch.blocks, arch.widths, strict=True), 1):
        out = width * (4 if arch.bottleneck else 1)
        sizes = [(width, 1), (width, 3), (out, 1)] if arch.bottleneck else [(width, 3), (width, 3)]
        for i in range(count):
            block, inside = f"layer{stage}.{i}", before
            for number, (channels, kernel) in enumerate(sizes, 1):
                yield f"{block}.conv{number}.weight", (channels, inside, kernel, kernel)
                yield from _list_batch_norm(f"{block}.bn{number}", channels)
                inside = channels
            if i == 0 and (stage > 1 or before != out):
                yield f"{block}.downsample.0.weight", (out, before, 1, 1)
                yield from _list_batch_norm(f"{block}.downsample.1", out)
            before = out
