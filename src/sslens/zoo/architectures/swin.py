"""Swin Transformers (Liu et al., 2021), of the first version: attention in windows, which are
shifted in every second block. timm builds them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sslens.errors import InputError
from sslens.zoo.architecture import (
    Architecture,
    Tensors,
    Weights,
    describe_stages,
    list_affine,
    list_block,
)
from sslens.zoo.finders import count_blocks, find_patches, find_root
from sslens.zoo.hints import Hints

if TYPE_CHECKING:
    from torch import nn

TITLE = "a Swin Transformer"
_TABLE = "layers.{}.blocks.{}.attn.relative_position_bias_table"
_SIZES: dict[tuple[int, tuple[int, ...]], str] = {
    (96, (2, 2, 6, 2)): "tiny",
    (96, (2, 2, 18, 2)): "small",
    (128, (2, 2, 18, 2)): "base",
    (192, (2, 2, 18, 2)): "large",
}


@dataclass(frozen=True)
class SwinShape(Architecture):
    """The architecture of a Swin Transformer. A stage is twice as wide as the one before it, and
    its maps are half as large.

    Attributes:
        blocks: the number of blocks of each stage.
        stage_heads: the number of attention heads of each stage.
        windows: the side of the windows of each stage, in tokens.
        width: of the first stage.
        hidden: the width of the MLPs' inner layer over the width of the stage, a whole number.
        patch_size: the side of a patch in pixels.
        image_size: the side of the images in pixels.
        qkv_bias: whether queries, keys and values have a bias.
    """

    blocks: tuple[int, ...]
    stage_heads: tuple[int, ...]
    windows: tuple[int, ...]
    width: int
    hidden: int = 4
    patch_size: int = 4
    image_size: int = 224
    qkv_bias: bool = True

    @property
    def name(self) -> str | None:
        """The NAME in `random:NAME:SEED` for this shape, or None where it has no name."""
        size = _SIZES.get((self.width, self.blocks))
        heads = tuple(self.width // 32 * 2**i for i in range(len(self.blocks)))
        usual = self.windows == (7,) * 4 and self.image_size == 224 and self.stage_heads == heads
        plain = usual and self.patch_size == 4 and self.hidden == 4 and self.qkv_bias
        return f"timm/swin_{size}_patch4_window7_224" if size and plain else None

    def iterate_tensors(self) -> Tensors:
        """Yield the name and the shape of every tensor."""
        width = self.width
        yield from list_affine("patch_embed.proj", width, 3, self.patch_size, self.patch_size)
        yield from list_affine("patch_embed.norm", width)
        for stage, count in enumerate(self.blocks):
            if stage:
                merged = f"layers.{stage}.downsample"
                yield from list_affine(f"{merged}.norm", 4 * width)
                yield from list_affine(f"{merged}.reduction", 2 * width, 4 * width, bias=False)
                width *= 2
            rows = (2 * self.windows[stage] - 1) ** 2
            for i in range(count):
                block = f"layers.{stage}.blocks.{i}"
                yield from list_block(block, width, self.hidden * width, qkv_bias=self.qkv_bias)
                yield _TABLE.format(stage, i), (rows, self.stage_heads[stage])
        yield from list_affine("norm", width)

    def empty(self) -> "nn.Module":
        """Build the network without memory for its weights (on the meta device)."""
        import torch
        from timm.models.swin_transformer import SwinTransformer, SwinTransformerBlock

        from sslens.models.sketching import sketch_networks
        from sslens.zoo.tables import fill_tables

        with sketch_networks():
            network = SwinTransformer(
                img_size=self.image_size,
                patch_size=self.patch_size,
                num_classes=0,
                embed_dim=self.width,
                depths=self.blocks,
                num_heads=self.stage_heads,
                window_size=self.windows,
                mlp_ratio=float(self.hidden),
                qkv_bias=self.qkv_bias,
                weight_init="skip",
            )
        fill_tables(network)
        # which blocks of timm make where their weights are
        place = {"device": torch.device("cpu"), "dtype": torch.float32}
        for block in network.modules():
            if isinstance(block, SwinTransformerBlock):
                block.register_buffer("attn_mask", block.get_attn_mask(**place), persistent=False)
        return network

    def describe(self) -> str:
        """Describe the architecture in words.

        >>> SwinShape((2, 2, 6, 2), (3, 6, 12, 24), (7, 7, 7, 7), 96).describe().split(",")[0]
        'timm/swin_tiny_patch4_window7_224: stages of 2'
        """
        channels = self.width * 2 ** (len(self.blocks) - 1)
        sides = sorted(set(self.windows), reverse=True)
        return (
            describe_stages(self.name, "Swin", self.blocks, channels, self.image_size)
            + f", windows of {' and '.join(map(str, sides))} tokens"
        )


SHAPE = SwinShape


def matches(weights: Weights) -> bool:
    """Whether the first stage has a table of relative positions."""
    return _TABLE.format(0, 0) in weights


def find(weights: Weights, where: str, heads: int | None, hints: Hints) -> SwinShape:
    """Find the architecture of a Swin Transformer. Its tables tell windows and heads: for windows
    of w × w tokens they have (2w − 1)² rows, and a column for each head. In the last stage one
    window covers the whole image, as in all networks that were released.

    Raises:
        InputError: the shapes make no such network, or a number of heads was asked for.
    """
    if heads is not None:
        raise InputError(
            f"{where} is a Swin Transformer, with tables of relative positions that tell its"
            " numbers of heads: leave num_heads out."
        )
    stages = count_blocks(weights, "layers.")
    width, patch = find_patches(weights, where)
    tables = [weights[_TABLE.format(stage, 0)] for stage in range(stages)]
    sides = [find_root(int(table.shape[0])) for table in tables]
    if any(side is None or side % 2 == 0 for side in sides):
        raise InputError(
            f"{where} is a Swin Transformer whose windows are no squares: only square ones are"
            " read."
        )
    windows = tuple(((side or 0) + 1) // 2 for side in sides)
    whole = patch * 2 ** (stages - 1) * windows[-1]
    side = hints.image_size or whole
    if any(side < patch * 2**stage * window for stage, window in enumerate(windows)):
        raise InputError(
            f"{where} is a Swin Transformer whose windows are larger than the maps of images of"
            f" {side} px, which a file beside it says: they are for {whole} px or more."
        )
    first = "layers.0.blocks.0"
    return SwinShape(
        tuple(count_blocks(weights, f"layers.{stage}.blocks.") for stage in range(stages)),
        tuple(int(table.shape[1]) for table in tables),
        windows,
        width=width,
        hidden=int(weights[f"{first}.mlp.fc1.weight"].shape[0]) // width,
        patch_size=patch,
        image_size=side,
        qkv_bias=f"{first}.attn.qkv.bias" in weights,
    )
