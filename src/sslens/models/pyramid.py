"""Feature pyramids for detection: from one map of a plain Vision Transformer, or from the stages of
a CNN."""

from collections.abc import Sequence
from typing import final

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.models.channel_norm import ChannelNorm, ConvNorm
from sslens.models.doubling import Doubling

#: the levels, and the factor by which each is finer than the map that the pyramid is built on
FACTORS = {"p2": 4.0, "p3": 2.0, "p4": 1.0, "p5": 0.5, "p6": 0.25}
#: the levels that have layers of their own; p6 is every other place of p5
BUILT = ("p2", "p3", "p4", "p5")

Levels = dict[str, Float[Tensor, "image channel _ _"]]


@final
class Pyramid(nn.Module):
    """The simple feature pyramid of ViTDet on one map (Li et al., 2022, arXiv:2203.16527, section
    3).

    | level | before the two convolutions |
    |---|---|
    | p2 | deconvolution 2 × 2 (dim → dim / 2), norm, GELU, deconvolution 2 × 2 (→ dim / 4) |
    | p3 | deconvolution 2 × 2 (dim → dim / 2) |
    | p4 | the map itself |
    | p5 | the maximum of each 2 × 2 places |

    Each then passes a 1 × 1 and a 3 × 3 convolution, without bias and each followed by
    `ChannelNorm`; p6 is every other row and column of p5. Deconvolutions have a bias.

    Differences from detectron2's SimpleFeaturePyramid:

    - A level is named by its factor to the map, so that p4 is the map's grid for every patch size.
      detectron2 names it by log2 of its stride, which is the same for patches of 16 px only.
    - The map may have any patch size, and odd numbers of rows and columns, of which p5 leaves out
      the last. detectron2 pads images to a multiple of p5's stride (`multiple` here).
    - Parameters are called `p2.0.weight`, … where detectron2's are `simfp_2.0.weight`, …

    Args:
        dim: the number of channels of the map: the width of the backbone, times the number of
            blocks where several are concatenated.
        stride: the side in pixels of the part of an image for which one place of the map stands:
            the patch size.
        channels: the number of channels of each level.

    Attributes:
        channels: the number of channels of each level.
        strides: the side in pixels of one place, for each level.
        multiple: image sides that are a multiple of so many pixels lose no place at p5.

    Raises:
        InputError: the width is no multiple of 4, so that p2 cannot have a quarter of it.

    >>> import torch
    >>> pyramid = Pyramid(dim=16, stride=8, channels=6)
    >>> levels = pyramid(torch.zeros(2, 16, 4, 6))
    >>> {name: tuple(level.shape[1:]) for name, level in levels.items()}
    {'p2': (6, 16, 24), 'p3': (6, 8, 12), 'p4': (6, 4, 6), 'p5': (6, 2, 3), 'p6': (6, 1, 2)}
    >>> pyramid.strides["p2"], pyramid.strides["p6"], pyramid.multiple
    (2.0, 32.0, 16)
    """

    def __init__(self, dim: int, stride: int, channels: int = 256) -> None:
        super().__init__()
        if dim < 4 or dim % 4:
            raise InputError(
                f"A pyramid on a map of {dim} channels has no quarter of them at its finest level:"
                " expected a multiple of 4."
            )
        self.dim, self.channels, self.multiple = dim, channels, 2 * stride
        self.strides = {name: stride / factor for name, factor in FACTORS.items()}
        half, quarter = dim // 2, dim // 4

        def smooth(inputs: int) -> list[nn.Module]:
            return [ConvNorm(inputs, channels, 1), ConvNorm(channels, channels, 3)]

        finest = [Doubling(dim, half), ChannelNorm(half), nn.GELU(), Doubling(half, quarter)]
        self.p2 = nn.Sequential(*finest, *smooth(quarter))
        self.p3 = nn.Sequential(Doubling(dim, half), *smooth(half))
        self.p4 = nn.Sequential(*smooth(dim))
        self.p5 = nn.Sequential(nn.MaxPool2d(2), *smooth(dim))

    def forward(self, x: Float[Tensor, "image dim row column"]) -> Levels:
        """Compute the levels from the finest to the coarsest.

        Raises:
            InputError: the map has another number of channels, or less than 2 × 2 places.
        """
        _require_map(x, self.dim)
        levels = {name: self.get_submodule(name)(x) for name in BUILT}
        return levels | {"p6": halve(levels["p5"])}


