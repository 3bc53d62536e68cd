"""The objects of a minibatch as tensors with the image as their first axis, and back."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor

from sslens.data.jitter import place_masks
from sslens.data.placing import Placement
from sslens.data.targets import Targets
from sslens.models.detection.objects import Objects

#: the label of the places that pad the images with fewer objects
NOTHING = -1


def place_objects(targets: Targets, place: Placement) -> Objects:
    """Move the objects of an image into its square.

    Crowds are left out, as detectron2 leaves them out of training, and so are objects of which the
    square shows nothing. Objects without masks have none afterwards.
    """
    single = targets.take(~targets.crowd)
    boxes = place.boxes(torch.from_numpy(single.boxes)).clamp(0, place.side)
    seen = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    width, height = place.resized
    labels = torch.from_numpy(single.labels)
    if targets.rles is None:
        return Objects(boxes[seen], labels[seen], None)
    masks = place_masks(single.take(seen.numpy()).masks((height, width)), place)
    return Objects(boxes[seen], labels[seen], torch.from_numpy(masks))


def pack_objects(objects: Sequence[Objects]) -> dict[str, Tensor]:
    """Pack the objects of several images into tensors, padded to the most objects of an image.

    Returns:
        "boxes" [image object 4]; "labels" [image object], -1 where there is no object; and "masks"
            [image object row byte], eight places of a row in a byte, unless an image has none.

    >>> box, mask = torch.tensor([[0.0, 0.0, 2.0, 1.0]]), torch.ones(1, 4, 4, dtype=torch.bool)
    >>> one = Objects(box, torch.tensor([3]), mask)
    >>> none = Objects(box[:0], one.labels[:0], mask[:0])
    >>> packed = pack_objects([one, none])
    >>> packed["labels"].tolist(), packed["masks"].shape
    ([[3], [-1]], torch.Size([2, 1, 4, 1]))
    >>> [len(each.labels) for each in unpack_objects(packed)]
    [1, 0]
    """
    most = max(1, *(len(each.labels) for each in objects)) if objects else 1
    boxes = torch.zeros(len(objects), most, 4)
    labels = torch.full((len(objects), most), NOTHING, dtype=torch.int64)
    for row, each in enumerate(objects):
        count = len(each.labels)
        boxes[row, :count], labels[row, :count] = each.boxes, each.labels
    packed = {"boxes": boxes, "labels": labels}
    known = [each.masks for each in objects if each.masks is not None]
    if len(known) < len(objects):
        return packed
    size = known[0].shape[-1]
    masks = torch.zeros(len(objects), most, size, -(-size // 8), dtype=torch.uint8)
    for row, own in enumerate(known):
        masks[row, : len(own)] = torch.from_numpy(np.packbits(own.numpy(), axis=-1))
    return packed | {"masks": masks}


def unpack_objects(packed: Mapping[str, Tensor]) -> list[Objects]:
    """Unpack what `pack_objects` packed, on the device of the tensors.

    Args:
        packed: with "boxes", "labels" and perhaps "masks", of squares; others are left alone.
    """
    boxes: Float32[Tensor, "image object 4"] = packed["boxes"]
    labels: Int64[Tensor, "image object"] = packed["labels"]
    masks = packed.get("masks")
    present = labels != NOTHING
    return [
        Objects(
            boxes[row][there],
            labels[row][there],
            None if masks is None else unpack_masks(masks[row][there], masks.shape[2]),
        )
        for row, there in enumerate(present)
    ]


def unpack_masks(
    packed: UInt8[Tensor, "object row byte"], size: int
) -> Bool[Tensor, "object row column"]:
    """Return the bits of bytes, the highest first, as `size` columns.

    >>> unpack_masks(torch.tensor([[[0b10100000]]], dtype=torch.uint8), 3).tolist()
    [[[True, False, True]]]
    """
    bits = torch.arange(7, -1, -1, device=packed.device, dtype=torch.uint8)
    return ((packed[..., None] >> bits) & 1).flatten(-2)[..., :size].bool()
