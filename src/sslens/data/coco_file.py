"""Annotation files of COCO's format, read into columns, and each of their faults counted."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Bool, Float64, Int64

from sslens.data.decoding import explain_error
from sslens.data.rle import Rle, decompress
from sslens.errors import InputError, shorten
from sslens.whole_file import open_regular

#: pixels of the longest side of an image, and the largest number of a box or an area
LONGEST, MOST = 1 << 31, 1e15
#: what is said of an annotation that may or may not be a crowd
CROWD = "with an iscrowd that is neither 0 nor 1"
#: pixels by which a box may reach over the image's edge, because of rounding
_ROUNDING = 1.0
#: what a file holds besides boxes of objects, by a key of its annotations
_OTHER_KINDS = {"segments_info": "panoptic segments", "caption": "captions", "score": "detections"}
_NAMES_OF_COCO = """person, bicycle, car, motorcycle, airplane, bus, train, truck, boat,
    traffic light, fire hydrant, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow,
    elephant, bear, zebra, giraffe, backpack, umbrella, handbag, tie, suitcase, frisbee, skis,
    snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard,
    tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich,
    orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed,
    dining table, toilet, tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster,
    sink, refrigerator, book, clock, vase, scissors, teddy bear, hair drier, toothbrush"""
#: names of COCO's categories, in the order of their ids
COCO_CATEGORIES = tuple(" ".join(name.split()) for name in _NAMES_OF_COCO.split(","))


@final
@dataclass(frozen=True, eq=False)
class CocoFile:
    """The content of an annotation file.

    Attributes:
        path: of the file.
        sha256: of the file's bytes (hex).
        file_names: of each image, with "/" between folders.
        sizes: (height, width) of each image in pixels.
        categories: names, in the order of the categories' ids.
        annotations: the objects.
    """

    path: Path
    sha256: str
    file_names: tuple[str, ...]
    sizes: Int64[np.ndarray, "image 2"]
    categories: tuple[str, ...]
    annotations: "Annotations"


@final
@dataclass(frozen=True, eq=False)
class Annotations:
    """Objects as columns, in the order of the file.

    Attributes:
        ids: id of each annotation in its file.
        image: index of its image; -1 if the image is not listed.
        labels: index of its category; -1 if the category is not listed.
        bbox: (x, y, width, height) in pixels; nan where it is no box.
        crowd: whether the annotation is of a crowd.
        area: in pixels; nan where it is not given.
        masks: polygons, as arrays, or run lengths; None where there is no mask; a text that says
            what is wrong with the mask or with iscrowd.
    """

    ids: tuple[Any, ...]
    image: Int64[np.ndarray, " object"]
    labels: Int64[np.ndarray, " object"]
    bbox: Float64[np.ndarray, "object 4"]
    crowd: Bool[np.ndarray, " object"]
    area: Float64[np.ndarray, " object"]
    masks: tuple[Any, ...]

    def take(self, rows: Int64[np.ndarray, " taken"]) -> "Annotations":
        """Select annotations."""
        return Annotations(
            tuple(self.ids[row] for row in rows.tolist()),
            self.image[rows],
            self.labels[rows],
            self.bbox[rows],
            self.crowd[rows],
            self.area[rows],
            tuple(self.masks[row] for row in rows.tolist()),
        )


def read_coco(path: Path) -> CocoFile:
    """Read an annotation file.

    Raises:
        InputError: the file cannot be read, is not JSON, or is not of COCO's format.
    """
    try:
        with open_regular(path) as file:
            raw = file.read()
        content = json.loads(raw)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({explain_error(error)}): give an annotation file of COCO's"
            " format."
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is no JSON ({error}): give an annotation file of COCO's format."
        ) from error
    images, annotations, categories = _require_lists(path, content)
    _require_objects(path, annotations)
    names, category_rows = _read_categories(path, categories)
    file_names, sizes, image_rows = _read_images(path, images)
    columns = _read_annotations(annotations, image_rows, category_rows)
    return CocoFile(path, hashlib.sha256(raw).hexdigest(), file_names, sizes, names, columns)


def _require_lists(path: Path, content: Any) -> tuple[list[Any], list[Any], list[Any]]:
    keys = ("images", "annotations", "categories")
    if isinstance(content, dict):
        lists = [content.get(key) for key in keys]
        missing = [
            key
            for key, rows in zip(keys, lists, strict=True)
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows)
        ]
        if not missing:
            return content["images"], content["annotations"], content["categories"]
        have = ", ".join(map(str, list(content)[:8])) or "nothing"
        found = f"it has no list of {' and none of '.join(missing)}, and holds {have}"
    else:
        detections = isinstance(content, list) and content and "score" in str(content[0])
        found = "it is a list" + (" of detections" if detections else "")
    raise InputError(
        f"{path} is not of COCO's format ({found}): give a file with the lists images, annotations"
        " and categories."
    )


def _require_objects(path: Path, annotations: Sequence[dict[str, Any]]) -> None:
    for key, kind in _OTHER_KINDS.items():
        if annotations and key in annotations[0]:
            raise InputError(
                f"{path} holds {kind} and no objects: give COCO's file of instances, or another"
                " with a bbox in each annotation."
            )


def _read_categories(
    path: Path, categories: Sequence[dict[str, Any]]
) -> tuple[tuple[str, ...], dict[Any, int]]:
    """Names in the order of the ids, and the place of each id."""
    for category in categories:
        if not isinstance(category.get("id"), int) or not isinstance(category.get("name"), str):
            raise InputError(
                f"{path}: the category {category} lacks a whole number as id or a name: give both."
            )
    ordered = sorted(categories, key=lambda category: category["id"])
    ids = [category["id"] for category in ordered]
    if len(set(ids)) != len(ids):
        twice, _ = Counter(ids).most_common(1)[0]
        raise InputError(f"{path}: two categories have the id {twice}: give each its own.")
    counts = Counter(category["name"] for category in ordered)
    names = [
        category["name"] if counts[category["name"]] == 1 else f"{category['name']} ({number})"
        for number, category in zip(ids, ordered, strict=True)
    ]
    return tuple(names), {number: row for row, number in enumerate(ids)}


def _read_images(
    path: Path, images: Sequence[dict[str, Any]]
) -> tuple[tuple[str, ...], Int64[np.ndarray, "image 2"], dict[Any, int]]:
    """File names, sizes, and the place of each id."""
    for image in images:
        sides = [image.get(key) for key in ("height", "width")]
        whole = all(isinstance(side, int) and 1 <= side <= LONGEST for side in sides)
        named = isinstance(image.get("file_name"), str) and isinstance(image.get("id"), int | str)
        if not named or not whole:
            told = {key: image.get(key) for key in ("id", "file_name", "height", "width")}
            shown = shorten(str(told), 300)
            raise InputError(
                f"{path}: the image {shown} lacks an id, a file_name, or a height and a width in"
                " pixels: give all four."
            )
    for key in ("id", "file_name"):
        twice, count = (
            Counter(image[key] for image in images).most_common(1)[0]
            if images
            else (
                None,
                1,
            )
        )
        if count > 1:
            raise InputError(
                f'{path}: {count} images have the {key} "{twice}": list each image once.'
            )
    names = tuple(image["file_name"].replace("\\", "/").removeprefix("./") for image in images)
    sizes = np.array([(image["height"], image["width"]) for image in images], np.int64)
    rows = {image["id"]: row for row, image in enumerate(images)}
    return names, sizes.reshape(-1, 2), rows


def _read_annotations(
    annotations: Sequence[dict[str, Any]], images: dict[Any, int], categories: dict[Any, int]
) -> Annotations:
    count = len(annotations)
    bbox = np.full((count, 4), np.nan)
    area = np.full(count, np.nan)
    masks: list[Any] = []
    for row, annotation in enumerate(annotations):
        box = annotation.get("bbox")
        if isinstance(box, list) and len(box) == 4 and all(map(_is_number, box)):
            bbox[row] = box
        size = annotation.get("area")
        if size is not None and _is_number(size):
            area[row] = size
        masks.append(_read_mask(annotation.get("segmentation")))
        if annotation.get("iscrowd", 0) not in (0, 1, None):
            masks[-1] = CROWD
    return Annotations(
        tuple(annotation.get("id") for annotation in annotations),
        _find_rows(images, [annotation.get("image_id") for annotation in annotations]),
        _find_rows(categories, [annotation.get("category_id") for annotation in annotations]),
        bbox,
        np.array([annotation.get("iscrowd") in (1, True) for annotation in annotations], bool),
        area,
        tuple(masks),
    )


def _find_rows(places: dict[Any, int], ids: Sequence[Any]) -> Int64[np.ndarray, " object"]:
    rows = [places.get(one, -1) if isinstance(one, int | str) else -1 for one in ids]
    return np.array(rows, np.int64)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < MOST  # not where it is NaN


def _read_mask(segmentation: Any) -> Any:
    """Pack a segmentation: polygons as arrays, run lengths as they are, None for none, and the
    reason where it is neither."""
    if not segmentation:
        return None
    if isinstance(segmentation, dict):
        return segmentation
    try:
        polygons = [np.array(polygon, np.float64) for polygon in segmentation]
    except (TypeError, ValueError, OverflowError):
        return "with a damaged mask"
    if any(
        polygon.ndim != 1
        or len(polygon) < 6
        or len(polygon) % 2
        or not bool(np.isfinite(polygon).all())
        for polygon in polygons
    ):
        return "with a damaged mask"
    return polygons


def find_faults(annotations: Annotations, sizes: Int64[np.ndarray, "image 2"]) -> list[str | None]:
    """Find what is wrong with each annotation: words that follow "an annotation"; None if nothing
    is.

    Args:
        annotations: the objects.
        sizes: (height, width) of each image in pixels.
    """
    image = annotations.image
    height, width = (sizes[image] if len(sizes) else np.ones((len(image), 2))).T
    x, y, wide, high = annotations.bbox.T
    with np.errstate(invalid="ignore"):
        outside = (x >= width) | (y >= height) | (x + wide <= 0) | (y + high <= 0)
        over = (x < -_ROUNDING) | (y < -_ROUNDING)
        over |= (x + wide > width + _ROUNDING) | (y + high > height + _ROUNDING)
        flat = (wide <= 0) | (high <= 0)
    tests = (
        ("of an image that is not listed", image < 0),
        ("of a category that is not listed", annotations.labels < 0),
        ("without a box", ~np.isfinite(annotations.bbox).all(axis=1)),
        ("with a box without extent", flat),
        ("with a box outside its image", outside),
        ("with a box that reaches over its image's edge", over),
    )
    faults: list[str | None] = [None] * len(image)
    for words, is_bad in reversed(tests):
        for row in np.flatnonzero(is_bad).tolist():
            faults[row] = words
    some_masks = any(mask is not None and mask is not CROWD for mask in annotations.masks)
    for row, mask in enumerate(annotations.masks):
        if faults[row] is None:
            if mask is None:
                faults[row] = "without a mask, where others have one" if some_masks else None
            else:
                faults[row] = _find_mask_fault(mask, int(height[row]), int(width[row]))
    return faults


def _find_mask_fault(mask: Any, height: int, width: int) -> str | None:
    if isinstance(mask, str):
        return mask
    if isinstance(mask, list):
        points = [(polygon[0::2], polygon[1::2]) for polygon in mask]
        inside = any(
            xs.max() > 0 and ys.max() > 0 and xs.min() < width and ys.min() < height
            for xs, ys in points
        )
        return None if inside else "with a mask outside its image"
    size, counts = mask.get("size"), mask.get("counts")
    if not isinstance(size, list) or not isinstance(counts, list | str):
        return "with a damaged mask"
    if size != [height, width]:
        return "with a mask of another size than its image"
    try:
        lengths = decompress(counts) if isinstance(counts, str) else np.array(counts, np.int64)
        Rle(height, width, lengths)
    except (InputError, TypeError, ValueError, OverflowError):
        return "with a damaged mask"
    return None
