"""Average precision of boxes and masks, equal to pycocotools' to the last digit."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, final

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from sslens.counts import spell_count
from sslens.data.detections import DetectionSet
from sslens.data.rle import import_hotcoco
from sslens.errors import InputError, nearest
from sslens.scoring.areas import COCO_AREAS, AreaBins
from sslens.scoring.detected import CocoMask, Detected
from sslens.scoring.matches import Columns, Matches, read_matches
from sslens.statistics.bootstrap import DRAWS, Bootstrapped, draw_weights

Kind = Literal["box", "mask"]
#: the first is the process in which hotcoco's threads are
_threads_of: list[int] = []
#: average precision, in the order of pycocotools' summary: over the IoU thresholds 0.5, 0.55, …,
#: 0.95, at 0.5, at 0.75, and of small, medium and large objects
PRECISIONS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
#: average recall with at most 1, 10 and 100 detections an image, and of each size with 100
RECALLS = ("ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large")
#: of each number of `PRECISIONS`: the size (all, small, medium, large), and the IoU thresholds
_READ = {
    "ap": (0, slice(None)),
    "ap50": (0, slice(0, 1)),
    "ap75": (0, slice(5, 6)),
    "ap_small": (1, slice(None)),
    "ap_medium": (2, slice(None)),
    "ap_large": (3, slice(None)),
}


@final
@dataclass(frozen=True, eq=False)
class Scores:
    """How well a detector finds the objects of a set of images.

    Attributes:
        kind: whether boxes or masks are scored.
        areas: the bins of size.
        categories: names of the categories.
        numbers: the twelve numbers of pycocotools' summary, `PRECISIONS` and `RECALLS`, from 0 to
            1; nan where there is no object.
        by_category: `PRECISIONS` of each category; nan where a category has no object.
        images: identifies the images and their objects.
        count: number of images.
        matches: which detections are true; None unless they were asked for.
    """

    kind: Kind
    areas: AreaBins
    categories: tuple[str, ...]
    numbers: Float64[np.ndarray, "12"]
    by_category: Float64[np.ndarray, "6 category"]
    images: str
    count: int
    matches: Matches | None

    def __getitem__(self, name: str) -> float:
        """One of the twelve numbers, such as "ap50"."""
        return float(self.numbers[_find_number(name, (*PRECISIONS, *RECALLS))])

    def bootstrap(self, draws: int = DRAWS, seed: int = 0) -> Bootstrapped:
        """Compute `PRECISIONS` in draws of the images with replacement.

        Two models that are scored on the same images are drawn alike, so that
        `one.bootstrap() - other.bootstrap()` is paired. A category without an object in a draw is
        left out of that draw's mean over categories, as pycocotools does.

        Args:
            draws: number of draws.
            seed: seed of the draws.

        Returns:
            Six cells, in the order of `PRECISIONS`.

        Raises:
            InputError: the scores have no matches.
        """
        by_category = self.bootstrap_categories(draws, seed)
        with np.errstate(invalid="ignore", divide="ignore"):
            fine = np.isfinite(by_category.draws)
            total = np.where(fine, by_category.draws, 0).sum(axis=1)
            means = total / fine.sum(axis=1)
        return Bootstrapped(self.numbers[:6], means, by_category.drawn, self.count)

    def bootstrap_categories(self, draws: int = DRAWS, seed: int = 0) -> Bootstrapped:
        """Compute `PRECISIONS` of each category in the draws of `bootstrap`.

        Returns:
            Cells [number, category].

        Raises:
            InputError: the scores have no matches.
        """
        weights = draw_weights(self.count, draws, seed)
        drawn = (self.images, self.kind, self.areas, draws, seed)
        return Bootstrapped(self.by_category, self._weigh(weights), drawn, self.count)

    def _weigh(
        self, weights: Float64[np.ndarray, "image draw"]
    ) -> Float64[np.ndarray, "6 category draw"]:
        if self.matches is None:
            raise InputError(
                "These scores were computed without matches, and intervals need them",
                mend="score the detections with {matches=True}",
            )
        precisions = self.matches.average_precisions(weights, len(self.categories))
        return np.stack([precisions[size, rows].mean(axis=0) for size, rows in _READ.values()])

    def state(self) -> dict[str, Tensor]:
        """The scores as tensors, for the store; `from_state` reads them."""
        about = {
            "kind": self.kind,
            "areas": asdict(self.areas),
            "categories": self.categories,
            "images": self.images,
            "count": self.count,
        }
        state = {
            "about": torch.tensor(list(json.dumps(about).encode()), dtype=torch.uint8),
            "numbers": torch.from_numpy(self.numbers),
            "by_category": torch.from_numpy(self.by_category),
        }
        if self.matches is not None:
            columns = vars(self.matches).items()
            state |= {f"matches.{name}": torch.from_numpy(one) for name, one in columns}
        return state

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "Scores":
        """Read scores from the tensors of `state`."""
        about = json.loads(bytes(state["about"].tolist()))
        columns = {
            name.removeprefix("matches."): one.numpy()
            for name, one in state.items()
            if name.startswith("matches.")
        }
        return cls(
            about["kind"],
            AreaBins(**about["areas"]),
            tuple(about["categories"]),
            state["numbers"].numpy(),
            state["by_category"].numpy(),
            about["images"],
            about["count"],
            Matches(**columns) if columns else None,
        )


def _find_number(name: str, names: tuple[str, ...]) -> int:
    if name not in names:
        raise InputError(f'There is no score "{name}": {nearest(name, names)}')
    return names.index(name)


def score(
    detections: Mapping[str, Detected],
    images: DetectionSet,
    kind: Kind = "box",
    areas: AreaBins = COCO_AREAS,
    *,
    matches: bool = True,
) -> Scores:
    """Score detections as COCO does: average precision over ten IoU thresholds, and by size.

    The numbers are hotcoco's, and equal pycocotools' to the last digit. Masks are scored without
    their boxes, as detectron2 does, so that the area of a mask and not of its box decides its size.
    Where `areas` are relative, the area of each object and detection is divided by its image's.
    Detections of equal score are in the order of the images' ids, as in pycocotools where its image
    ids are in this order.

    Args:
        detections: what was found in each image, by the image's id; nothing, too, is an entry.
        images: the images with their objects.
        kind: "box" or "mask".
        areas: the bins of size (`areas.choose_areas`).
        matches: whether to keep what intervals need. It takes most of the time.

    Raises:
        InputError: an image has no entry, an id is unknown, a detection has no such category, a
            number is not finite, masks are missing, or hotcoco is not installed; or this process
            was forked from one which had scored.

    >>> from sslens.data.scene_objects import scene_objects
    >>> from sslens.scoring.detected import encode_masks
    >>> scenes = scene_objects(3)
    >>> found = {}
    >>> for row, name in enumerate(scenes.ids):
    ...     targets = scenes.targets(row)
    ...     masks, sure = encode_masks(targets.masks()), np.ones(len(targets))
    ...     found[name] = Detected(targets.boxes, sure, targets.labels, masks)
    >>> [round(score(found, scenes, kind)["ap"], 6) for kind in ("box", "mask")]
    [1.0, 1.0]
    """
    _require_entries(detections, images)
    ordered = images.take(sorted(range(len(images)), key=images.ids.__getitem__))
    entries = [detections[name] for name in ordered.ids]
    truth = _list_objects(ordered, kind, areas)
    results, columns = _list_detections(entries, ordered, kind)
    found = truth.load_res(results)
    if areas.relative and len(columns.image):
        _divide_areas(found, ordered, columns)
    run = _evaluate(truth, found, kind, areas)
    numbers, by_category = _read_numbers(run.eval["precision"], run.eval["recall"])
    return Scores(
        kind,
        areas,
        images.categories,
        numbers,
        by_category,
        ordered.digest,
        len(images),
        _read_matches(run.eval_imgs, areas, columns, ordered) if matches else None,
    )


def _evaluate(truth: Any, found: Any, kind: Kind, areas: AreaBins) -> Any:
    _require_threads()
    run = import_hotcoco().COCOeval(truth, found, "bbox" if kind == "box" else "segm")
    parameters = run.params
    parameters.area_rng = areas.ranges
    run.evaluate()
    run.accumulate()
    return run


def _require_threads() -> None:
    """Refuse to score in a process that was forked from one which had scored.

    hotcoco's pool of threads begins with the first evaluation and does not survive a fork: the
    evaluation would wait for ever. Reading and drawing masks needs no threads, so that workers
    which load images may be forked.

    Raises:
        InputError: this process was forked from one which had scored.
    """
    if not _threads_of:
        _threads_of.append(os.getpid())
    if _threads_of[0] != os.getpid():
        raise InputError(
            "This process was forked from one that had scored detections, and hotcoco's threads do"
            " not survive a fork: score in the first process, or start this one with the method"
            ' "spawn" of multiprocessing.'
        )


def _read_matches(
    entries: list[Any], areas: AreaBins, detections: Columns, images: DetectionSet
) -> Matches:
    objects = images.objects
    of_objects = Columns(objects.image, objects.labels, np.zeros(len(objects.image)))
    return read_matches(entries, areas.ranges, detections, of_objects)


def _require_entries(detections: Mapping[str, Detected], images: DetectionSet) -> None:
    missing = [name for name in images.ids if name not in detections]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(images)} images have no entry of detections, the first is"
            f" {missing[0]}: give an empty one where nothing was found."
        )
    unknown = sorted(set(detections) - set(images.ids))
    if unknown:
        raise InputError(
            f"Detections of {unknown[0]} are given, which is no image of {images.name}:"
            f" {nearest(unknown[0], images.ids)}"
        )
    for name, one in detections.items():
        if not (np.isfinite(one.boxes).all() and np.isfinite(one.scores).all()):
            raise InputError(f"A box or a score of {name} is not finite: give finite numbers.")
        if len(one) and not 0 <= one.labels.min() <= one.labels.max() < len(images.categories):
            raise InputError(
                f"The labels of {name} reach from {one.labels.min()} to {one.labels.max()},"
                f" for {spell_count(len(images.categories), 'category')}: number them from 0."
            )


def _list_objects(images: DetectionSet, kind: Kind, areas: AreaBins) -> Any:
    """The annotated objects as hotcoco's data set."""
    objects = images.objects
    if kind == "mask" and not images.has_masks:
        raise InputError(f"{images.name} has boxes and no masks", mend="score with {kind=box}")
    masks = None
    if kind == "mask":
        masks = [one for row in range(len(images)) for one in images.targets(row).segmentations()]
    rows = objects.sizes.tolist()
    return import_hotcoco().COCO.from_arrays(
        [
            {"id": number, "height": height, "width": width}
            for number, (height, width) in enumerate(rows, 1)
        ],
        [{"id": number, "name": name} for number, name in enumerate(images.categories, 1)],
        objects.image + 1,
        objects.labels + 1,
        objects.bbox,
        ids=np.arange(1, len(objects.image) + 1),
        area=objects.relative_area if areas.relative else objects.area,
        iscrowd=objects.crowd.astype(np.int64),
        segmentation=masks,
    )


