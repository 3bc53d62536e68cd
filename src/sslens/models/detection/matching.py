"""Which object an anchor or a region belongs to."""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sslens.models.detection.boxes import overlaps
from sslens.models.detection.objects import PaddedObjects

#: how many overlaps are computed at once, which bounds the memory (13 MB in all)
_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Match:
    """For each candidate box of each image: its largest IoU with an object (-1 where there is
    none), the number of this object, and whether the candidate is the best of all for some object
    (ties are all best)."""

    overlap: Float[Tensor, "image candidate"]
    object: Int[Tensor, "image candidate"]
    best: Bool[Tensor, "image candidate"]


def match(objects: PaddedObjects, candidates: Float[Tensor, "#image candidate 4"]) -> Match:
    """Match candidates with the objects of their images.

    `best` may be true for an object other than the one that the candidate overlaps most; it then
    belongs to the latter, as in detectron2. An object that no candidate meets has no best one
    (there, all).

    Args:
        objects: the objects of each image.
        candidates: boxes for each image, or for all images alike.

    >>> from sslens.models.detection.objects import Objects, pad
    >>> box = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    >>> objects = pad([Objects(box, torch.tensor([0]), torch.ones(1, 4, 4, dtype=torch.bool))])
    >>> candidates = torch.tensor([[[0.0, 0.0, 4.0, 1.0], [0.0, 0.0, 2.0, 4.0]]])
    >>> found = match(objects, candidates)
    >>> found.overlap.tolist(), found.best.tolist()
    ([[0.25, 0.5]], [[False, True]])
    """
    (images, count), places = objects.present.shape, candidates.shape[1]
    kind = torch.promote_types(objects.boxes.dtype, candidates.dtype)
    boxes, candidates = objects.boxes.to(kind), candidates.to(kind)
    if images * count * places <= _AT_ONCE:
        return _match(boxes, objects.present, candidates)
    # where it costs, images are matched by themselves: most have fewer objects than the fullest
    parts = []
    for image in range(images):
        own = slice(image, image + 1)
        there = objects.present[own, : max(1, _count_room(objects.present[image]))]
        their = candidates if len(candidates) == 1 else candidates[own]
        parts.append(_match(boxes[own, : there.shape[1]], there, their))
    return Match(*(torch.cat([getattr(part, one.name) for part in parts]) for one in fields(Match)))


def _count_room(present: Bool[Tensor, " object"]) -> int:
    """The places up to the last object that is present."""
    numbers = present.nonzero()
    return int(numbers[-1]) + 1 if len(numbers) else 0


def _match(
    boxes: Float[Tensor, "image object 4"],
    present: Bool[Tensor, "image object"],
    candidates: Float[Tensor, "#image candidate 4"],
) -> Match:
    """Match candidates with the objects of several images, some at a time."""
    (images, count), places = present.shape, candidates.shape[1]
    part = max(1, min(places, _AT_ONCE // (images * count)))
    # all large tensors are made once: made anew in each part, they would leave gaps between the
    # small ones that stay, and the process would grow with the number of parts
    room = boxes.new_empty(3, images, count, part)
    reached = torch.empty(images, count, part, dtype=torch.bool, device=boxes.device)
    overlap = boxes.new_empty(images, places)
    owner = torch.empty_like(overlap, dtype=torch.long)
    tops, ties = boxes.new_zeros(images, count), []
    for start in range(0, places, part):
        some = slice(start, min(start + part, places))
        size = some.stop - start
        iou = overlaps(boxes, candidates[:, some], room[..., :size])
        iou.masked_fill_(~present.unsqueeze(2), -1.0)
        torch.max(iou, dim=1, out=(overlap[:, some], owner[:, some]))
        top = iou.amax(dim=2)
        least = top.where(top > 0, torch.inf).unsqueeze(2)
        image, number, place = torch.ge(iou, least, out=reached[..., :size]).nonzero(as_tuple=True)
        ties.append((image, number, place + start, top[image, number]))
        tops = torch.maximum(tops, top)
    best = torch.zeros_like(overlap, dtype=torch.bool)
    for image, number, place, value in ties:
        is_best = value == tops[image, number]
        best[image[is_best], place[is_best]] = True
    return Match(overlap, owner, best)
