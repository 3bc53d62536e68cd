"""Which object an anchor or a region belongs to."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sslens.models.detection.boxes import overlaps
from sslens.models.detection.objects import PaddedObjects

#: how many overlaps are computed at once, which bounds the memory (16 MB a tensor)
_AT_ONCE = 1 << 22


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
    images, count = objects.present.shape
    part = max(1, _AT_ONCE // (images * count))
    values, indices, tops, places = [], [], [], []
    for start in range(0, candidates.shape[1], part):
        iou = overlaps(objects.boxes, candidates[:, start : start + part])
        iou.masked_fill_(~objects.present.unsqueeze(2), -1.0)
        value, index = iou.max(dim=1)
        top = iou.amax(dim=2)
        image, number, place = ((iou == top.unsqueeze(2)) & (iou > 0)).nonzero(as_tuple=True)
        values.append(value)
        indices.append(index)
        tops.append(top)
        places.append((image, number, place + start, top[image, number]))
    overlap, owner = torch.cat(values, dim=1), torch.cat(indices, dim=1)
    best = torch.zeros_like(overlap, dtype=torch.bool)
    top = torch.stack(tops).amax(dim=0)
    for image, number, place, value in places:
        reached = value == top[image, number]
        best[image[reached], place[reached]] = True
    return Match(overlap, owner, best)