def _list_detections(
    entries: list[Detected], images: DetectionSet, kind: Kind
) -> tuple[Any, Columns]:
    """The detections as hotcoco reads them, and as columns."""
    image = np.repeat(np.arange(len(entries)), [len(one) for one in entries])
    labels = np.concatenate([np.zeros(0, np.int64), *(one.labels for one in entries)])
    scores = np.concatenate([np.zeros(0), *(one.scores for one in entries)]).astype(np.float64)
    columns = Columns(image, labels, scores)
    if kind == "box":
        boxes = np.concatenate([np.zeros((0, 4)), *(one.boxes for one in entries)])
        boxes = boxes.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        table = (image[:, None] + 1, boxes, scores[:, None], labels[:, None] + 1)
        return np.concatenate(table, axis=1), columns
    sizes = images.objects.sizes.tolist()
    masks: list[CocoMask] = []
    for one, size, name in zip(entries, sizes, images.ids, strict=True):
        ours = () if one.masks is None else one.masks
        if len(ours) != len(one):
            raise InputError(
                f"{name} has {spell_count(len(one), 'detection')} and"
                f" {spell_count(len(ours), 'mask')}: give each."
            )
        if any(list(mask["size"]) != size for mask in ours):
            raise InputError(
                f"A mask found in {name} is not of the image's size, {size[0]} × {size[1]}: paste"
                " masks into the image as it was annotated."
            )
        masks.extend(ours)
    keys = zip((image + 1).tolist(), (labels + 1).tolist(), scores.tolist(), masks, strict=True)
    results = [
        {"image_id": number, "category_id": label, "score": sure, "segmentation": mask}
        for number, label, sure, mask in keys
    ]
    return results, columns


