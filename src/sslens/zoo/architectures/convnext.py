"""The first ConvNeXt (Liu et al., 2022), with layer scale and without GRN. DINOv3's ConvNeXts have
it too; timm builds it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sslens.zoo.architecture import (
    Architecture,
    Tensors,
    Weights,
    describe_stages,
    list_convnext,
)
from sslens.zoo.finders import count_blocks
from sslens.zoo.hints import Hints

if TYPE_CHECKING:
    from torch import nn

TITLE = "the first ConvNeXt"
_SIZES: dict[tuple[tuple[int, ...], int], str] = {
    ((3, 3, 9, 3), 96): "tiny",
    ((3, 3, 27, 3), 96): "small",
    ((3, 3, 27, 3), 128): "base",
    ((3, 3, 27, 3), 192): "large",
    ((3, 3, 27, 3), 256): "xlarge",
}


@dataclass(frozen=True)
class ConvNeXtShape(Architecture):
    """The architecture of a ConvNeXt of the first version, with layer scale and without GRN.

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
        size = _SIZES.get((self.blocks, self.widths[0]))
        usual = widths == self.widths and self.stem == 4
        return f"timm/convnext_{size}" if size and usual else None

    def iterate_tensors(self) -> Tensors:
        """Yield the name and the shape of every tensor."""
        return list_convnext(self.blocks, self.widths, self.stem, grn=False)

    def empty(self) -> "nn.Module":
        """Build the network without memory for its weights (on the meta device)."""
        from timm.models.convnext import ConvNeXt

        from sslens.models.convolutions import drop_head
        from sslens.models.sketching import sketch_networks

        with sketch_networks():
            network = ConvNeXt(
                depths=self.blocks, dims=self.widths, num_classes=0, patch_size=self.stem
            )
        drop_head(network)
        return network

    def describe(self) -> str:
        """Describe the architecture in words."""
        channels = self.widths[-1]
        return describe_stages(self.name, "ConvNeXt", self.blocks, channels, self.image_size)


SHAPE = ConvNeXtShape


def matches(weights: Weights) -> bool:
    """Whether the weights have a ConvNeXt's first stage without GRN."""
    start = "stages.0.blocks.0"
    return f"{start}.conv_dw.weight" in weights and f"{start}.mlp.grn.weight" not in weights


def find(weights: Weights, where: str, heads: int | None, hints: Hints) -> ConvNeXtShape:
    """Find the architecture of a ConvNeXt of the first version."""
    stem = weights.get("stem.0.weight")  # where it is missing, loading says so
    return ConvNeXtShape(
        tuple(count_blocks(weights, f"stages.{i}.blocks.") for i in range(4)),
        tuple(int(weights[f"stages.{i}.blocks.0.conv_dw.weight"].shape[0]) for i in range(4)),
        int(stem.shape[2]) if stem is not None else 4,
        hints.image_size or 224,
    )
