"""The heads that look at regions: which class each is, where its box is, and which of its pixels
are the object's."""

from collections.abc import Mapping
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from sslens.models.channel_norm import ConvNorm
from sslens.models.detection.boxes import widen
from sslens.models.detection.pooling import pool
from sslens.models.detection.settings import HeadSettings
from sslens.models.doubling import Doubling, arrange

#: cells of a region's side for the box head and for the mask head, which doubles them
BOX_CELLS, MASK_CELLS = 7, 14
#: the side of a region, in strides of the finest level, that is looked at two levels above it:
#: 224 px where strides begin at 4 px
_CANONICAL = 56


def align(
    levels: Mapping[float, Float[Tensor, "image channel _ _"]],
    boxes: Float[Tensor, "region 4"],
    images: Int[Tensor, " region"],
    cells: int,
) -> Float[Tensor, "region channel cell cell"]:
    """Pool the features of each region from the level that fits its size.

    With s the side of a square of the region's area and s_1 the finest stride, the level is
    k = ⌊2 + log2(s / 56 s_1)⌋, counted from the finest and kept among those there are (Lin et al.,
    2017, arXiv:1612.03144, equation 1). There RoIAlign (He et al., 2017, arXiv:1703.06870) averages
    bilinear samples of each cell, ⌈side / cells⌉² of them, with places at the centres of pixels
    (torchvision's Mask R-CNN takes 2 × 2 and shifts them by half a place).

    Args:
        levels: the levels by their strides in pixels, from the finest.
        boxes: the regions, in pixels.
        images: the image of each.
        cells: cells of a region's side.

    >>> pooled = align({4.0: torch.ones(1, 2, 8, 8)}, torch.tensor([[4.0, 4.0, 18.0, 18.0]]),
    ...                torch.tensor([0]), 7)
    >>> tuple(pooled.shape), pooled.unique().tolist()
    ((1, 2, 7, 7), [1.0])
    """
    strides = list(levels)
    sides = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).sqrt()
    level = (2 + (sides / (_CANONICAL * strides[0]) + 1e-8).log2()).floor()
    level = level.clamp(0, len(strides) - 1)
    numbers, pooled = [], []
    for k, (stride, features) in enumerate(levels.items()):
        chosen = (level == k).nonzero()[:, 0]
        numbers.append(chosen)
        pooled.append(pool(features, boxes[chosen] / stride, images[chosen], cells))
    parts = torch.cat(pooled)
    ordered = torch.empty_like(parts).index_copy_(0, torch.cat(numbers), parts)
    return ordered.permute(0, 3, 1, 2)


@final
class BoxHead(nn.Module):
    """3 × 3 convolutions with norm and ReLU, and one fully connected layer with ReLU."""

    def __init__(self, settings: HeadSettings) -> None:
        super().__init__()
        self.convolutions = settings.box_convolutions
        _add_convolutions(self, "conv", settings.channels, self.convolutions)
        self.fc1 = nn.Linear(settings.channels * BOX_CELLS**2, settings.hidden)
        nn.init.kaiming_uniform_(self.fc1.weight, a=1)
        nn.init.zeros_(self.fc1.bias)

    def forward(
        self, x: Float[Tensor, "region channel cell cell"]
    ) -> Float[Tensor, "region hidden"]:
        """Return a vector for each region."""
        x = _convolve(self, "conv", x, self.convolutions).permute(0, 2, 3, 1)
        # the channels are last in memory: it is less to reorder the weights than the regions
        weight = self.fc1.weight.unflatten(1, (-1, *x.shape[1:3])).permute(0, 2, 3, 1)
        return _rectify(F.linear(x.flatten(1), weight.flatten(1), self.fc1.bias))


@final
class BoxPredictor(nn.Module):
    """The logits of the classes, the background last, and a box's code for each class."""

    def __init__(self, hidden: int, classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(hidden, classes + 1)
        self.bbox_pred = nn.Linear(hidden, 4 * classes)
        for layer, deviation in ((self.cls_score, 0.01), (self.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=deviation)
            nn.init.zeros_(layer.bias)

    def forward(
        self, x: Float[Tensor, "region hidden"]
    ) -> tuple[Float[Tensor, "region logit"], Float[Tensor, "region class 4"]]:
        """Return logits and codes."""
        return widen(self.cls_score(x)), widen(self.bbox_pred(x)).unflatten(1, (-1, 4))


@final
class MaskHead(nn.Module):
    """3 × 3 convolutions with norm and ReLU, a deconvolution with ReLU that doubles the cells, and
    a mask for each class."""

    def __init__(self, settings: HeadSettings, classes: int) -> None:
        super().__init__()
        channels, self.convolutions = settings.channels, settings.mask_convolutions
        _add_convolutions(self, "mask_fcn", channels, self.convolutions)
        self.deconv = Doubling(channels, channels)
        nn.init.kaiming_normal_(self.deconv.weight, mode="fan_out", nonlinearity="relu")
        self.predictor = nn.Conv2d(channels, classes, 1)
        nn.init.normal_(self.predictor.weight, std=0.001)
        for name, parameter in self.named_parameters():
            if name in ("deconv.bias", "predictor.bias"):
                nn.init.zeros_(parameter)

    def forward(
        self, x: Float[Tensor, "region channel cell cell"], labels: Int[Tensor, " region"]
    ) -> Float[Tensor, "region double double"]:
        """Return the logits of each region's mask for its own class; those of other classes are
        not computed."""
        x = _rectify(self.deconv.quarter(_convolve(self, "mask_fcn", x, self.convolutions)))
        weights, biases = (parameter[labels] for parameter in self.predictor.parameters())
        logits = x.flatten(1, 4) @ weights.flatten(1).to(x.dtype).unsqueeze(2)
        logits = arrange(logits.view(*x.shape[:5], 1))[:, 0]
        return widen(logits) + biases.view(-1, 1, 1)


def _add_convolutions(head: nn.Module, name: str, channels: int, count: int) -> None:
    for number in range(1, count + 1):
        layer = ConvNorm(channels, channels, 3)
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        head.add_module(f"{name}{number}", layer)


def _convolve(
    head: nn.Module, name: str, x: Float[Tensor, "region channel cell cell"], count: int
) -> Float[Tensor, "region channel cell cell"]:
    for number in range(1, count + 1):
        x = _rectify(head.get_submodule(f"{name}{number}")(x))
    return x


def _rectify(x: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """ReLU, in place where no gradient is wanted: the features of 1,000 regions are 50 MB."""
    return F.relu(x, inplace=not x.requires_grad)
