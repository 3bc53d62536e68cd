"""Proposals: where an object might be, from anchors at all levels of a pyramid."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from sslens.models.detection.anchors import place_anchors, shape_anchors
from sslens.models.detection.boxes import clip, decode, encode, suppress, widen
from sslens.models.detection.matching import match
from sslens.models.detection.objects import PaddedObjects
from sslens.models.detection.sampling import sample, uniform
from sslens.models.detection.settings import HeadSettings

#: an anchor's overlap with an object: positive from the first on, negative below the second
POSITIVE, NEGATIVE = 0.7, 0.3
#: the weights of a proposal's code
WEIGHTS = (1.0, 1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Answers:
    """The proposal head's answers for all anchors of all levels."""

    anchors: Float[Tensor, "place 4"]
    logits: Float[Tensor, "image place"]
    codes: Float[Tensor, "image place 4"]
    #: the number of anchors of each level
    counts: list[int]


@dataclass(frozen=True)
class Proposed:
    """The proposals of each image, padded to the same number."""

    boxes: Float[Tensor, "image proposal 4"]
    present: Bool[Tensor, "image proposal"]


@final
class ProposalHead(nn.Module):
    """Convolutions that all levels share, and for each anchor of a place whether an object is
    there and where: 3 × 3 with ReLU, then two of 1 × 1, all with bias and begun with a standard
    deviation of 0.01."""

    def __init__(self, channels: int, convolutions: int, anchors: int) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number in range(convolutions):
            layers[f"conv{number}"] = nn.Conv2d(channels, channels, 3, padding=1)
            layers[f"relu{number}"] = nn.ReLU(inplace=True)
        self.conv = nn.Sequential(layers)
        self.objectness_logits = nn.Conv2d(channels, anchors, 1)
        self.anchor_deltas = nn.Conv2d(channels, 4 * anchors, 1)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=0.01)

    def forward(
        self, x: Float[Tensor, "image channel row column"]
    ) -> tuple[Float[Tensor, "image place"], Float[Tensor, "image place 4"]]:
        """Return the logits and codes of a level's anchors, by row, column and shape."""
        x = self.conv(x)
        logits = self.objectness_logits(x).permute(0, 2, 3, 1).flatten(1)
        codes = self.anchor_deltas(x).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 4))
        return widen(logits), widen(codes)


@final
class Proposals(nn.Module):
    """A region proposal network (Ren et al., 2015, arXiv:1506.01497) as ViTDet has it.

    Its loss is, over the anchors i that are sampled, with p their logits and t their codes,

    L_objectness = Σ_i BCE(p_i, p*_i) / (n N),  L_proposals = Σ_{i positive} |t_i − t*_i|_1 / (n N)

    for N images and n anchors an image, also where fewer could be sampled.
    """

    def __init__(self, settings: HeadSettings, strides: Mapping[str, float]) -> None:
        super().__init__()
        self.settings, self.strides = settings, dict(strides)
        shapes = len(settings.anchor_sizes) * len(settings.aspect_ratios)
        self.rpn_head = ProposalHead(settings.channels, settings.proposal_convolutions, shapes)

    def forward(self, pyramid: Mapping[str, Float[Tensor, "image _ _ _"]]) -> Answers:
        """Answer for all anchors of all levels, from the finest."""
        anchors, logits, codes = [], [], []
        sizes, ratios = self.settings.anchor_sizes, self.settings.aspect_ratios
        for name, stride in self.strides.items():
            level = pyramid[name]
            shapes = shape_anchors(stride, sizes, ratios).to(level.device)
            anchors.append(place_anchors(shapes, stride, *level.shape[2:]))
            answers = self.rpn_head(level)
            logits.append(answers[0])
            codes.append(answers[1])
        counts = [len(places) for places in anchors]
        return Answers(torch.cat(anchors), torch.cat(logits, 1), torch.cat(codes, 1), counts)

    def losses(
        self, answers: Answers, objects: PaddedObjects, noise: Int64[Tensor, " image"]
    ) -> dict[str, Float[Tensor, ""]]:
        """Compute `objectness` and `proposals`.

        An anchor is positive if it overlaps an object by 0.7 or more, or is the best of all for
        one; it is negative below 0.3.
        """
        settings, anchors = self.settings, answers.anchors
        with torch.no_grad():
            found = match(objects, anchors.unsqueeze(0))
            positive = (found.overlap >= POSITIVE) | found.best
            negative = (found.overlap < NEGATIVE) & ~positive
            (chosen, taken), (others, also) = sample(
                uniform(noise, len(anchors)),
                positive,
                negative,
                settings.anchors,
                settings.positive_anchors,
            )
            image, _ = taken.nonzero(as_tuple=True)
            place = chosen[taken]
            boxes = objects.boxes[image, found.object[image, place]]
            targets = encode(boxes, anchors[place], WEIGHTS)
        right = answers.logits[image, place]
        wrong = answers.logits.gather(1, others)[also]
        total = settings.anchors * len(answers.logits)
        return {
            "objectness": (F.softplus(-right).sum() + F.softplus(wrong).sum()) / total,
            "proposals": (answers.codes[image, place] - targets).abs().sum() / total,
        }

    @torch.no_grad()
    def propose(
        self, answers: Answers, sizes: Float[Tensor, "image 2"], *, training: bool
    ) -> Proposed:
        """Choose the proposals of each image: the best anchors of each level, decoded and clipped;
        within a level near copies are dropped, and of the rest the best of all levels stay."""
        settings = self.settings
        most = settings.candidates[0 if training else 1]
        scores, places, levels = [], [], []
        start = 0
        for number, logits in enumerate(answers.logits.split(answers.counts, dim=1)):
            score, place = logits.topk(min(most, logits.shape[1]), dim=1)
            scores.append(score)
            places.append(place + start)
            levels.append(torch.full_like(place, number))
            start += logits.shape[1]
        score, place, level = (torch.cat(parts, dim=1) for parts in (scores, places, levels))
        codes = answers.codes.gather(1, place.unsqueeze(2).expand(-1, -1, 4))
        boxes = clip(decode(codes, answers.anchors[place], WEIGHTS), sizes.unsqueeze(1))
        image = torch.arange(len(sizes), device=level.device).unsqueeze(1)
        useful = (boxes[..., 2:] > boxes[..., :2]).all(dim=2) & score.isfinite()
        groups = (image * len(answers.counts) + level)[useful]
        stays = torch.zeros_like(useful)
        stays[useful] = suppress(boxes[useful], score[useful], groups, settings.proposal_overlap)
        score, order = score.where(stays, -torch.inf).topk(
            min(settings.proposals, score.shape[1]), dim=1
        )
        return Proposed(boxes[image, order], score.isfinite())


def sizes_tensor(
    sizes: Sequence[tuple[int, int]], like: Float[Tensor, "..."]
) -> Float[Tensor, "image 2"]:
    """Return the (height, width) of images as a tensor on the device of another.

    >>> sizes_tensor([(2, 3)], torch.zeros(1)).tolist()
    [[2.0, 3.0]]
    """
    return torch.tensor(sizes, dtype=torch.float32, device=like.device).reshape(-1, 2)
