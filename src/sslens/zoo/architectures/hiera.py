"""Hiera (Ryali et al., 2023) for images: attention in the windows that MAE masks, queries that are
pooled between stages. timm builds it."""

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.zoo.architecture import (
    Architecture,
    Tensors,
    Weights,
    describe_stages,
    find_hidden,
    list_affine,
    list_block,
)
from sslens.zoo.finders import count_blocks, find_root
from sslens.zoo.hints import Hints

if TYPE_CHECKING:
    from torch import nn

TITLE = "Hiera"
PATCHES = "patch_embed.proj.weight"
#: the kernel and the stride in pixels of the layer that makes the tokens
KERNEL, STRIDE = 7, 4
#: heads of the first stage of the released networks, by its width
HEADS = {96: 1, 112: 2, 144: 2, 256: 4}
_WIDER = re.compile(r"blocks\.(\d+)\.proj\.weight")
_SIZES: dict[tuple[int, tuple[int, ...]], str] = {
    (96, (1, 2, 7, 2)): "tiny",
    (96, (1, 2, 11, 2)): "small",
    (96, (2, 3, 16, 3)): "base",
    (112, (2, 3, 16, 3)): "base_plus",
    (144, (2, 6, 36, 4)): "large",
    (256, (2, 6, 36, 4)): "huge",
}


@dataclass(frozen=True)
class HieraShape(Architecture):
    """The architecture of a Hiera for images, of four stages, each twice as wide and with twice as
    many heads as the one before.

    Attributes:
        blocks: the number of blocks of each stage.
        width, heads: of the first stage.
        hidden: the width of the MLPs' inner layer over the width of the stage, a whole number.
        image_size: the side of the images in pixels.
    """

    blocks: tuple[int, ...]
    width: int
    heads: int
    hidden: int = 4
    image_size: int = 224

    @property
    def name(self) -> str | None:
        """The NAME in `random:NAME:SEED` for this shape, or None where it has no name."""
        size = _SIZES.get((self.width, self.blocks))
        usual = self.image_size == 224 and self.hidden == 4 and self.heads == HEADS.get(self.width)
        return f"timm/hiera_{size}_224" if size and usual else None

    def iterate_tensors(self) -> Tensors:
        """Yield the name and the shape of every tensor."""
        yield "pos_embed", (1, (self.image_size // STRIDE) ** 2, self.width)
        yield from list_affine("patch_embed.proj", self.width, 3, KERNEL, KERNEL)
        number, before = 0, self.width
        for stage, count in enumerate(self.blocks):
            width = self.width * 2**stage
            for _ in range(count):
                block = f"blocks.{number}"
                yield from list_block(block, width, self.hidden * width, inputs=before)
                if before != width:
                    yield from list_affine(f"{block}.proj", width, before)
                number, before = number + 1, width

    def empty(self) -> "nn.Module":
        """Build the network without memory for its weights (on the meta device), and without the
        normalisation after the pooling."""
        import torch
        from timm.models.hiera import Hiera

        from sslens.models.sketching import sketch_networks

        with sketch_networks():
            network = Hiera(
                img_size=(self.image_size, self.image_size),
                embed_dim=self.width,
                num_heads=self.heads,
                stages=self.blocks,
                mlp_ratio=float(self.hidden),
                num_classes=0,
                weight_init="skip",
            )
        network.head = torch.nn.Identity()
        return network

    def describe(self) -> str:
        """Describe the architecture in words."""
        channels = self.width * 2 ** (len(self.blocks) - 1)
        return describe_stages(self.name, "Hiera", self.blocks, channels, self.image_size)


SHAPE = HieraShape


def matches(weights: Weights) -> bool:
    """Whether blocks have a layer that makes their input wider."""
    return any(map(_WIDER.fullmatch, weights))


def find(weights: Weights, where: str, heads: int | None, hints: Hints) -> HieraShape:
    """Find the architecture of a Hiera. A block that makes its input wider begins a stage.

    Raises:
        InputError: a Hiera for videos, with other patches or another number of stages than the
            released ones; a width for which the number of heads is not known.
    """
    kernel = weights.get(PATCHES)
    table = weights.get("pos_embed")
    sides = None if kernel is None else tuple(int(side) for side in kernel.shape)
    if sides is None or table is None or sides[1:] != (3, KERNEL, KERNEL) or table.ndim != 3:
        raise InputError(
            f"{where} is a Hiera whose patches are of shape {sides}, or with positions in several"
            " tables: only Hieras for images are read, with [width, 3, 7, 7] and pos_embed."
        )
    side = find_root(int(table.shape[1]))
    total = count_blocks(weights, "blocks.")
    starts = sorted(int(match[1]) for match in map(_WIDER.fullmatch, weights) if match)
    ends = [0, *starts, total]
    blocks = tuple(end - start for start, end in itertools.pairwise(ends))
    if side is None or len(blocks) != 4 or min(blocks) < 1:
        raise InputError(
            f"{where} is a Hiera of {spell_count(len(blocks), 'stage')}, or for images that are no"
            " squares: only four stages and square images are read."
        )
    width = sides[0]
    count = heads or hints.heads or HEADS.get(width)
    if count is None or width % count:
        raise InputError(
            f"{where} is a Hiera of width {width}, whose number of heads no file tells",
            mend="give the first stage's as {num_heads}",
        )
    hidden = find_hidden(weights, where) // width
    return HieraShape(blocks, width, count, hidden, side * STRIDE)
