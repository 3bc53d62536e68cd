"""The nearest neighbours of a few images after each layer of a model."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from sslens.capture import Features
from sslens.comparisons.classified import order_by_digest
from sslens.comparisons.inputs import FeatureSets, Labels, Models
from sslens.comparisons.readings import choose_main_pooling, list_depths
from sslens.comparisons.rows import Row
from sslens.probes.knn import neighbours

#: images of which neighbours are named, neighbours of each, and layers of a model
SOURCES, SHOWN, LAYERS = 2, 5, 6
#: the columns of the table `neighbours`
NEIGHBOURS = (
    *("model", "control", "tap", "depth", "pooling", "image", "label"),
    *("place", "neighbour", "neighbour_label", "cosine"),
)
UNITS: dict[str, str] = {
    "neighbour": "id of the neighbour, in the set of images that vote",
    "neighbour_label": "its class",
    "cosine": "of the raw features of the two",
}
TEXTS = ("neighbour", "neighbour_label")


def list_neighbours(
    models: Models, features: FeatureSets, labels: Labels
) -> Iterator[tuple[str, Row]]:
    """Make the rows of the table `neighbours`: of each model and control the five nearest
    neighbours of two images, after up to six layers, by the cosine of raw features with the usual
    pooling.

    The images come first by SHA-256 of their ids, as in `disagreements`: a sample of them, the same
    for all models. Layers at which all images are alike are left out.
    """
    ids = next(iter(features.images.values())).ids
    chosen = [ids[row] for row in order_by_digest(ids)[:SOURCES]]
    for name, queries in features.images.items():
        for row in _list_of_model(queries, features.bank.get(name), chosen, labels):
            yield "neighbours", {"model": name, "control": models.is_control(name), **row}


def choose_layers(count: int) -> list[int]:
    """Choose up to six of the layers of a model, evenly, with the last one.

    >>> choose_layers(4), choose_layers(13)
    ([0, 1, 2, 3], [1, 3, 5, 8, 10, 12])
    """
    places = np.linspace(count / min(count, LAYERS), count, min(count, LAYERS)).round() - 1
    return [int(place) for place in places]


def _list_of_model(
    queries: Features, bank: Features | None, chosen: Sequence[str], labels: Labels
) -> Iterator[Row]:
    """The rows of one model, without its name."""
    pooling = choose_main_pooling(queries)
    depths = list_depths(queries, pooling)
    rows = [queries.ids.index(image) for image in chosen]
    among, known = (queries, labels.images) if bank is None else (bank, labels.bank)
    # where the images are held against each other, an image is its own first neighbour
    count = min(SHOWN + (bank is None), len(among))
    for place in choose_layers(len(depths)):
        tap = queries.taps[depths[place]]
        values = queries.read(tap.name, pooling)
        searched = values if bank is None else among.read(tap.name, pooling)
        if bool((searched == searched[0]).all()):
            continue
        near, cosines = neighbours(values[torch.tensor(rows)], searched, count)
        about = {"tap": tap.name, "depth": tap.depth, "pooling": pooling}
        for image, found, levels in zip(chosen, near.tolist(), cosines.tolist(), strict=True):
            about |= {"image": image, "label": labels.classes[labels.images[image]]}
            others = [
                (among.ids[one], level)
                for one, level in zip(found, levels, strict=True)
                if bank is not None or among.ids[one] != image
            ]
            for number, (other, level) in enumerate(others[:SHOWN]):
                own = {"neighbour_label": labels.classes[known[other]], "cosine": level}
                yield {**about, "place": number, "neighbour": other, **own}
