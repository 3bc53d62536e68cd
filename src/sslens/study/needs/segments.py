"""The class and the object of each pixel, as each model sees the images."""

from typing import TYPE_CHECKING, Any

from sslens.comparisons.segments import BACKGROUND, IGNORED, SegmentedImages, Segments, View
from sslens.store import Store, digest
from sslens.study.needs import maps
from sslens.study.seen import list_seen
from sslens.study.situation import Captured, Lack, Situation

if TYPE_CHECKING:
    from torch import Tensor

    from sslens.data.images import ImageSet
    from sslens.data.transform import EvalTransform
    from sslens.models.backbone import Backbone

TYPE = Segments
#: of how masks are painted
VERSION = 1
#: fewest images that are trained on, chosen on and tested on
FEWEST = 8


def unmet(situation: Situation) -> Lack | None:
    """Masks are known of COCO's images, of other images in its format, and of scenes."""
    sets = situation.sets
    give = "give {images=coco:IMAGES:ANNOTATIONS.json} or {images=scenes-detection:1:400}"
    sources = [one.objects for one in sets if one.objects is not None and one.objects.has_masks]
    if not sets or len(sources) < len(sets):
        return Lack("of the images no masks of objects are known", give)
    if any(one.categories != sources[0].categories for one in sources):
        return Lack("the bank has objects of other categories than the images", give)
    if min(map(len, sets)) < FEWEST:
        return Lack(f"segmentation needs {FEWEST} images with masks or more", "give more {images}")
    return maps.unmet(situation)


def gather(captured: Captured) -> Segments:
    """Paint the masks of all images as each model sees them; they are kept in the store."""
    situation, seen = captured.situation, list_seen(captured.situation)
    images, bank = situation.images, situation.bank
    assert images is not None
    assert images.objects is not None
    return Segments(
        (BACKGROUND, *images.objects.categories),
        _paint_set(images, seen, captured.store),
        None if bank is None else _paint_set(bank, seen, captured.store),
    )


def _paint_set(
    images: "ImageSet", seen: "dict[str, Backbone]", store: Store | None
) -> SegmentedImages:
    painted: dict[tuple[Any, ...], View] = {}
    views = {}
    for name, model in seen.items():
        geometry = model.transform.geometry
        if geometry not in painted:
            painted[geometry] = _paint(images, model.transform, store)
        views[name] = painted[geometry]
    return SegmentedImages(images.ids, views, images.content)


def _paint(images: "ImageSet", transform: "EvalTransform", store: Store | None) -> View:
    """The masks of all images as one transform shows them, painted or from the store."""
    key = {
        "images": images.content,
        "ids": digest(images.ids),
        "geometry": list(transform.geometry),
        "version": VERSION,
    }
    tensors = store.read("segments", key) if store is not None else None
    if tensors is None:
        tensors = _paint_each(images, transform)
        if store is not None:
            store.write("segments", key, tensors)
    return View(tensors["masks"], tensors["objects"])


def _paint_each(images: "ImageSet", transform: "EvalTransform") -> "dict[str, Tensor]":
    """Paint the resized image, not the original, so that memory stays small at any size."""
    from dataclasses import replace

    import numpy as np
    import torch

    from sslens.data.detections import DetectionSet

    found, side = DetectionSet.of(images), transform.crop
    masks = np.zeros((len(found), side, side), np.int16)
    objects = np.zeros_like(masks)
    for row in range(len(found)):
        targets = found.targets(row)
        place = transform.place((targets.width, targets.height))
        place = replace(place, size=place.resized)
        number = targets.paint_objects(place.resized[::-1])
        own = np.concatenate([targets.crowd, [False]])
        label = np.concatenate([targets.labels + 1, [0]])[number]
        masks[row] = place.sample(np.where(own[number], IGNORED, label), IGNORED)
        objects[row] = place.sample(np.where(own[number], -1, number), -1)
    return {"masks": torch.from_numpy(masks), "objects": torch.from_numpy(objects)}


def key(value: Segments) -> str:
    """Return a digest of the images, their objects, and the models that see them."""
    return value.digest()
