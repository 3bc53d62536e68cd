"""The heads of a detector together: losses from a pyramid and its objects, and detections."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn

from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.models.detection.boxes import clip, decode, encode, suppress
from sslens.models.detection.masks import crop_targets
from sslens.models.detection.matching import match
from sslens.models.detection.objects import Detections, Objects, PaddedObjects, pad
from sslens.models.detection.proposals import Proposals, Proposed, sizes_tensor
from sslens.models.detection.regions import (
    BOX_CELLS,
    MASK_CELLS,
    BoxHead,
    BoxPredictor,
    MaskHead,
    align,
)
from sslens.models.detection.sampling import sample, uniform
from sslens.models.detection.settings import HeadSettings, find_settings

#: the weights of a detection's code
WEIGHTS = (10.0, 10.0, 5.0, 5.0)
#: what a region's overlap with an object is at least if it is positive
POSITIVE = 0.5
#: regions and detections that the heads look at together when they detect, which bounds the memory
_REGIONS_AT_ONCE, _MASKS_AT_ONCE = 1024, 256

Pyramid = Mapping[str, Float[Tensor, "image channel _ _"]]


@dataclass(frozen=True)
class Regions:
    """The regions of all images that train the box and mask heads; the positive ones come first."""

    boxes: Float[Tensor, "region 4"]
    images: Int[Tensor, " region"]
    labels: Int[Tensor, " region"]
    objects: Int[Tensor, " region"]
    positive: int


@final
class RegionHeads(nn.Module):
    """The heads that look at regions, under detectron2's names; without masks there is no mask
    head."""

    def __init__(self, settings: HeadSettings, classes: int, masks: bool = True) -> None:
        super().__init__()
        self.box_head = BoxHead(settings)
        self.box_predictor = BoxPredictor(settings.hidden, classes)
        self.mask_head = MaskHead(settings, classes) if masks else None


@final
class Heads(nn.Module):
    """Mask R-CNN's heads (He et al., 2017, arXiv:1703.06870) as ViTDet has them (Li et al., 2022,
    arXiv:2203.16527, appendix A.2): proposals by two convolutions, a box head of four convolutions
    and one fully connected layer, a mask head of four convolutions and a deconvolution, each
    convolution of the last two with layer normalisation over channels.

    They compute what detectron2's classes with ViTDet's settings compute, and their parameters have
    the names that these have. Where torchvision's Mask R-CNN differs from them (it rounds anchors,
    shifts features by half a place, takes 2 × 2 samples whatever the region's size, has the
    background first, divides losses otherwise, and draws masks coarsely), these heads do not.

    Differences from detectron2:

    - Random choices are a function of `noise`, not of a global generator.
    - An object that no anchor meets has no best anchor; there it makes every anchor positive.
    - Only what is needed is decoded or computed: codes of the best anchors, boxes of scores above
      the threshold, the mask of a region's own class.
    - A training step with boxes that are not finite goes on; it raises there.

    Args:
        settings: the sizes of the heads.
        classes: the number of classes, without the background.
        strides: the side in pixels of a place of each level, by the level's name, from the finest;
            regions are pooled from all but the last.
        masks: whether there is a mask head; without one it is Faster R-CNN, whose objects need no
            masks.

    Raises:
        InputError: there is no class, or there are less than two levels.

    >>> heads = make_heads("small", classes=3, strides={"p2": 2.0, "p3": 4.0, "p4": 8.0})
    >>> pyramid = {f"p{i}": torch.zeros(1, 64, 128 // 2**i, 128 // 2**i) for i in (2, 3, 4)}
    >>> box, mask = torch.tensor([[8.0, 8.0, 26.0, 24.0]]), torch.zeros(1, 64, 64).bool()
    >>> objects = Objects(box, torch.tensor([2]), mask)
    >>> losses = heads.losses(pyramid, [(64, 64)], [objects], noise=torch.tensor([0]))
    >>> {name: round(loss.item(), 2) for name, loss in losses.items()}
    {'objectness': 0.69, 'proposals': 0.01, 'classes': 1.39, 'boxes': 0.0, 'masks': 0.69}
    """

    def __init__(
        self,
        settings: HeadSettings,
        classes: int,
        strides: Mapping[str, float],
        masks: bool = True,
    ) -> None:
        super().__init__()
        if classes < 1:
            raise InputError(f"A detector of {classes} classes finds nothing: expected 1 or more.")
        if len(strides) < 2:
            raise InputError(f"The heads need a pyramid of two levels or more, not {len(strides)}.")
        self.settings, self.classes, self.strides = settings, classes, dict(strides)
        self.proposal_generator = Proposals(settings, strides)
        self.roi_heads = RegionHeads(settings, classes, masks)

    def losses(
        self,
        pyramid: Pyramid,
        sizes: Sequence[tuple[int, int]],
        targets: Sequence[Objects],
        noise: Int64[Tensor, " image"],
    ) -> dict[str, Float[Tensor, ""]]:
        """Compute the five losses, of which the training minimises the sum.

        `objectness` and `proposals` are those of `Proposals.losses`. Over the R regions sampled in
        all images, P of them positive, with c* the class (the background is the last) and t the
        code of a region's box for its class,

        L_classes = Σ_i CE(c_i, c*_i) / R,  L_boxes = Σ_{i positive} |t_i − t*_i|_1 / R,
        L_masks = Σ_{i positive} mean over cells of BCE(m_i, m*_i) / P.

        Without a mask head there is no L_masks. Proposals are constants here: no gradient passes
        through their places.

        Args:
            pyramid: the levels of the images.
            sizes: (height, width) of each image in pixels, without padding.
            targets: the objects of each image.
            noise: a random number for each image, on which anchors and regions are chosen.

        Raises:
            InputError: the pyramid does not fit the heads, the images, objects and noise are not as
                many as each other, a label is not below the number of classes, or objects of a mask
                head have no masks.
        """
        self._check(pyramid, sizes, targets)
        generator = self.proposal_generator
        answers = generator(pyramid)
        objects = pad(targets)
        losses = generator.losses(answers, objects, noise)
        shapes = sizes_tensor(sizes, answers.logits)
        proposed = generator.propose(answers, shapes, training=True)
        regions = self._choose(proposed, objects, ~noise)
        return (
            losses
            | self._box_losses(pyramid, regions, objects)
            | self._mask_loss(pyramid, regions, targets)
        )

    @torch.no_grad()
    def _choose(
        self, proposed: Proposed, objects: PaddedObjects, noise: Int64[Tensor, " image"]
    ) -> Regions:
        """Choose the regions that train, among the proposals and the objects themselves."""
        boxes = torch.cat([proposed.boxes, objects.boxes.to(proposed.boxes.dtype)], dim=1)
        present = torch.cat([proposed.present, objects.present], dim=1)
        found = match(objects, boxes)
        positive = present & (found.overlap >= POSITIVE)
        chosen = sample(
            uniform(noise, boxes.shape[1]),
            positive,
            present & ~positive,
            self.settings.regions,
            self.settings.positive_regions,
        )
        images = torch.cat([taken.nonzero()[:, 0] for _, taken in chosen])
        places = torch.cat([place[taken] for place, taken in chosen])
        owners = found.object[images, places]
        count = int(chosen[0][1].sum())
        labels = objects.labels[images, owners]
        labels[count:] = self.classes
        return Regions(boxes[images, places], images, labels, owners, count)

    def _box_losses(
        self, pyramid: Pyramid, regions: Regions, objects: PaddedObjects
    ) -> dict[str, Float[Tensor, ""]]:
        heads, positive = self.roi_heads, slice(regions.positive)
        features = align(self._levels(pyramid), regions.boxes, regions.images, BOX_CELLS)
        logits, codes = heads.box_predictor(heads.box_head(features))
        owners = objects.boxes[regions.images[positive], regions.objects[positive]]
        targets = encode(owners.to(codes.dtype), regions.boxes[positive], WEIGHTS)
        own = codes[torch.arange(regions.positive, device=codes.device), regions.labels[positive]]
        total = max(len(logits), 1)
        return {
            "classes": F.cross_entropy(logits, regions.labels, reduction="sum") / total,
            "boxes": (own - targets).abs().sum() / total,
        }

    def _mask_loss(
        self, pyramid: Pyramid, regions: Regions, targets: Sequence[Objects]
    ) -> dict[str, Float[Tensor, ""]]:
        head, positive = self.roi_heads.mask_head, slice(regions.positive)
        if head is None:
            return {}
        boxes, images = regions.boxes[positive], regions.images[positive]
        features = align(self._levels(pyramid), boxes, images, MASK_CELLS)
        logits = head(features, regions.labels[positive])
        masks = [image.masks for image in targets if image.masks is not None]
        cells = crop_targets(masks, boxes, images, regions.objects[positive], logits.shape[-1])
        loss = F.binary_cross_entropy_with_logits(logits, cells.to(logits.dtype), reduction="sum")
        return {"masks": loss / max(logits.numel(), 1)}

    @torch.no_grad()
    def detect(self, pyramid: Pyramid, sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        """Detect the objects of each image, the best first.

        A region gives a detection for each class with a probability above the score that the
        settings ask for; of one class near copies are dropped, and the best of all stay. The mask
        is that of the detection's box and class; heads without masks give none.

        Args:
            pyramid: the levels of the images.
            sizes: (height, width) of each image in pixels, without padding.

        Raises:
            InputError: the pyramid does not fit the heads or the images.
        """
        self._check(pyramid, sizes)
        answers = self.proposal_generator(pyramid)
        shapes = sizes_tensor(sizes, answers.logits)
        proposed = self.proposal_generator.propose(answers, shapes, training=False)
        boxes, scores, labels, images = self._detect_boxes(pyramid, proposed, shapes)
        masks = self._detect_masks(pyramid, boxes, labels, images)
        counts = images.bincount(minlength=len(sizes)).tolist()
        parts = (x.split(counts) for x in (boxes, scores, labels))
        of_images = [None] * len(sizes) if masks is None else masks.split(counts)
        return [Detections(*image) for image in zip(*parts, of_images, sizes, strict=True)]

    def _detect_boxes(
        self, pyramid: Pyramid, proposed: Proposed, sizes: Float[Tensor, "image 2"]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return boxes, scores, labels and images of all detections, by image and score."""
        images = proposed.present.nonzero()[:, 0]
        regions = proposed.boxes[proposed.present]
        found = []
        for part in torch.arange(len(regions), device=regions.device).split(_REGIONS_AT_ONCE):
            features = align(self._levels(pyramid), regions[part], images[part], BOX_CELLS)
            logits, codes = self.roi_heads.box_predictor(self.roi_heads.box_head(features))
            chances = logits.softmax(dim=1)[:, :-1]
            row, label = (chances > self.settings.score).nonzero(as_tuple=True)
            boxes = decode(codes[row, label], regions[part][row], WEIGHTS)
            boxes = clip(boxes, sizes[images[part][row]])
            found.append((boxes, chances[row, label], label, images[part][row]))
        boxes, scores, labels, owners = (torch.cat(parts) for parts in zip(*found, strict=True))
        groups = owners * self.classes + labels
        stays = suppress(boxes, scores, groups, self.settings.overlap) & boxes.isfinite().all(dim=1)
        order = scores.where(stays, -torch.inf).argsort(descending=True, stable=True)
        order = order[: int(stays.sum())]
        order = order[owners[order].argsort(stable=True)]
        counts = owners[order].bincount(minlength=len(sizes))
        starts = counts.cumsum(0) - counts
        rank = torch.arange(len(order), device=order.device) - starts[owners[order]]
        order = order[rank < self.settings.detections]
        return boxes[order], scores[order], labels[order], owners[order]

    def _detect_masks(
        self,
        pyramid: Pyramid,
        boxes: Float[Tensor, "detection 4"],
        labels: Int[Tensor, " detection"],
        images: Int[Tensor, " detection"],
    ) -> Float[Tensor, "detection cell cell"] | None:
        head = self.roi_heads.mask_head
        if head is None:
            return None
        masks = []
        for part in torch.arange(len(boxes), device=boxes.device).split(_MASKS_AT_ONCE):
            features = align(self._levels(pyramid), boxes[part], images[part], MASK_CELLS)
            masks.append(head(features, labels[part]).sigmoid())
        return torch.cat(masks)

    def _levels(self, pyramid: Pyramid) -> dict[float, Tensor]:
        """Return the levels that regions are pooled from, by their strides."""
        return {stride: pyramid[name] for name, stride in list(self.strides.items())[:-1]}

    def _check(
        self,
        pyramid: Pyramid,
        sizes: Sequence[tuple[int, int]],
        targets: Sequence[Objects] | None = None,
    ) -> None:
        for name in self.strides:
            if name not in pyramid:
                raise InputError(f"The pyramid lacks {name}: it has {', '.join(pyramid)}.")
            images, channels = pyramid[name].shape[:2]
            if channels != self.settings.channels:
                raise InputError(
                    f"The pyramid's {name} has {spell_count(channels, 'channel')}, and the heads"
                    f" are for {self.settings.channels}."
                )
            if images != len(sizes) or (targets is not None and images != len(targets)):
                others = "" if targets is None else f" and the objects of {len(targets)}"
                raise InputError(
                    f"The pyramid's {name} is of {spell_count(images, 'image')}, and there are"
                    f" {len(sizes)} sizes{others}."
                )
        for image in targets or ():
            if image.masks is None and self.roi_heads.mask_head is not None:
                raise InputError(
                    "The objects have no masks, and the heads learn masks: make the heads without"
                    " them."
                )
            unknown = image.labels[(image.labels < 0) | (image.labels >= self.classes)]
            if len(unknown):
                raise InputError(
                    f"An object has the label {int(unknown[0])}, and the heads know"
                    f" {spell_count(self.classes, 'class')}, counted from 0."
                )


def make_heads(name: str, classes: int, strides: Mapping[str, float], masks: bool = True) -> Heads:
    """Build the heads of a name, with new weights: "vitdet", the published ones, or "small".

    Args:
        name: a key of `sslens.models.detection.settings.NAMED`.
        classes: the number of classes, without the background.
        strides: the side in pixels of a place of each level, as pyramids have it in `strides`.
        masks: whether there is a mask head.

    Raises:
        InputError: there are no heads of this name, or see `Heads`.

    >>> heads = make_heads("vitdet", classes=80, strides={f"p{i}": 2.0**i for i in range(2, 7)})
    >>> sum(parameter.numel() for parameter in heads.parameters())
    19446768
    """
    return Heads(find_settings(name), classes, strides, masks)
