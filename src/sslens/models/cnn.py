"""The shapes of ResNets and ConvNeXt-V2s. Only building one imports torch and timm."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sslens.counts import spell_count
from sslens.errors import InputError, nearest

if TYPE_CHECKING:
    from timm.models.convnext import ConvNeXt
    from timm.models.resnet import ResNet

KINDS = ("resnet", "convnextv2")
_FOUR = r"\d+(?:x\d+){3}"
_OWN = re.compile(rf"(resnet|bottleneck|convnextv2)_({_FOUR})_({_FOUR})(?:_stem(\d+))?(?:_(\d+))?")
#: strides of the first layers: 4 px as in the released networks, or 1 px for images of about 32 px
STEMS = (1, 4)


@dataclass(frozen=True)
class CNNArch:
    """The shape of a ResNet or a ConvNeXt-V2: all that is needed to build one. Checkpoints carry it
    in their header.

    `blocks` and `widths` are given stage by stage. A ResNet's width is the number of channels of
    its 3 × 3 convolutions; with `bottleneck` its blocks put out four times as many channels
    (`bottleneck` means nothing for a ConvNeXt-V2). `image_size` is the side of the training images
    in pixels; the network takes images of other sizes too.

    `stem` is the stride in pixels of the layers before the first stage. At 4, a ResNet begins with
    a 7 × 7 convolution and a pooling and a ConvNeXt-V2 with patches of 4 px, as released. At 1, for
    small images, a ResNet begins with a 3 × 3 convolution as wide as its first stage and has no
    pooling there (He et al., 2016, section 4.2), and a ConvNeXt-V2 with patches of 1 px.

    >>> CNNArch.parse("resnet50")
    CNNArch(kind='resnet', blocks=(3, 4, 6, 3), widths=(64, 128, 256, 512), bottleneck=True)
    >>> arch = CNNArch.parse("convnextv2_base")
    >>> sum(arch.blocks), arch.channels, arch.name
    (36, 1024, 'convnextv2_base')
    >>> small = CNNArch.parse("resnet_mini_32")
    >>> small.stem, small.patch_size, small.grid
    (1, 8, 4)
    """

    kind: str
    blocks: Sequence[int]
    widths: Sequence[int]
    bottleneck: bool = False
    image_size: int = field(default=224, repr=False)
    stem: int = field(default=4, repr=False)

    def __post_init__(self) -> None:
        # JSON has lists only
        object.__setattr__(self, "blocks", tuple(self.blocks))
        object.__setattr__(self, "widths", tuple(self.widths))
        if self.kind not in KINDS:
            raise InputError(f'There is no CNN "{self.kind}": {nearest(self.kind, KINDS)}')
        for name, values in (("blocks", self.blocks), ("widths", self.widths)):
            if len(values) != 4 or min(values) < 1:
                raise InputError(
                    f"A {self.kind}'s {name} are {values}: give four whole numbers, 1 or more, one"
                    " a stage."
                )
        if self.stem not in STEMS:
            raise InputError(
                f"The first layers of a {self.kind} have a stride of {self.stem} px: expected 1 or"
                " 4."
            )
        if self.stem == 1 and self.kind == "resnet" and self.widths[0] % 2:
            raise InputError(
                f"A ResNet with a stem of stride 1 is {spell_count(self.widths[0], 'channel')} wide"
                " at first: expected an even number."
            )
        if self.image_size < self.patch_size or self.image_size % self.patch_size:
            raise InputError(
                f"A {self.kind} makes one place of {self.patch_size} px: images of"
                f" {self.image_size} px cannot be cut into them. Give a multiple of"
                f" {self.patch_size}."
            )

    @classmethod
    def parse(cls, name: str) -> "CNNArch":
        """Return the architecture of a name in timm's spelling, `resnet50` or `convnextv2_base`,
        followed by the image size unless that is 224.

        Where no released network has the same stages, their widths and blocks stand in place of the
        size: `resnet_8x12x16x20_1x1x2x1_64`, `bottleneck_…` for a ResNet with bottlenecks,
        `convnextv2_8x16x32x64_1x1x2x1_64`; `…_stem1_64` where the first layers have stride 1.
        `resnet_mini_32` and `convnextv2_mini_32` are of this package, for images of 32 px.

        Raises:
            InputError: there is no network of this name; the message offers the nearest names.

        >>> CNNArch.parse("resnet18_64").image_size
        64
        >>> CNNArch.parse("bottleneck_4x6x8x10_2x1x1x1_64").channels
        40
        """
        if (own := _OWN.fullmatch(name)) is not None:
            widths, blocks = ([int(number) for number in own[i].split("x")] for i in (2, 3))
            kind = "resnet" if own[1] == "bottleneck" else own[1]
            size, stem = int(own[5] or 224), int(own[4] or 4)
            return cls(kind, blocks, widths, own[1] == "bottleneck", size, stem)
        base, size = _split_size(name)
        if base not in NAMED:
            raise InputError(f'There is no CNN "{name}": {nearest(name, NAMED)}')
        return replace(NAMED[base], image_size=size)

    @staticmethod
    def is_name(text: str) -> bool:
        """Whether a text has the form of a name that `parse` takes; its numbers may still be out of
        bounds.

        >>> names = ("resnet50", "resnet50_64", "resnet51", "vit_base_patch16_224")
        >>> [CNNArch.is_name(name) for name in names]
        [True, True, False, False]
        """
        return _OWN.fullmatch(text) is not None or _split_size(text)[0] in NAMED

    @property
    def name(self) -> str:
        """The name that `parse` takes.

        >>> names = ("resnet50", "convnextv2_atto_64", "resnet_8x12x16x20_1x1x2x1")
        >>> [CNNArch.parse(name).name for name in names]
        ['resnet50', 'convnextv2_atto_64', 'resnet_8x12x16x20_1x1x2x1']
        """
        plain = replace(self, image_size=224)
        base = next((name for name, arch in NAMED.items() if arch == plain), None)
        if base is None:
            four = ("x".join(map(str, values)) for values in (self.widths, self.blocks))
            base = "_".join(["bottleneck" if self.bottleneck else self.kind, *four])
            base += "" if self.stem == 4 else f"_stem{self.stem}"
        return base if self.image_size == 224 else f"{base}_{self.image_size}"

    @property
    def patch_size(self) -> int:
        """Side in pixels of the part of an image for which one place of the last features
        stands."""
        return 8 * self.stem  # the stages after the first halve the map

    @property
    def grid(self) -> int:
        """Number of places of the last features along one side."""
        return self.image_size // self.patch_size

    @property
    def channels(self) -> int:
        """Number of channels of the last features."""
        return self.widths[-1] * (4 if self.bottleneck else 1)

    def build(self, seed: int | None = None) -> "ResNet | ConvNeXt":
        """Build a network of this shape without a head, with timm's initialisation except for one
        thing.

        timm starts the last normalisation of every residual branch of a ResNet at zero. All blocks
        of a stage would then put out nearly the same, and a random network would be useless as a
        control. Here these normalisations start at one, as in torchvision and in DINO. A
        ConvNeXt-V2 has linear layers, not 1 × 1 convolutions, at every size, as in the released
        files; in its MLPs the channels come last. Neither network has the normalisation that a
        classifier would put after the pooling.

        Args:
            seed: if given, the weights depend on it alone, and the random numbers of the process
                are left as they were.
        """
        import torch
        from timm.models.convnext import ConvNeXt
        from timm.models.resnet import BasicBlock, Bottleneck, ResNet

        from sslens.models.convolutions import begin_small, drop_head

        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            if self.kind == "resnet":
                block = Bottleneck if self.bottleneck else BasicBlock
                made = {"num_classes": 0, "channels": self.widths, "zero_init_last": False}
                if self.stem == 4:
                    return ResNet(block, self.blocks, **made)
                # with a deep stem the first stage takes as many channels as the stem puts out
                half = self.widths[0] // 2
                return begin_small(
                    ResNet(block, self.blocks, stem_type="deep", stem_width=half, **made)
                )
            network = ConvNeXt(
                depths=self.blocks,
                dims=self.widths,
                num_classes=0,
                ls_init_value=None,
                use_grn=True,
                patch_size=self.stem,
            )
        drop_head(network)
        return network


def _split_size(name: str) -> tuple[str, int]:
    """Split a name into the name without the size of images, and that size."""
    match = re.fullmatch(r"(.+?)_(\d+)", name)
    return (match[1], int(match[2])) if match else (name, 224)


def _list_sizes() -> Iterator[tuple[str, CNNArch]]:
    widths = (64, 128, 256, 512)
    for layers, blocks in {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}.items():
        yield f"resnet{layers}", CNNArch("resnet", blocks, widths)
    for layers, blocks in {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}.items():
        yield f"resnet{layers}", CNNArch("resnet", blocks, widths, bottleneck=True)
    third = {
        "atto": 6,
        "femto": 6,
        "pico": 6,
        "nano": 8,
        "tiny": 9,
        "base": 27,
        "large": 27,
        "huge": 27,
    }
    first = {
        "atto": 40,
        "femto": 48,
        "pico": 64,
        "nano": 80,
        "tiny": 96,
        "base": 128,
        "large": 192,
        "huge": 352,
    }
    for size, count in third.items():
        ends = 2 if count < 9 else 3
        widths = (first[size], 2 * first[size], 4 * first[size], 8 * first[size])
        yield f"convnextv2_{size}", CNNArch("convnextv2", (ends, ends, count, ends), widths)


#: the released shapes (He et al., 2016, table 1; Woo et al., 2023, appendix A.1)
SIZES = dict(_list_sizes())
#: for images of 32 px, with as many blocks as `vit_mini`; written with the images' size, as in
#: resnet_mini_32
SMALL = {
    "resnet_mini": CNNArch("resnet", (1, 2, 2, 1), (24, 48, 96, 192), stem=1),
    "convnextv2_mini": CNNArch("convnextv2", (1, 1, 3, 1), (24, 48, 96, 192), stem=1),
}
NAMED = SIZES | SMALL


def describe(arch: CNNArch) -> Mapping[str, Any]:
    """Return the architecture as plain JSON values for a checkpoint's header;
    `CNNArch(**described)` makes it again."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(arch).items()
    }
