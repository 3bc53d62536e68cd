"""Convolutional networks with named taps, ResNet and ConvNeXt-V2; timm underneath."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from timm.models.convnext import ConvNeXt
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn

from sslens.errors import InputError, nearest
from sslens.models.taps import Tap

KINDS = ("resnet", "convnextv2")


@dataclass(frozen=True)
class CNNArch:
    """The shape of a ResNet or a ConvNeXt-V2: all that is needed to build one, and what its checkpoints carry.

    `blocks` and `widths` are given stage by stage. A ResNet's width is that of the 3 × 3 convolutions; with `bottleneck`
    its blocks put out four times as many channels (`bottleneck` means nothing for a ConvNeXt-V2).

    >>> CNNArch.parse("resnet50")
    CNNArch(kind='resnet', blocks=(3, 4, 6, 3), widths=(64, 128, 256, 512), bottleneck=True)
    >>> arch = CNNArch.parse("convnextv2_base")
    >>> sum(arch.blocks), arch.channels, arch.name
    (36, 1024, 'convnextv2_base')
    """

    kind: str
    blocks: Sequence[int]
    widths: Sequence[int]
    bottleneck: bool = False

    def __post_init__(self) -> None:
        # JSON has lists only
        object.__setattr__(self, "blocks", tuple(self.blocks))
        object.__setattr__(self, "widths", tuple(self.widths))
        if self.kind not in KINDS:
            raise InputError(f'There is no CNN "{self.kind}": {nearest(self.kind, KINDS)}')
        for name, values in (("blocks", self.blocks), ("widths", self.widths)):
            if len(values) != 4 or min(values) < 1:
                raise InputError(
                    f"A {self.kind}'s {name} are {values}: give four whole numbers, 1 or more, one a stage."
                )

    @classmethod
    def parse(cls, name: str) -> "CNNArch":
        """The arch of a name in timm's spelling, `resnet50` or `convnextv2_base`.

        Raises:
            InputError: there is none of this name; the nearest are offered.
        """
        if name not in SIZES:
            raise InputError(f'There is no CNN "{name}": {nearest(name, SIZES)}')
        return SIZES[name]

    @property
    def name(self) -> str | None:
        """The name that this shape goes by, or None for a shape of one's own."""
        return next((name for name, arch in SIZES.items() if arch == self), None)

    @property
    def channels(self) -> int:
        """Channels of the last features."""
        return self.widths[-1] * (4 if self.bottleneck else 1)

    def build(self, seed: int | None = None) -> ResNet | ConvNeXt:
        """A network of this shape without a head, at timm's initialisation but for one thing.

        timm starts the last normalisation of every residual branch of a ResNet at zero, with which all blocks of a stage
        would put out nearly the same: no control worth the name. Here it starts at one, as in torchvision and in DINO.
        A ConvNeXt-V2 has linear layers, not 1 × 1 convolutions, at every size, as in the released files; in its MLPs the
        channels come last. Neither has the normalisation that its classifier puts after the pooling.

        The random numbers of the process are left as they were when `seed` is given.
        """
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            if self.kind == "resnet":
                block = Bottleneck if self.bottleneck else BasicBlock
                return ResNet(block, self.blocks, num_classes=0, channels=self.widths, zero_init_last=False)
            network = ConvNeXt(depths=self.blocks, dims=self.widths, num_classes=0, ls_init_value=None, use_grn=True)
        drop_head(network)
        return network


def _sizes() -> Iterator[tuple[str, CNNArch]]:
    widths = (64, 128, 256, 512)
    for layers, blocks in {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}.items():
        yield f"resnet{layers}", CNNArch("resnet", blocks, widths)
    for layers, blocks in {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}.items():
        yield f"resnet{layers}", CNNArch("resnet", blocks, widths, bottleneck=True)
    third = {"atto": 6, "femto": 6, "pico": 6, "nano": 8, "tiny": 9, "base": 27, "large": 27, "huge": 27}
    first = {"atto": 40, "femto": 48, "pico": 64, "nano": 80, "tiny": 96, "base": 128, "large": 192, "huge": 352}
    for size, count in third.items():
        ends = 2 if count < 9 else 3
        widths = (first[size], 2 * first[size], 4 * first[size], 8 * first[size])
        yield f"convnextv2_{size}", CNNArch("convnextv2", (ends, ends, count, ends), widths)


#: the released shapes (He et al., 2016, table 1; Woo et al., 2023, appendix A.1)
SIZES = dict(_sizes())


def drop_head(network: ConvNeXt) -> None:
    """Take away the normalisation after the pooling, which no feature passes through and which FCMAE never trained."""
    network.head = nn.Identity()


def taps(network: ResNet | ConvNeXt) -> Iterator[Tap]:
    """The taps of a CNN in the order of computation; the depth of what lies in block i of L, over all stages, is (i + 1) / L.

    The stem (after its pooling or normalisation), every residual block, and in ConvNeXt's blocks `mlp.fc1`. Outputs are
    [image, channel, height, width]; those of `fc1` have the channels last where the layer is linear. A ConvNeXt block's
    normalisation stands before its MLP, so it is no "norm1", which is that before the mixing of places.
    What a tap reads is not overwritten later: a ResNet adds and rectifies in place, but within one block only.
    """
    if isinstance(network, ResNet):
        yield Tap("maxpool", "stem", 0.0)
        stages = [f"layer{i + 1}" for i in range(4)]
    else:
        yield Tap("stem", "stem", 0.0)
        stages = [f"stages.{i}.blocks" for i in range(len(network.stages))]
    blocks = [f"{stage}.{i}" for stage in stages for i in range(len(network.get_submodule(stage)))]
    for i, block in enumerate(blocks):
        depth = (i + 1) / len(blocks)
        if isinstance(network, ConvNeXt):
            yield Tap(f"{block}.mlp.fc1", "fc1", depth)
        yield Tap(block, "block", depth)
    if isinstance(network, ConvNeXt) and not isinstance(network.norm_pre, nn.Identity):
        yield Tap("norm_pre", "norm", 1.0)


def describe(arch: CNNArch) -> dict[str, Any]:
    """The arch as plain JSON values, for a checkpoint's header; `CNNArch(**described)` is the arch again."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(arch).items()}
