"""What scoring costs beside pycocotools: 2,000 images, 42,000 detections, boxes and masks, in turn.

    OMP_NUM_THREADS=1 RAYON_NUM_THREADS=1 python bench/scoring.py
    OMP_NUM_THREADS=1 RAYON_NUM_THREADS=1 python bench/scoring.py --images 200 --detections 4200

14,000 objects of 80 categories in images of 480 × 640 pixels; half of the detections are near an
object. Each round scores once with each; from the annotated objects and the detections in memory to
the twelve numbers ("evaluation" is without reading both in), on one thread, in processor time, in
which other work on the machine has little part. A share is the median over rounds of pycocotools'
time over ours, with the lowest and highest. Then: the matches that intervals need, and 1,000 draws
of the images.

Targets: at least 20 times as fast on boxes and on masks, all twelve numbers bit-equal.
"""

import argparse
import contextlib
import io
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sslens.data.coco import CocoMasks
from sslens.data.detections import DetectionSet
from sslens.data.images import ImageSet
from sslens.data.rle import Rle
from sslens.data.targets import Targets
from sslens.scoring.areas import COCO_AREAS
from sslens.scoring.detected import Detected
from sslens.scoring.score import Kind, score

SIZE = (480, 640)
CATEGORIES = 80
KINDS: tuple[Kind, Kind] = ("box", "mask")


@dataclass(frozen=True)
class Made:
    """Objects in memory."""

    all_targets: list[Targets]
    categories: tuple[str, ...] = tuple(f"category {at}" for at in range(CATEGORIES))
    has_masks: bool = True
    is_coco: bool = True
    left_out: tuple[tuple[str, int], ...] = ()
    digest: str = field(default="made")

    def image(self, row: int) -> Image.Image:
        raise NotImplementedError

    def targets(self, row: int) -> Targets:
        return self.all_targets[row]

    def digests(self, rows: Any) -> list[str]:
        return [f"{self.digest}/{row}" for row in rows]


def draw_ellipses(generator: np.random.Generator, count: int) -> np.ndarray:
    """Centre and radii (x, y, rx, ry) of ellipses of all sizes."""
    radii = np.exp(generator.normal(2.9, 0.8, (count, 2))).clip(2, 200)
    return np.concatenate([generator.uniform((20, 20), (620, 460), (count, 2)), radii], axis=1)


def trace(ellipse: np.ndarray) -> Rle:
    """The mask of an ellipse, one run a column."""
    height, width = SIZE
    cx, cy, rx, ry = ellipse
    columns = np.arange(max(0, int(cx - rx)), min(width, int(cx + rx) + 1))
    half = ry * np.sqrt(np.maximum(0, 1 - ((columns + 0.5 - cx) / rx) ** 2))
    top = np.clip(np.round(cy - half), 0, height).astype(np.int64)
    bottom = np.clip(np.round(cy + half), 0, height).astype(np.int64)
    taken = (bottom > top) & (bottom - top < height)
    runs = np.stack([columns * height + top, columns * height + bottom], axis=1)[taken]
    return Rle(height, width, np.diff(runs.ravel(), prepend=0, append=height * width))


def make_image(generator: np.random.Generator, objects: int, near: int, far: int) -> Any:
    """The objects of an image, and what a detector finds: some near objects, some elsewhere."""
    ellipses = draw_ellipses(generator, objects)
    labels = generator.integers(0, CATEGORIES, objects)
    rles = tuple(trace(one) for one in ellipses)
    corners = np.array([rle.box for rle in rles]).reshape(-1, 4)
    bbox = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    area = np.array([rle.area for rle in rles], np.float64)
    given = CocoMasks(tuple(compress(rle) for rle in rles), *SIZE)  # as a file would give them
    targets = Targets(*SIZE, bbox, labels, np.zeros(objects, bool), area, given)
    at = generator.integers(0, max(1, objects), near if objects else 0)
    moved = ellipses[at] + generator.normal(0, 0.1, (len(at), 4)) * ellipses[at][:, [2, 3, 2, 3]]
    found = np.concatenate([moved, draw_ellipses(generator, far + near - len(at))])
    other = generator.integers(0, CATEGORIES, len(found) - len(at))
    masks = [compress(trace(one)) for one in found]
    corners = np.concatenate([found[:, :2] - found[:, 2:], found[:, :2] + found[:, 2:]], axis=1)
    scores = generator.random(len(found))
    return targets, Detected(corners, scores, np.concatenate([labels[at], other]), masks)


