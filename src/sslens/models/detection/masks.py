"""Masks: what a mask head shall answer in a region, and its answers drawn in an image."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchvision.ops import roi_align

#: how many pixels are made floating point at once, which bounds the memory (64 MB)
_AT_ONCE = 1 << 24
#: several masks are drawn at once where their images together have no more pixels than this
_TOGETHER = 1 << 18
#: the probability from which a pixel is the object's
THRESHOLD = 0.5


def crop_targets(
    masks: Sequence[Bool[Tensor, "_ _ _"]],
    boxes: Float[Tensor, "region 4"],
    images: Int[Tensor, " region"],
    objects: Int[Tensor, " region"],
    side: int,
) -> Bool[Tensor, "region side side"]:
    """Return the part of an object's mask that lies in a region, on a grid: a cell is the object's
    if half of it is, by the mean over bilinear samples of aligned RoIAlign.

    The masks are taken image by image, as each image has its own size, and so many at a time that
    the memory is bounded.

    Args:
        masks: the masks of each image's objects.
        boxes: the regions.
        images: the image of each.
        objects: the number of the object among those of the image.
        side: cells of a region's side.

    >>> mask = torch.tensor([[[True, False], [True, True]]])
    >>> box, zero = torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([0])
    >>> crop_targets([mask], box, zero, zero, 2).int().tolist()
    [[[1, 0], [1, 1]]]
    """
    targets = torch.zeros(len(boxes), side, side, dtype=torch.bool, device=boxes.device)
    for image in images.unique().tolist():
        part = max(1, _AT_ONCE // masks[image][0].numel())
        wanted = (images == image).nonzero()[:, 0]
        for numbers in objects[wanted].unique().split(part):
            chosen = wanted[torch.isin(objects[wanted], numbers)]
            rows = torch.searchsorted(numbers, objects[chosen]).to(boxes.dtype)
            regions = torch.cat([rows.unsqueeze(1), boxes[chosen]], dim=1)
            pixels = masks[image][numbers].unsqueeze(1).to(boxes.dtype)
            cells = roi_align(pixels, regions, side, sampling_ratio=0, aligned=True)
            targets[chosen] = cells[:, 0] >= THRESHOLD
    return targets


def paste(
    masks: Float[Tensor, "detection cell cell"],
    boxes: Float[Tensor, "detection 4"],
    size: tuple[int, int],
) -> Bool[Tensor, "detection row column"]:
    """Draw masks in an image of (height, width).

    A pixel is the object's if the bilinear interpolation of the mask at its centre, with zeros
    outside of the mask, is 0.5 or more. For a mask of n cells and the column j with its centre at
    j + ½, u = n (j + ½ − x0) / (x1 − x0) − ½ is its place among the centres of the cells, cell c
    counts max(0, 1 − |u − c|), and likewise for rows; so the mask is the product
    W_rows M W_columns^T. Only pixels with a centre in the box can be the object's.

    The result has a byte a pixel and detection; for very large images, draw a few at a time. All
    else is bounded.

    >>> mask, box = torch.ones(1, 28, 28), torch.tensor([[1.0, 0.0, 3.0, 2.0]])
    >>> paste(mask, box, (2, 4)).int().tolist()
    [[[0, 1, 1, 0], [0, 1, 1, 0]]]
    """
    height, width = size
    drawn = torch.zeros(len(masks), height, width, dtype=torch.bool, device=masks.device)
    if not len(masks):
        return drawn
    for numbers in torch.arange(len(masks)).split(max(1, _TOGETHER // (height * width))):
        box = boxes[numbers]
        left, top = (max(0, int(edge)) for edge in box[:, :2].amin(dim=0).floor().tolist())
        right, bottom = (int(edge) for edge in box[:, 2:].amax(dim=0).ceil().tolist())
        columns = torch.arange(left, max(left, min(right, width)), device=box.device)
        rows = torch.arange(top, max(top, min(bottom, height)), device=box.device)
        if not len(columns) or not len(rows):
            continue
        across = masks[numbers] @ _weigh(columns, box[:, 0], box[:, 2], masks[numbers]).mT
        for part in rows.split(max(1, _AT_ONCE // len(columns) // len(numbers))):
            pixels = _weigh(part, box[:, 1], box[:, 3], masks[numbers]) @ across
            first, last = int(part[0]), int(part[-1]) + 1
            drawn[numbers, first:last, left : left + len(columns)] = pixels >= THRESHOLD
    return drawn


def _weigh(
    pixels: Int[Tensor, " pixel"],
    start: Float[Tensor, " detection"],
    end: Float[Tensor, " detection"],
    masks: Float[Tensor, "detection cell cell"],
) -> Float[Tensor, "detection pixel cell"]:
    """Return how much each cell counts for each pixel of a row or column."""
    cells = masks.shape[1]
    start, length = start.unsqueeze(1), (end - start).unsqueeze(1)
    places = (pixels + 0.5 - start) / length * cells - 0.5
    distance = (places.unsqueeze(2) - torch.arange(cells, device=masks.device)).abs()
    return (1 - distance).clamp(min=0).to(masks.dtype)
