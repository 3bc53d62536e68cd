"""Anchors: the boxes at each place of a level from which proposals are made."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def shape_anchors(
    stride: float, sizes: Sequence[float], ratios: Sequence[float]
) -> Float[Tensor, "anchor 4"]:
    """Return the anchors of one place around the origin.

    For a size s in strides and a ratio r of height to width, w = s · stride / √r and h = r w, so
    that all ratios have one area. The corners are not rounded, as they are in torchvision.

    >>> shape_anchors(4.0, [8.0], [0.25]).tolist()
    [[-32.0, -8.0, 32.0, 8.0]]
    """
    corners = []
    for size in sizes:
        for ratio in ratios:
            width = math.sqrt((size * stride) ** 2 / ratio)
            height = ratio * width
            corners.append([-width / 2, -height / 2, width / 2, height / 2])
    return torch.tensor(corners)


def place_anchors(
    shapes: Float[Tensor, "anchor 4"], stride: float, rows: int, columns: int
) -> Float[Tensor, "place 4"]:
    """Return the anchors of all places of a level, by row, column and shape; the first place is
    at the image's corner, as in detectron2.

    >>> place_anchors(torch.tensor([[-2.0, -1.0, 2.0, 1.0]]), 4.0, 1, 2).tolist()
    [[-2.0, -1.0, 2.0, 1.0], [2.0, -1.0, 6.0, 1.0]]
    """
    y = torch.arange(rows, device=shapes.device, dtype=shapes.dtype) * stride
    x = torch.arange(columns, device=shapes.device, dtype=shapes.dtype) * stride
    places = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).repeat(1, 1, 2)
    return (places.unsqueeze(2) + shapes).flatten(0, 2)
