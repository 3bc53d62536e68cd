"""The objects of an image: as they are, and as they were detected."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sslens.errors import InputError
from sslens.models.detection.boxes import clip


@dataclass(frozen=True)
class Objects:
    """The objects of an image that a detector is trained on; there may be none.

    Args:
        boxes: (x0, y0, x1, y1) in pixels of the image as the detector sees it.
        labels: classes, counted from 0.
        masks: the pixels of each object, for the image or for the image with padding; None where
            they are not known.
    """

    boxes: Float[Tensor, "object 4"]
    labels: Int[Tensor, " object"]
    masks: Bool[Tensor, "object row column"] | None


@dataclass(frozen=True)
class PaddedObjects:
    """The boxes and labels of the objects of several images, each with room for as many as the
    fullest image has, and for one at least."""

    boxes: Float[Tensor, "image object 4"]
    labels: Int[Tensor, "image object"]
    present: Bool[Tensor, "image object"]


def pad(objects: Sequence[Objects]) -> PaddedObjects:
    """Pad the objects of images to the same number; a box without area is not present.

    >>> import torch
    >>> box, mask = torch.tensor([[0.0, 0.0, 2.0, 1.0]]), torch.ones(1, 4, 4, dtype=torch.bool)
    >>> one = Objects(box, torch.tensor([3]), mask)
    >>> none = Objects(box[:0], one.labels[:0], mask[:0])
    >>> pad([one, none]).present.tolist()
    [[True], [False]]
    """
    boxes = pad_sequence([image.boxes for image in objects], batch_first=True)
    labels = pad_sequence([image.labels for image in objects], batch_first=True)
    if boxes.shape[1] == 0:
        boxes, labels = boxes.new_zeros(len(boxes), 1, 4), labels.new_zeros(len(labels), 1)
    return PaddedObjects(boxes, labels, (boxes[..., 2:] > boxes[..., :2]).all(dim=2))


@dataclass(frozen=True)
class Detections:
    """What was detected in an image, the best first.

    Args:
        boxes: (x0, y0, x1, y1) in pixels of an image of `size`.
        scores: from 0 to 1.
        labels: classes, counted from 0.
        masks: the probability of being the object's, on a grid over each box;
            `sslens.models.detection.masks.paste` draws them. None from heads without masks.
        size: (height, width).
    """

    boxes: Float[Tensor, "detection 4"]
    scores: Float[Tensor, " detection"]
    labels: Int[Tensor, " detection"]
    masks: Float[Tensor, "detection cell cell"] | None
    size: tuple[int, int]

    def resize(self, size: tuple[int, int]) -> "Detections":
        """Return the detections in pixels of the same image at another (height, width): the boxes
        are scaled and clipped, and those that have no area then are left out.

        Raises:
            InputError: a side is below 1.

        >>> import torch
        >>> boxes = torch.tensor([[0.0, 0.0, 4.0, 2.0]])
        >>> found = Detections(boxes, torch.ones(1), torch.tensor([0]), torch.ones(1, 2, 2), (4, 8))
        >>> found.resize((8, 4)).boxes.tolist()
        [[0.0, 0.0, 2.0, 4.0]]
        """
        if min(size) < 1:
            raise InputError(f"Detections cannot be resized to {size[0]} × {size[1]} pixels.")
        (height, width), (new_height, new_width) = self.size, size
        scales = (new_width / width, new_height / height)
        boxes = self.boxes * self.boxes.new_tensor([*scales, *scales])
        boxes = clip(boxes, boxes.new_tensor(size).expand(len(boxes), 2))
        full = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        masks = None if self.masks is None else self.masks[full]
        return Detections(boxes[full], self.scores[full], self.labels[full], masks, size)
