"""Boxes: their overlap, how one is coded relative to another, and suppression of near copies.

A box is (x0, y0, x1, y1) in pixels, where a pixel's centre is at half: a box around the pixels
a to b of a row is from a to b + 1.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchvision.ops import nms

#: the largest logarithm of a box's growth: 1000 / 16, as in Detectron
LARGEST_GROWTH = math.log(1000 / 16)


def widen(x: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Return a tensor in float32 or a wider type: boxes and losses are not computed in half
    precision.

    >>> widen(torch.zeros(1, dtype=torch.bfloat16)).dtype, widen(torch.zeros(1).double()).dtype
    (torch.float32, torch.float64)
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


def areas(boxes: Float[Tensor, "*box 4"]) -> Float[Tensor, "*box"]:
    """Return the areas of boxes.

    >>> areas(torch.tensor([0.0, 0.0, 2.0, 3.0])).item()
    6.0
    """
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def overlaps(
    a: Float[Tensor, "#image m 4"],
    b: Float[Tensor, "#image n 4"],
    room: Float[Tensor, "3 image m n"] | None = None,
) -> Float[Tensor, "image m n"]:
    """Compute the intersection over union of each of m boxes with each of n boxes of an image; 0
    where they do not meet.

    Args:
        a: boxes of each image, or of all alike.
        b: others.
        room: where all is computed; the result is the first part of it. Without it, room is made.

    >>> a, b = torch.tensor([[[0.0, 0.0, 2.0, 2.0]]]), torch.tensor([[[1.0, 0.0, 3.0, 2.0]]])
    >>> round(overlaps(a, b).item(), 4)
    0.3333
    """
    if room is None:
        room = a.new_empty(3, max(len(a), len(b)), a.shape[1], b.shape[1])
    shared, side, edge = room
    left, top, right, bottom = a.unsqueeze(2).unbind(3)
    x0, y0, x1, y1 = b.unsqueeze(1).unbind(3)
    torch.minimum(right, x1, out=shared).sub_(torch.maximum(left, x0, out=edge)).clamp_(min=0)
    torch.minimum(bottom, y1, out=side).sub_(torch.maximum(top, y0, out=edge)).clamp_(min=0)
    shared.mul_(side)
    union = torch.add(areas(a).unsqueeze(2), areas(b).unsqueeze(1), out=side).sub_(shared)
    # boxes without area do not meet anything, and 0 / 0 is avoided
    return shared.div_(union.clamp_(min=torch.finfo(union.dtype).tiny))


def encode(
    boxes: Float[Tensor, "box 4"], origins: Float[Tensor, "box 4"], weights: tuple[float, ...]
) -> Float[Tensor, "box 4"]:
    """Code boxes relative to origins (anchors or proposals).

    t_x = w_x (x − x_a) / w_a,  t_y = w_y (y − y_a) / h_a,  t_w = w_w log(w / w_a),
    t_h = w_h log(h / h_a), with centres (x, y) and sides (w, h) (Girshick et al., 2014,
    arXiv:1311.2524, appendix C).

    Args:
        boxes: the boxes, with sides above 0.
        origins: what each is relative to, with sides above 0.
        weights: the four weights.

    >>> box, origin = torch.tensor([[1.0, 0.0, 3.0, 4.0]]), torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    >>> encode(box, origin, (10.0, 10.0, 5.0, 5.0))  # 5 log ½ = −3.4657
    tensor([[ 0.0000,  0.0000, -3.4657,  0.0000]])
    """
    sides, origin_sides = boxes[:, 2:] - boxes[:, :2], origins[:, 2:] - origins[:, :2]
    centres, origin_centres = boxes[:, :2] + 0.5 * sides, origins[:, :2] + 0.5 * origin_sides
    shifts = (centres - origin_centres) / origin_sides
    growths = (sides / origin_sides).log()
    return torch.cat([shifts, growths], dim=1) * boxes.new_tensor(weights)


def decode(
    codes: Float[Tensor, "*box 4"], origins: Float[Tensor, "*box 4"], weights: tuple[float, ...]
) -> Float[Tensor, "*box 4"]:
    """Return the boxes of codes, the inverse of `encode`; a side grows by a factor of 62.5 at
    most.

    >>> origin = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    >>> decode(torch.tensor([[5.0, 0.0, 0.0, 0.0]]), origin, (10.0, 10.0, 5.0, 5.0)).tolist()
    [[2.0, 0.0, 6.0, 4.0]]
    """
    codes = codes / codes.new_tensor(weights)
    origin_sides = origins[..., 2:] - origins[..., :2]
    centres = codes[..., :2] * origin_sides + origins[..., :2] + 0.5 * origin_sides
    halves = 0.5 * codes[..., 2:].clamp(max=LARGEST_GROWTH).exp() * origin_sides
    return torch.cat([centres - halves, centres + halves], dim=-1)


def clip(
    boxes: Float[Tensor, "*box 4"], sizes: Float[Tensor, "*#box 2"]
) -> Float[Tensor, "*box 4"]:
    """Move the corners of boxes into images of (height, width).

    >>> clip(torch.tensor([-1.0, 2.0, 9.0, 3.0]), torch.tensor([4.0, 8.0])).tolist()
    [0.0, 2.0, 8.0, 3.0]
    """
    limits = sizes.flip(-1)
    return torch.minimum(boxes.clamp(min=0), torch.cat([limits, limits], dim=-1))


def suppress(
    boxes: Float[Tensor, "box 4"],
    scores: Float[Tensor, " box"],
    groups: Int[Tensor, " box"],
    overlap: float,
) -> Bool[Tensor, " box"]:
    """Say which boxes stay when, in each group, every box goes that overlaps a better one that
    stays by more than an IoU.

    Groups are taken one by one, since the work grows with the square of a group's size.

    >>> boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 3.0], [0.0, 0.0, 4.0, 3.0]])
    >>> suppress(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 0, 1]), 0.5).tolist()
    [True, False, True]
    """
    stays = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    order = groups.argsort(stable=True)
    _, counts = groups[order].unique_consecutive(return_counts=True)
    for members in order.split(counts.tolist()):
        if len(members) == 1:
            stays[members] = True
        else:
            stays[members[nms(boxes[members], scores[members], overlap)]] = True
    return stays
