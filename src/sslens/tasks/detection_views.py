"""The views of a detection's images: maps that are kept, or squares with large-scale jitter, each
with the objects in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from sslens.data.detections import DetectionSet
from sslens.data.jitter import place_at, place_pixels, shown
from sslens.data.placing import Placement
from sslens.data.streams import depth_noise, sampling_noise, stream
from sslens.methods import Rows
from sslens.tasks.detection_batch import pack_objects, place_objects
from sslens.tasks.detection_maps import CachedMaps
from sslens.tasks.detection_settings import Settings
from sslens.tasks.start import StartingPoint

#: key of the random stream of scales, places and flips; those of `sslens.data.streams` are smaller
VIEWS = 7


@final
@dataclass(frozen=True, eq=False)
class DetectionStart:
    """What is needed to make the views of a detection's images.

    Attributes:
        images: the training images with their objects.
        start: how the network wants images to be prepared.
        maps: the maps of the images; None where the network is trained too.
    """

    images: DetectionSet
    start: StartingPoint
    maps: CachedMaps | None = None


def batch(
    images: Sequence[Image.Image], settings: Settings, start: DetectionStart, rows: Rows
) -> dict[str, Tensor]:
    """Make one view of each image: its square, or the maps of one, and the objects in it.

    Returns:
        "boxes", "labels" and, where they are known, "masks" as `pack_objects` packs them; "sizes"
            [image 2], the height and width within which the square shows something; "noise"
            [image], by which anchors and regions are sampled; and "view" [image 3 size size], or
            "map.0", … [image row column dim] of a frozen network. End to end with `drop_path` also
            "depth" [image branch], uniform in [0, 1).
    """
    assert rows.numbers is not None
    tensors: dict[str, Tensor] = {"noise": sampling_noise(**rows.keywords())}
    targets = [start.images.targets(number) for number in rows.numbers]
    sizes = [(each.width, each.height) for each in targets]
    if start.maps is None:
        places = _jitter(sizes, settings, rows)
        tensors["view"] = see_images(images, places, start.start)
        if settings.drop_path:
            tensors["depth"] = depth_noise(**rows.keywords(), places=start.start.branches)
    else:
        generator = stream(rows.seed, rows.step, VIEWS)
        side = start.maps.sides[int(generator.integers(len(start.maps.sides)))]
        flips = (generator.random(rows.total) < 0.5 * settings.flip)[rows.rows].tolist()
        maps = start.maps.read(rows.numbers, side, flips)
        tensors |= {f"map.{number}": each for number, each in enumerate(maps)}
        places = [
            start.maps.view(side, flip).place(size) for size, flip in zip(sizes, flips, strict=True)
        ]
    objects = [place_objects(own, place) for own, place in zip(targets, places, strict=True)]
    tensors["sizes"] = torch.tensor([find_extent(place) for place in places])
    return tensors | pack_objects(objects)


def find_extent(place: Placement) -> tuple[int, int]:
    """Return the height and width within which a square shows something of its image; of a flipped
    square the whole width, for the image lies at its right edge."""
    width, height = shown(place)
    return height, place.side if place.flipped else width


def _jitter(sizes: Sequence[tuple[int, int]], settings: Settings, rows: Rows) -> list[Placement]:
    """Draw a scale, a part where the image is larger than the square, and a flip of each image."""
    drawn = stream(rows.seed, rows.step, VIEWS).random((rows.total, 4))[rows.rows]
    low, high = settings.jitter
    return [
        place_at(
            size,
            settings.size,
            scale=low + (high - low) * scale,
            at=(left, upper),
            flip=bool(flip < 0.5 * settings.flip),
        )
        for size, (scale, left, upper, flip) in zip(sizes, drawn.tolist(), strict=True)
    ]


def see_images(
    images: Sequence[Image.Image], places: Sequence[Placement], start: StartingPoint
) -> Float[Tensor, "image 3 size size"]:
    """Put images into their squares, normalised; the rest of a square is the mean colour."""
    t = start.transform
    red, green, blue = (round(255 * value) for value in t.mean)
    squares = [
        place_pixels(image, place, (red, green, blue), t.interpolation)
        for image, place in zip(images, places, strict=True)
    ]
    return t.normalise(np.stack(squares))
