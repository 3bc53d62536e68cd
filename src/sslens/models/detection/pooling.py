"""RoIAlign: on a CPU two matrix products for each region, with the numbers of torchvision's."""

from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchvision.ops import roi_align

from sslens.models.detection.boxes import widen

#: the places of a map up to which the products are faster than torchvision's samples one by one:
#: the products' work grows with the map, and the samples' with the region
_PLACES = 64**2
#: numbers between the two products, which then stay in a core's cache (2 MB in float32)
_BETWEEN = 1 << 19


def pool(
    features: Float[Tensor, "image channel row column"],
    boxes: Float[Tensor, "region 4"],
    images: Int[Tensor, " region"],
    cells: int,
) -> Float[Tensor, "region cell cell channel"]:
    """Average the features in each cell of regions by aligned RoIAlign (He et al., 2017,
    arXiv:1703.06870).

    A cell is the mean over ⌈side / cells⌉ samples along each side, and a sample is the bilinear
    interpolation of the four places around it. Both are linear and separate by rows and columns,
    so that a region of the map F is Y F Xᵀ, with the weights Y and X [cell place] of
    `weigh_places`. That is what is computed on a CPU and a small map; elsewhere it is torchvision's
    `roi_align`, in float32 or a wider type too.

    Args:
        features: the maps of all images.
        boxes: the regions, in places of the map.
        images: the image of each.
        cells: cells of a region's side.

    >>> ramp = torch.arange(8.0).expand(1, 1, 8, 8)  # the column
    >>> box, image = torch.tensor([[2.0, 0.0, 6.0, 4.0]]), torch.tensor([0])
    >>> pool(ramp, box, image, 2)[0, :, :, 0]  # of column j the centre is at j + ½
    tensor([[2.5000, 4.5000],
            [2.5000, 4.5000]])
    """
    rows, columns = features.shape[2:]
    boxes = boxes.to(torch.promote_types(features.dtype, torch.float32))
    if features.device.type == "cpu" and rows * columns <= _PLACES:
        down = weigh_places(boxes[:, 1], boxes[:, 3], cells, rows)
        across = weigh_places(boxes[:, 0], boxes[:, 2], cells, columns)
        pooled: Tensor = _Products.apply(features, down, across, images)
        return pooled
    rois = torch.cat([images.to(boxes.dtype).unsqueeze(1), boxes], dim=1)
    pooled = roi_align(widen(features), rois, cells, 1.0, sampling_ratio=0, aligned=True)
    return pooled.permute(0, 2, 3, 1).to(features.dtype)


@final
class _Products(torch.autograd.Function):
    """Y F Xᵀ of each region, of a few regions of an image at a time; no gradient reaches the
    weights."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, down: Tensor, across: Tensor, images: Tensor) -> Tensor:
        ctx.save_for_backward(down, across, images)
        ctx.shape, ctx.dtype = features.shape, features.dtype
        channels, rows, columns = features.shape[1:]
        cells = down.shape[1]
        maps = widen(features.permute(0, 2, 3, 1)).reshape(-1, rows, columns * channels)
        pooled = features.new_empty(len(images), cells, cells, channels)
        with torch.autocast("cpu", enabled=False):
            for image, own in _group(images, _BETWEEN // (cells * columns * channels)):
                lines = down[own].flatten(0, 1) @ maps[image]
                lines = lines.view(-1, cells, columns, channels)
                parts = across[own].unsqueeze(1) @ lines
                pooled.index_copy_(0, own, parts.to(pooled.dtype))
        return pooled

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        down, across, images = ctx.saved_tensors
        count, channels, rows, columns = ctx.shape
        maps = down.new_zeros(count, rows, columns * channels)
        with torch.autocast("cpu", enabled=False):
            for image, own in _group(images, _BETWEEN // (down.shape[1] * columns * channels)):
                parts = gradient.index_select(0, own).to(down.dtype)
                lines = across[own].mT.unsqueeze(1) @ parts
                lines = lines.view(-1, columns * channels)
                maps[image].addmm_(down[own].flatten(0, 1).T, lines)
        maps = maps.view(count, rows, columns, channels).permute(0, 3, 1, 2)
        return maps.to(ctx.dtype), None, None, None


def _group(images: Int[Tensor, " region"], most: int) -> list[tuple[int, Tensor]]:
    """Return the numbers of the regions of each image, so many at a time, with the image."""
    present, counts = images.unique(return_counts=True)
    of_images = images.argsort(stable=True).split(counts.tolist())
    return [
        (image, own)
        for image, regions in zip(present.tolist(), of_images, strict=True)
        for own in regions.split(max(1, most))
    ]


@torch.no_grad()
def weigh_places(
    start: Float[Tensor, " region"], end: Float[Tensor, " region"], cells: int, places: int
) -> Float[Tensor, "region cell place"]:
    """Return how much each place of a row or column of a map counts for each cell of regions.

    With n cells of width w = (end − start) / n, cell i has g = ⌈w⌉ samples, at start + (i + (s +
    ½) / g) w − ½ for s = 0, …, g − 1, as the centre of place p lies at p + ½. A sample beyond the
    outermost centres by up to one place counts as the outermost, and one further out as zero.

    >>> start, end = torch.tensor([0.5]), torch.tensor([2.5])
    >>> weigh_places(start, end, 1, 4)  # samples at ½ and 1½
    tensor([[[0.2500, 0.5000, 0.2500, 0.0000]]])
    """
    width = ((end - start) / cells).view(-1, 1, 1)
    samples = width.ceil()
    numbers = torch.arange(int(samples.max()) if len(samples) else 0, device=start.device)
    cell = torch.arange(cells, device=start.device).view(-1, 1)
    counted, samples = numbers < samples, samples.clamp(min=1)
    at = (start - 0.5).view(-1, 1, 1) + cell * width + (numbers + 0.5) * width / samples
    share = (counted & (at >= -1) & (at <= places)) / samples
    at = at.clamp(0, places - 1)
    lower = at.floor()
    upper = at - lower
    weights = start.new_zeros(len(start), cells, places)
    weights.scatter_add_(2, lower.long(), share * (1 - upper))
    return weights.scatter_add_(2, (lower.long() + 1).clamp(max=places - 1), share * upper)