def _divide_areas(found: Any, images: DetectionSet, columns: Columns) -> None:
    """Divide the area of each detection by its image's."""
    ids = np.arange(1, len(columns.image) + 1)
    areas = np.array([one["area"] for one in found.load_anns(ids.tolist())], np.float64)
    pixels = images.objects.sizes[columns.image].prod(axis=1)
    found.update_anns(ids=ids, area=areas / pixels)


def _read_numbers(
    precision: Any, recall: Any
) -> tuple[Float64[np.ndarray, "12"], Float64[np.ndarray, "6 category"]]:
    """The twelve numbers, and average precision by category.

    A mean is over all cells that are defined, in the order of pycocotools' arrays, so that it is
    the same to the last digit.

    Args:
        precision: by threshold, recall, category, size and most detections (1, 10, 100).
        recall: by threshold, category, size and most detections.
    """
    precisions, recalls = np.asarray(precision), np.asarray(recall)
    numbers = [_average(precisions[rows, :, :, size, 2]) for size, rows in _READ.values()]
    numbers += [_average(recalls[:, :, 0, most]) for most in range(3)]
    numbers += [_average(recalls[:, :, size, 2]) for size in (1, 2, 3)]
    by_category = [
        [_average(precisions[rows, :, label, size, 2]) for label in range(precisions.shape[2])]
        for size, rows in _READ.values()
    ]
    return np.array(numbers), np.array(by_category)


def _average(values: np.ndarray) -> float:
    defined = values[values > -1]
    return float(np.mean(defined)) if defined.size else float("nan")
