"""Backbones for detection that are tuned end to end: a loaded model as a trainable network from
images to the maps that a feature pyramid is built on."""

import copy
import math
from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float
from timm.models.convnext import ConvNeXt
from timm.models.resnet import ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.models.backbone import Backbone
from sslens.models.pyramid import Pyramid, StagePyramid
from sslens.models.windowed import WindowedViT, cut_patches, require_plain, spread_global_blocks

#: the side of a window in patches at most: the grid of pre-training at 224 px in patches of 16 px
WINDOW = 14


@final
class DetectionBackbone(nn.Module):
    """A network from images to maps: of some blocks of a `WindowedViT`, concatenated, or of the
    four stages of a CNN.

    The batch normalisations of a CNN are frozen, statistics and parameters, as in detectron2; all
    else can be trained (detectron2 freezes a ResNet's first layers too).

    Args:
        network: the network.
        blocks: the numbers from 0 of the Vision Transformer's blocks; empty for a CNN.

    Attributes:
        dims: the number of channels of each map.
        stride: the side in pixels of one place of the first map.
    """

    def __init__(self, network: WindowedViT | ResNet | ConvNeXt, blocks: Sequence[int]) -> None:
        super().__init__()
        self.network, self.blocks = network, tuple(blocks)
        if isinstance(network, WindowedViT):
            self.dims: tuple[int, ...] = (network.embed_dim * len(self.blocks),)
            self.stride = network.patch_size
        else:
            stages = network.feature_info[-4:]
            self.dims = tuple(int(stage["num_chs"]) for stage in stages)
            self.stride = _find_stride(network)
        for norm in _batch_norms(network):
            norm.requires_grad_(False)

    def forward(
        self, images: Float[Tensor, "image 3 height width"]
    ) -> Float[Tensor, "image dim row column"] | list[Float[Tensor, "image _ _ _"]]:
        """Compute the map of a Vision Transformer, or the list of a CNN's four maps.

        Raises:
            InputError: a Vision Transformer's patches do not divide the images.
        """
        if isinstance(self.network, WindowedViT):
            return torch.cat(self.network.maps(images, self.blocks), dim=1)
        return compute_stages(self.network, images)

    def make_pyramid(self, channels: int = 256) -> Pyramid | StagePyramid:
        """Build the pyramid that takes what `forward` returns."""
        if isinstance(self.network, WindowedViT):
            return Pyramid(self.dims[0], self.stride, channels)
        return StagePyramid(self.dims, self.stride, channels)

    def train(self, mode: bool = True) -> "DetectionBackbone":
        """Set the mode of training; batch normalisations stay in that of evaluation."""
        super().train(mode)
        for norm in _batch_norms(self):
            norm.eval()
        return self


def make_backbone(
    model: Backbone,
    size: int | tuple[int, int],
    *,
    blocks: Sequence[int] | None = None,
    window: int | None = None,
    global_blocks: Sequence[int] | None = None,
    relative: bool = True,
) -> DetectionBackbone:
    """Copy a model's network into a `DetectionBackbone` that can be tuned end to end.

    Unless asked otherwise it is ViTDet's (Li et al., 2022, arXiv:2203.16527): windows but for four
    global blocks, and relative positions that begin at zero.

    Args:
        model: a plain Vision Transformer or a CNN; it stays as it is.
        size: the side, or height and width, of the images in pixels, for which tables are made; the
            network takes others too.
        blocks: the blocks to concatenate, from 0, or negative from the end; the last unless given.
            A CNN takes none and gives the maps of its four stages.
        window: the side of a window in patches, 0 for none; unless given the grid of pre-training,
            at most 14.
        global_blocks: the blocks without windows; unless given the last of each quarter of them.
        relative: whether attention has relative positions.

    Raises:
        InputError: the model has no maps, is a transformer of another kind, has no such blocks, or
            its patches do not divide the images.

    >>> import sslens
    >>> model = sslens.load("random:vit_nano_patch8_32")
    >>> backbone = make_backbone(model, 64, blocks=[1, -1])
    >>> images = torch.zeros(2, 3, 64, 64)
    >>> backbone(images).shape, backbone.stride
    (torch.Size([2, 128, 8, 8]), 8)
    """
    network = model.network
    if isinstance(network, ResNet | ConvNeXt):
        _require_no_blocks(model.name, blocks, window, global_blocks)
        return DetectionBackbone(copy.deepcopy(network).requires_grad_(True), ())
    if not isinstance(network, VisionTransformer):
        raise InputError(
            f"{model.name} is a {type(network).__name__}, which cannot be tuned end to end for"
            " detection: plain Vision Transformers, ResNets and ConvNeXts can. Use it frozen where"
            " it has maps of patches."
        )
    require_plain(network)
    count, patch = len(network.blocks), network.patch_embed.patch_size[0]
    taken = number_blocks((-1,) if blocks is None else blocks, count, model.name)
    wide = spread_global_blocks(count) if global_blocks is None else global_blocks
    height, width = (size, size) if isinstance(size, int) else size
    side = min(WINDOW, network.patch_embed.grid_size[0]) if window is None else window
    windowed = WindowedViT(
        copy.deepcopy(network),
        window=side,
        global_blocks=number_blocks(wide, count, model.name) if wide else (),
        grid=cut_patches(height, width, patch),
        relative=relative,
    )
    return DetectionBackbone(windowed, taken)


def _require_no_blocks(name: str, *given: int | Sequence[int] | None) -> None:
    if any(given):
        raise InputError(
            f"{name} is a convolutional network, of which the four stages are taken: leave blocks"
            " and windows out."
        )


def number_blocks(blocks: Sequence[int], count: int, name: str) -> tuple[int, ...]:
    """Return the numbers of blocks from 0, in the order given; negative numbers count from the end.

    Args:
        blocks: the numbers.
        count: how many blocks the model has.
        name: the model, for messages.

    Raises:
        InputError: no number, a number twice, or a block that is not there.

    >>> number_blocks([-1, 8], 12, "mae")
    (11, 8)
    """
    outside = [block for block in blocks if not -count <= block < count]
    if outside:
        raise InputError(
            f"{name} has {spell_count(count, 'block')}, 0 to {count - 1}, and no block"
            f" {outside[0]}.",
            mend="give other {blocks}",
        )
    numbers = tuple(block % count for block in blocks)
    if not numbers or len(set(numbers)) < len(numbers):
        raise InputError(
            f"The blocks of {name} to be used are {list(blocks)}: name one or more, each once.",
            mend="give other {blocks}",
        )
    return numbers


def compute_stages(
    network: ResNet | ConvNeXt, images: Float[Tensor, "image 3 height width"]
) -> list[Float[Tensor, "image _ _ _"]]:
    """Compute the maps after the four stages of a CNN, the finest first."""
    if isinstance(network, ConvNeXt):
        x, stages = network.stem(images), list(network.stages)
    else:
        x = network.maxpool(network.act1(network.bn1(network.conv1(images))))
        stages = [network.get_submodule(f"layer{i}") for i in range(1, 5)]
    maps = []
    for stage in stages:
        x = stage(x)
        maps.append(x)
    return maps


def _batch_norms(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def _find_stride(network: ResNet | ConvNeXt) -> int:
    """The side in pixels of one place of the first stage's map: the product of the strides before
    it."""
    resnet = isinstance(network, ResNet)
    before = [network.conv1, network.maxpool] if resnet else [network.stem]
    layers = [layer for part in before for layer in part.modules() if hasattr(layer, "stride")]
    strides = [layer.stride for layer in layers]
    return math.prod(one if isinstance(one, int) else int(one[0]) for one in strides)
