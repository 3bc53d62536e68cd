"""What a detector finds in the images of a set, and how good it is while it is trained."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import final

import torch
import torch.distributed as dist
from torch import Tensor

from sslens.counts import spell_count
from sslens.data.detections import DetectionSet
from sslens.data.placing import Placement
from sslens.models.detection.masks import paste
from sslens.models.detection.objects import Detections
from sslens.processes import Processes
from sslens.progress import Report, announce, progress
from sslens.scoring.detected import CocoMask, Detected, encode_masks
from sslens.scoring.score import score
from sslens.tasks import Metric
from sslens.tasks.detection import Detection
from sslens.tasks.detection_maps import CachedMaps, View
from sslens.tasks.detection_views import find_extent, see_images
from sslens.tasks.start import StartingPoint

#: images that a detector looks at together
TOGETHER = 8
#: pixels of masks that are drawn together
PIXELS = 2**24
METRICS = (
    Metric("box_ap", "box AP", "mean over categories and overlaps of the precision of boxes"),
    Metric("mask_ap", "mask AP", "the same of masks"),
    Metric("box_ap50", "box AP50", "precision of boxes at an overlap of one half"),
)


@final
@dataclass(frozen=True, eq=False)
class Judged:
    """The images in which a detector is judged, each whole in a square of the training's size.

    Attributes:
        images: the images with their objects.
        view: how they are seen.
        maps: their maps in this view; None where the network is trained too.
        start: how the network wants images to be prepared.
    """

    images: DetectionSet
    view: View
    start: StartingPoint
    maps: CachedMaps | None = None

    def read(self, rows: Sequence[int], device: str) -> dict[str, Tensor]:
        """Return what the method is given of some images: their maps where they are kept, or else
        their pixels."""
        if self.maps is not None:
            stored = self.maps.read(rows, self.view.side)
            return {f"map.{n}": each.to(device) for n, each in enumerate(stored)}
        images = [self.images.image(row) for row in rows]
        places = [self.view.place(image.size) for image in images]
        return {"view": see_images(images, places, self.start).to(device)}

    def detect(
        self, method: Detection, rows: Sequence[int], device: str, precision: str
    ) -> Iterator[tuple[int, Detections]]:
        """Detect objects in some images, in pixels of each image itself.

        Yields:
            The row of each image with its detections.
        """
        for start in range(0, len(rows), TOGETHER):
            part = rows[start : start + TOGETHER]
            targets = [self.images.targets(row) for row in part]
            places = [self.view.place((each.width, each.height)) for each in targets]
            with torch.inference_mode():
                # before autocast, under which maps in float16 are not joined
                given = self.read(part, device)
                with _autocast(device, precision):
                    extents = [find_extent(place) for place in places]
                    found = method.detector.detect(method.maps(given), extents)
            for row, place, each in zip(part, places, found, strict=True):
                yield row, return_detections(each, place)


def return_detections(found: Detections, place: Placement) -> Detections:
    """Return detections of a square in pixels of its image; empty boxes are left out."""
    width, height = place.size
    edges = torch.tensor([width, height, width, height], dtype=torch.float32)
    boxes = place.boxes_back(found.boxes.float().cpu()).clamp(min=0).minimum(edges)
    full = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    scores, labels = (each.cpu()[full] for each in (found.scores, found.labels))
    masks = None if found.masks is None else found.masks.cpu()[full].float()
    return Detections(boxes[full], scores.float(), labels, masks, (height, width))


def describe_detections(found: Detections) -> Detected:
    """Draw the masks of an image's detections, if there are any, a few at a time, and encode
    them."""
    height, width = found.size
    if found.masks is None:
        return Detected(found.boxes.numpy(), found.scores.numpy(), found.labels.numpy())
    step = max(1, PIXELS // (height * width))
    masks: list[CocoMask] = []
    for start in range(0, len(found.labels), step):
        part = slice(start, start + step)
        drawn = paste(found.masks[part], found.boxes[part], found.size)
        masks += encode_masks(drawn.numpy())
    return Detected(found.boxes.numpy(), found.scores.numpy(), found.labels.numpy(), masks)


def find_all(
    judged: Judged,
    method: Detection,
    where: Processes,
    precision: str,
    report: Report | None = None,
) -> dict[str, Detected]:
    """Detect objects in all images; each process looks at its share, and gets all.

    Args:
        judged: the images.
        method: the detector.
        where: the processes that share the images.
        precision: "float32" or "bfloat16".
        report: called with how many images this process has done, and how many it has.

    Returns:
        What was detected in each image, by its id.
    """
    rows = range(where.rank, len(judged.images), where.size)
    own: dict[str, Detected] = {}
    for row, found in judged.detect(method, rows, where.device, precision):
        own[judged.images.ids[row]] = describe_detections(found)
        if report is not None:
            report(len(own), len(rows))
    parts: list[dict[str, Detected]] = [own]
    if where.size > 1:
        parts = [{} for _ in range(where.size)]
        dist.all_gather_object(parts, own)
    return {name: found for part in parts for name, found in part.items()}


@final
@dataclass(frozen=True, eq=False)
class AveragePrecision:
    """Evaluates a detector: box AP, mask AP and box AP50 on the judged images.

    Attributes:
        judged: the images.
        name: the detector's name for people.
        quiet: whether nothing is shown of the progress.
    """

    judged: Judged
    name: str = "the detector"
    quiet: bool = True

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Box AP, mask AP and box AP50; the first decides which detector is the best."""
        return METRICS

    def measure(
        self, method: Detection, where: Processes, precision: str, workers: int = 0
    ) -> dict[str, float]:
        """Detect objects in all images, and score them; all processes get the same numbers.

        Returns:
            Shares from 0 to 1; nan where there is no object, and of masks where the detector or
            the objects have none.
        """
        images, quiet = self.judged.images, self.quiet or not where.first
        with progress(f"looking with {self.name}", quiet=quiet, inner=True) as report:
            found = find_all(self.judged, method, where, precision, report)
        announce(
            f"scoring what {self.name} finds in {spell_count(len(images), 'image')}", quiet=quiet
        )
        box = score(found, images, "box", matches=False)
        mask_ap = float("nan")
        if images.has_masks and method.learns_masks:
            mask_ap = score(found, images, "mask", matches=False)["ap"]
        return {"box_ap": box["ap"], "mask_ap": mask_ap, "box_ap50": box["ap50"]}


def _autocast(device: str, precision: str) -> AbstractContextManager[None]:
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=precision == "bfloat16")
