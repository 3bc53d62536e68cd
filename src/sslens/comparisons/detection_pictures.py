"""Pictures of what detectors find: in which images detectors are best and worst, and what is drawn
on them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64
from PIL import Image

from sslens.comparisons.detectors import DetectorSet, Found
from sslens.comparisons.rows import Row
from sslens.data.detections import DetectionSet, Objects
from sslens.figure import Outline, Picture, decode_picture, encode_picture

#: a detection counts, and is drawn, from this score on; it is right from this overlap on
SCORE, OVERLAP = 0.5, 0.5
#: images of each kind, the best and the worst
EACH = 3
#: the longer side of a picture in pixels
SIDE = 240
#: the place of images that all detectors see equally well or badly
ALIKE = "alike"
#: what is drawn: an object, a detection that is right, and one that is not
OBJECT, RIGHT, WRONG = "object", "detected", "detected wrongly"
TABLES: Mapping[str, tuple[str, ...]] = {
    "pictures": ("image", "place", "f1", "picture"),
    "outlines": ("image", "model", "outline", "category", "score", "x0", "y0", "x1", "y1"),
}
UNITS = {
    "image": "its id",
    "place": "among the images in which the models are best, or worst; alike where none is either",
    "f1": (
        "2 · right / (detections + objects), mean over the models under study; detections with a"
        " score of 0.5 or more, right at an overlap of 0.5 or more with an object of their"
        " category"
    ),
    "picture": "the image, its longer side 240 pixels at most",
    "outline": "an object, or a detection of the model, right or wrong",
    "category": "of the object or the detection",
    "score": "of the detection",
    "x0": "left edge, pixels of the picture",
    "y0": "upper edge",
    "x1": "right edge",
    "y1": "lower edge",
}
TEXTS = ("image", "place", "picture", "model", "outline", "category")


def pair_objects(
    found: Found, objects: Objects
) -> tuple[Int64[np.ndarray, " detection"], Float64[np.ndarray, " image"]]:
    """Give each detection that counts the object that it detects, and score each image.

    Of the objects of its image and category a detection takes the one with the largest overlap; of
    several detections of an object the one with the highest score is right.

    Args:
        found: the detections of all images.
        objects: the objects of the same images.

    Returns:
        For each detection the row of the object that it is right about, or -1; and the F1 of each
            image, nan where there is neither an object nor a detection.
    """
    count = len(objects.sizes)
    counted = np.flatnonzero(found.scores >= SCORE)
    rows = np.flatnonzero(~objects.crowd)
    order = rows[np.argsort(objects.image[rows], kind="stable")]
    per_image = np.bincount(objects.image[rows], minlength=count)
    starts = np.cumsum(per_image) - per_image
    lengths = per_image[found.image[counted]]
    detection = np.repeat(counted, lengths)
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    owner = order[np.repeat(starts[found.image[counted]], lengths) + within]
    corners = np.concatenate([objects.bbox[:, :2], objects.bbox[:, :2] + objects.bbox[:, 2:]], 1)
    overlaps = _measure_overlap(found.boxes[detection].astype(np.float64), corners[owner])
    fits = (overlaps >= OVERLAP) & (found.labels[detection] == objects.labels[owner])
    pairs = pd.DataFrame(
        {
            "detection": detection[fits],
            "object": owner[fits],
            "overlap": overlaps[fits],
            "score": found.scores[detection[fits]],
        }
    )
    pairs = pairs.sort_values(["overlap", "detection"], ascending=[False, True], kind="stable")
    pairs = pairs.drop_duplicates("detection")
    pairs = pairs.sort_values(["score", "detection"], ascending=[False, True], kind="stable")
    pairs = pairs.drop_duplicates("object")
    right = np.full(len(found.scores), -1, np.int64)
    right[pairs.detection] = pairs.object
    hits = np.bincount(objects.image[pairs.object.to_numpy(np.int64)], minlength=count)
    total = per_image + np.bincount(found.image[counted], minlength=count)
    with np.errstate(invalid="ignore"):
        return right, 2 * hits / np.where(total, total, np.nan)


def _measure_overlap(
    one: Float64[np.ndarray, "pair 4"], other: Float64[np.ndarray, "pair 4"]
) -> Float64[np.ndarray, " pair"]:
    """Intersection over union of pairs of boxes."""
    upper, lower = np.maximum(one[:, :2], other[:, :2]), np.minimum(one[:, 2:], other[:, 2:])
    shared = np.prod(np.clip(lower - upper, 0, None), axis=1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (one, other)]
    return shared / np.maximum(areas[0] + areas[1] - shared, 1e-12)


def list_pictures(detectors: DetectorSet, studied: Sequence[str]) -> Iterator[tuple[str, Row]]:
    """Make the rows of `pictures` and `outlines`: the same images for all detectors.

    Args:
        detectors: all detectors; what each of them finds is drawn.
        studied: the names of the models that decide which images these are; all unless there are
            some.
    """
    images = detectors.images
    objects = images.objects
    paired = {name: pair_objects(one.found, objects) for name, one in detectors.detectors.items()}
    f1 = np.mean([paired[name][1] for name in studied or paired], axis=0)
    for row, place in choose_images(f1, objects):
        pixels, scale = _shrink(images, row)
        about = {"image": images.ids[row], "place": place, "f1": float(f1[row])}
        yield "pictures", about | {"picture": encode_picture(pixels)}
        own = (objects.image == row) & ~objects.crowd
        for at in np.flatnonzero(own).tolist():
            corners = [*objects.bbox[at, :2], *(objects.bbox[at, :2] + objects.bbox[at, 2:])]
            category = images.categories[objects.labels[at]]
            yield "outlines", _outline(images.ids[row], "", OBJECT, category, corners, scale)
        for name, one in detectors.detectors.items():
            found, right = one.found, paired[name][0]
            for at in np.flatnonzero((found.image == row) & (found.scores >= SCORE)).tolist():
                kind = RIGHT if right[at] >= 0 else WRONG
                category = images.categories[found.labels[at]]
                corners = found.boxes[at].tolist()
                drawn = _outline(images.ids[row], name, kind, category, corners, scale)
                yield "outlines", drawn | {"score": float(found.scores[at])}


def choose_images(f1: Float64[np.ndarray, " image"], objects: Objects) -> list[tuple[int, str]]:
    """Choose the images: of those with an object the best and the worst, the fuller one first where
    two are alike; where all are alike none is best or worst, and the fullest are shown."""
    counts = np.bincount(objects.image[~objects.crowd], minlength=len(f1))
    rows = np.flatnonzero(np.isfinite(f1) & (counts > 0))
    best = rows[np.lexsort((-counts[rows], -f1[rows]))].tolist()
    if len(rows) and np.ptp(f1[rows]) == 0:
        return [(row, ALIKE) for row in best[:EACH]]
    worst = rows[np.lexsort((-counts[rows], f1[rows]))].tolist()
    each = min(EACH, len(rows) // 2)
    best = best[:each]
    worst = [row for row in worst if row not in best][:each]
    return [(row, "best") for row in best] + [(row, "worst") for row in worst]


def _shrink(images: DetectionSet, row: int) -> tuple[np.ndarray, float]:
    """The pixels of an image as a picture, and the pixels of it for one pixel of the image."""
    image = images.image(row)
    scale = min(1.0, SIDE / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR)), scale


def _outline(
    image: str, model: str, kind: str, category: str, corners: Sequence[float], scale: float
) -> Row:
    edges = dict(zip(("x0", "y0", "x1", "y1"), (scale * edge for edge in corners), strict=True))
    return {"image": image, "model": model, "outline": kind, "category": category} | edges


def draw_pictures(
    pictures: pd.DataFrame, outlines: pd.DataFrame, models: Sequence[str]
) -> list[tuple[Picture, ...]]:
    """Draw a row of panels for each model, the best images first: the objects, and over them what
    the model detects."""
    shown = [(row, decode_picture(str(row["picture"]))) for row in pictures.to_dict("records")]
    rows = []
    for model in models:
        panels, place = [], None
        for row, pixels in shown:
            title = "" if row["place"] == place else f"{row['place']} images"
            title = f"{model}, {title}" if title and place is None else title
            place = row["place"]
            own = outlines[(outlines.image == row["image"]) & outlines.model.isin(("", model))]
            own = own.sort_values("model", kind="stable")  # objects have no model and come first
            drawn = tuple(_read(outline) for outline in own.to_dict("records"))
            panels.append(Picture(title, pixels, drawn, facets={"boxes": f"of {model}"}))
        rows.append(tuple(panels))
    return rows


def _read(row: Mapping[str, Any]) -> Outline:
    label, score = str(row["category"]), row["score"]
    box = (float(row["x0"]), float(row["y0"]), float(row["x1"]), float(row["y1"]))
    return Outline(str(row["outline"]), label if score != score else f"{label} {score:.2f}", box)