def compress(rle: Rle) -> dict[str, Any]:
    mask = coco_masks.frPyObjects(rle.to_coco(), *SIZE)
    return {"size": mask["size"], "counts": mask["counts"].decode()}


def list_for_pycocotools(
    images: DetectionSet, found: dict[str, Detected], kind: Kind
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    objects: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for row, name in enumerate(images.ids):
        targets, one = images.targets(row), found[name]
        for at, mask in enumerate(targets.segmentations()):
            objects.append(
                {
                    "id": len(objects) + 1,
                    "image_id": row + 1,
                    "category_id": int(targets.labels[at]),
                    "bbox": targets.bbox[at].tolist(),
                    "area": float(targets.area[at]),
                    "iscrowd": 0,
                    "segmentation": mask,
                }
            )
        for at, (x0, y0, x1, y1) in enumerate(one.boxes.tolist()):
            own: dict[str, Any] = {"bbox": [x0, y0, x1 - x0, y1 - y0]}
            if kind == "mask":
                own = {"segmentation": (one.masks or ())[at]}
            keys = {"image_id": row + 1, "category_id": int(one.labels[at])}
            results.append({**keys, "score": float(one.scores[at]), **own})
    truth = {
        "images": [
            {"id": row + 1, "height": SIZE[0], "width": SIZE[1]} for row in range(len(images))
        ],
        "annotations": objects,
        "categories": [{"id": at, "name": name} for at, name in enumerate(images.categories)],
    }
    return truth, results


def run_pycocotools(
    truth: dict[str, Any], results: list[dict[str, Any]], kind: Kind
) -> tuple[np.ndarray, float]:
    """The twelve numbers, and the time of the evaluation alone."""
    with contextlib.redirect_stdout(io.StringIO()):
        objects = COCO()
        objects.dataset = truth
        objects.createIndex()
        detections = objects.loadRes([dict(one) for one in results])
        begun = time.process_time()
        run = COCOeval(objects, detections, "bbox" if kind == "box" else "segm")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return np.asarray(run.stats), time.process_time() - begun


def measure(work: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[Any, float]:
    begun = time.process_time()
    result = work(*arguments, **options)
    return result, time.process_time() - begun


def compare(
    kind: Kind, images: DetectionSet, found: dict[str, Detected], rounds: int, draws: int
) -> None:
    truth, results = list_for_pycocotools(images, found, kind)
    shares, alone, ours_s, theirs_s = [], [], [], []
    equal = True
    for _ in range(rounds):
        scores, ours = measure(score, found, images, kind, COCO_AREAS, matches=False)
        (stats, evaluation), theirs = measure(run_pycocotools, truth, results, kind)
        shares.append(theirs / ours)
        alone.append(evaluation / ours)
        ours_s.append(ours)
        theirs_s.append(theirs)
        defined = np.where(stats > -1, stats, np.nan)
        equal = equal and np.array_equal(defined, scores.numbers, equal_nan=True)
    print(
        f"{kind:5} pycocotools {statistics.median(theirs_s):.2f} s, sslens"
        f" {statistics.median(ours_s):.3f} s: {statistics.median(shares):.1f} times"
        f" ({min(shares):.1f} to {max(shares):.1f}); pycocotools' evaluation alone over all of ours"
        f" {statistics.median(alone):.1f}; twelve numbers bit-equal: {equal}"
    )
    whole, with_matches = measure(score, found, images, kind, COCO_AREAS)
    drawn, drawing = measure(whole.bootstrap, draws)
    estimate = drawn[0].estimate()
    print(
        f"      with matches {with_matches:.2f} s; {draws:,} draws {drawing:.2f} s:"
        f" AP {estimate.value:.4f} ({estimate.low:.4f} to {estimate.high:.4f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in (("images", 2000), ("detections", 42_000), ("rounds", 3), ("draws", 1000)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    each = options.detections // options.images
    made = [
        make_image(generator, int(generator.poisson(7)), each // 2, each - each // 2)
        for _ in range(options.images)
    ]
    ids = tuple(f"{row:06d}" for row in range(options.images))
    source = Made([targets for targets, _ in made])
    images = DetectionSet(ImageSet("made", ids, None, (), source, objects=source))
    found = {name: one for name, (_, one) in zip(ids, made, strict=True)}
    count = sum(len(one) for one in found.values())
    print(f"{len(images):,} images, {len(images.objects.labels):,} objects, {count:,} detections")
    for kind in KINDS:
        compare(kind, images, found, options.rounds, options.draws)


if __name__ == "__main__":
    main()