@final
class StagePyramid(nn.Module):
    """The feature pyramid network on the four stages of a CNN (Lin et al., 2017, arXiv:1612.03144,
    section 3).

    With the stages' maps C_2, …, C_5, each half as fine as the one before,

    M_5 = lateral_5(C_5);  M_i = lateral_i(C_i) + up(M_{i+1});  p_i = output_i(M_i)

    where `lateral` is a 1 × 1 and `output` a 3 × 3 convolution, each without bias and followed by
    `ChannelNorm` as in `Pyramid`, and `up` repeats each place 2 × 2 times; p6 is every other row
    and column of p5. Convolutions begin Xavier-uniform by their inputs, as detectron2's.

    Differences from detectron2's FPN with norm="LN":

    - Maps may have odd numbers of rows and columns; `up` then takes the nearest place above.
    - Parameters are called `lateral.p2.weight`, … where detectron2's are `fpn_lateral2.weight`, …

    Args:
        dims: the number of channels of each of the four stages.
        stride: the side in pixels of one place of the first stage's map.
        channels: the number of channels of each level.

    Attributes:
        channels: the number of channels of each level.
        strides: the side in pixels of one place, for each level.
        multiple: image sides that are a multiple of so many pixels lose no place at any level.

    Raises:
        InputError: there are not four stages.

    >>> import torch
    >>> pyramid = StagePyramid([8, 16, 32, 64], stride=4, channels=6)
    >>> maps = [torch.zeros(1, 8 * 2**i, 16 // 2**i, 16 // 2**i) for i in range(4)]
    >>> {name: tuple(level.shape[1:]) for name, level in pyramid(maps).items()}
    {'p2': (6, 16, 16), 'p3': (6, 8, 8), 'p4': (6, 4, 4), 'p5': (6, 2, 2), 'p6': (6, 1, 1)}
    """

    def __init__(self, dims: Sequence[int], stride: int, channels: int = 256) -> None:
        super().__init__()
        if len(dims) != len(BUILT):
            raise InputError(
                f"A pyramid on the stages of a CNN needs four of them, and there are {len(dims)}."
            )
        self.channels, self.multiple = channels, 8 * stride
        self.strides = {name: float(stride * 2**i) for i, name in enumerate(FACTORS)}
        self.lateral = nn.ModuleDict(
            {name: ConvNorm(dim, channels, 1) for name, dim in zip(BUILT, dims, strict=True)}
        )
        self.output = nn.ModuleDict({name: ConvNorm(channels, channels, 3) for name in BUILT})
        for module in self.modules():
            if isinstance(module, ConvNorm):
                nn.init.kaiming_uniform_(module.weight, a=1)

    def forward(self, maps: Sequence[Float[Tensor, "image _ _ _"]]) -> Levels:
        """Compute the levels from the finest to the coarsest from the maps of the four stages."""
        levels: dict[str, Tensor] = {}
        above: Tensor | None = None
        for name, x in reversed(list(zip(BUILT, maps, strict=True))):
            merged = self.lateral[name](x)
            if above is not None:
                merged = merged + F.interpolate(above, size=merged.shape[2:], mode="nearest")
            levels[name] = self.output[name](merged)
            above = merged
        return {name: levels[name] for name in BUILT} | {"p6": halve(levels["p5"])}


def halve(x: Float[Tensor, "image channel row column"]) -> Float[Tensor, "image channel _ _"]:
    """Return every other row and column, from the first."""
    return x[:, :, ::2, ::2]


def _require_map(x: Tensor, dim: int) -> None:
    if x.shape[1] != dim:
        raise InputError(
            f"The pyramid is for maps of {spell_count(dim, 'channel')}, and this one has"
            f" {x.shape[1]}: blocks that are concatenated count with the width of each."
        )
    if min(x.shape[2:]) < 2:
        raise InputError(
            f"A map of {x.shape[2]} × {x.shape[3]} places has no level half as fine: give images of"
            " two patches or more along each side."
        )
