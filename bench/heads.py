"""What a step of the detector's heads costs beside torchvision's Mask R-CNN of the same size, in
turn in one run.

    OMP_NUM_THREADS=1 python bench/heads.py                # small heads, 8 scenes of 64 px
    OMP_NUM_THREADS=1 python bench/heads.py --heads vitdet --images 1 --side 512 --rounds 3

Both get the same random pyramid, with gradients, as from a frozen backbone whose pyramid is
trained, and the same objects: ellipses of an eighth to a half of the image. torchvision has
the same convolutions, norms, widths, anchors, numbers of proposals and numbers of sampled anchors
and regions; RoIAlign is its own (2 × 2 samples). A step is the losses and their gradients. A share
is the median over rounds of torchvision's time over ours, with the lowest and highest; with
OMP_NUM_THREADS=1 processor time is counted. Detection is of heads without training, where scores
are low: the score that is asked for is set to 0 in both, so that both suppress as many boxes.

Target: a step at 0.95 or more.
"""

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import MultiScaleRoIAlign

from sslens.models.channel_norm import ChannelNorm
from sslens.models.detection.heads import Heads
from sslens.models.detection.objects import Objects
from sslens.models.detection.settings import HeadSettings, find_settings

Step = Callable[[], object]


class Reference(nn.Module):
    """torchvision's Mask R-CNN without its backbone, of the sizes that settings ask for."""

    def __init__(self, settings: HeadSettings, classes: int, strides: dict[str, float]) -> None:
        super().__init__()
        channels, regions = settings.channels, list(strides)[:-1]
        sizes = tuple(
            tuple(size * stride for size in settings.anchor_sizes) for stride in strides.values()
        )
        anchors = AnchorGenerator(sizes, (settings.aspect_ratios,) * len(strides))
        head = RPNHead(
            channels, anchors.num_anchors_per_location()[0], settings.proposal_convolutions
        )
        after = {"training": settings.proposals, "testing": settings.proposals}
        before = dict(zip(("training", "testing"), settings.candidates, strict=True))
        self.rpn = RegionProposalNetwork(
            anchors,
            head,
            *(0.7, 0.3, settings.anchors, settings.positive_anchors),
            before,
            after,
            settings.proposal_overlap,
        )
        wide = [channels] * settings.box_convolutions
        deep = [channels] * settings.mask_convolutions
        norm = partial(ChannelNorm)
        self.roi_heads = RoIHeads(
            MultiScaleRoIAlign(regions, 7, sampling_ratio=2),
            FastRCNNConvFCHead((channels, 7, 7), wide, [settings.hidden], norm_layer=norm),
            FastRCNNPredictor(settings.hidden, classes + 1),
            *(0.5, 0.5, settings.regions, settings.positive_regions, None),
            *(settings.score, settings.overlap, settings.detections),
            MultiScaleRoIAlign(regions, 14, sampling_ratio=2),
            MaskRCNNHeads(channels, deep, 1, norm_layer=norm),
            MaskRCNNPredictor(channels, channels, classes + 1),
        )

    def forward(
        self, pyramid: dict[str, Tensor], images: ImageList, targets: list[dict[str, Tensor]] | None
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        proposals, losses = self.rpn(images, pyramid, targets)
        found, others = self.roi_heads(pyramid, proposals, images.image_sizes, targets)
        return found, losses | others


def make_objects(count: int, side: int, classes: int, generator: torch.Generator) -> Objects:
    """Make ellipses of an eighth to a half of an image."""
    sides = side * (0.125 + 0.375 * torch.rand(count, 2, generator=generator))
    corners = (side - sides) * torch.rand(count, 2, generator=generator)
    boxes = torch.cat([corners, corners + sides], dim=1)
    places = torch.arange(side) + 0.5
    x, y = ((places - corners[:, axis, None]) / sides[:, axis, None] * 2 - 1 for axis in (0, 1))
    masks = x[:, None, :] ** 2 + y[:, :, None] ** 2 <= 1
    return Objects(boxes, torch.randint(classes, (count,), generator=generator), masks)


def steps_of(
    settings: HeadSettings, classes: int, images: int, side: int, objects: int, patch: int
) -> dict[str, Step]:
    """What is timed, by name."""
    generator = torch.Generator().manual_seed(0)
    strides = {f"p{level}": patch * 2.0 ** (level - 4) for level in range(2, 7)}
    pyramid = {
        name: torch.randn(
            images,
            settings.channels,
            *[max(1, int(side // stride))] * 2,
            generator=generator,
        ).requires_grad_()
        for name, stride in strides.items()
    }
    targets = [make_objects(objects, side, classes, generator) for _ in range(images)]
    dictionaries = [
        {"boxes": one.boxes, "labels": one.labels + 1, "masks": one.masks.to(torch.uint8)}
        for one in targets
    ]
    sizes = [(side, side)] * images
    canvas = ImageList(torch.zeros(images, 3, side, side), sizes)
    torch.manual_seed(0)
    ours, reference = Heads(settings, classes, strides), Reference(settings, classes, strides)
    lenient = Heads(replace(settings, score=0.0), classes, strides)
    lenient.load_state_dict(ours.state_dict())
    noise = torch.arange(images)

    def step() -> None:
        sum(ours.losses(pyramid, sizes, targets, noise).values()).backward()

    def step_reference() -> None:
        sum(reference.train()(pyramid, canvas, dictionaries)[1].values()).backward()

    def detect_reference() -> None:
        reference.eval().roi_heads.score_thresh = 0.0
        with torch.no_grad():
            reference(pyramid, canvas, None)

    return {
        "step": step,
        "step, torchvision": step_reference,
        "detect": lambda: lenient.detect(pyramid, sizes),
        "detect, torchvision": detect_reference,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--heads", default="small")
    for name, value in (
        ("images", 8),
        ("side", 64),
        ("objects", 6),
        ("classes", 8),
        ("rounds", 9),
    ):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--patch", type=int, help="8 px for small heads, 16 px for vitdet")
    given = parser.parse_args()
    patch = given.patch or (8 if given.heads == "small" else 16)
    steps = steps_of(
        find_settings(given.heads), given.classes, given.images, given.side, given.objects, patch
    )
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(given.rounds + 1):  # the first warms up
        for name, step in steps.items():
            start = clock()
            step()
            if number:
                seconds[name].append(clock() - start)
        if number:
            line = ", ".join(f"{name} {taken[-1]:.3f}" for name, taken in seconds.items())
            print(f"round {number}: {line} s", file=sys.stderr, flush=True)
    print("| | seconds an image | share of torchvision's speed |\n|---|---|---|")
    for name, taken in seconds.items():
        others = seconds.get(f"{name}, torchvision")
        shares = [b / a for a, b in zip(taken, others, strict=True)] if others else []
        spread = (
            f"{statistics.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})"
            if shares
            else ""
        )
        print(f"| {name} | {statistics.median(taken) / given.images:.4f} | {spread} |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\nPeak memory of the process: {peak:,.0f} MB.")


if __name__ == "__main__":
    main()
