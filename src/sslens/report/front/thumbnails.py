"""Small pictures of images where they are evidence: on which two models differ most, which only one
of them has right, and the nearest neighbours of an image by layer."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import final

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from PIL import Image

from sslens.comparisons.pool import ShownImages
from sslens.figure import Panel, Sheet
from sslens.figure.sheets import BETWEEN
from sslens.report.writing.numbers import spell_level
from sslens.report.writing.thumbnails import (
    APART,
    NEIGHBOURS,
    ONE_RIGHT,
    name_layer,
    name_only,
)
from sslens.table import Results

#: the longest side of a picture in pixels, and the pairs of models that have pictures
SIDE, PAIRS = 40, 60
#: pictures of neighbours that a page holds at most; further models have none
MOST = 600


def draw_thumbnails(
    results: Mapping[str, Results], shown: ShownImages, bank: ShownImages | None = None
) -> dict[str, Sequence[Panel]]:
    """Draw sheets of pictures for each two models and for each model, by the name of the section
    that shows them.

    Args:
        results: the results of the analyses that ran, by the analysis' name.
        shown: the images under study, as the first model sees them.
        bank: the images in which neighbours are sought; None where these are the other images
            under study.
    """
    album = _Album(shown)
    among = album if bank is None else _Album(bank)
    blocks, knn = (results.get(name, Results({})) for name in ("cka-blocks", "knn-depth"))
    drawn: dict[str, list[Panel]] = {"cka-blocks": [], "knn-depth": []}
    if "apart" in blocks:
        drawn["cka-blocks"] += _draw_apart(blocks["apart"], album)
    if "disagreements" in knn:
        drawn["knn-depth"] += _draw_one_right(knn["disagreements"], album)
    if "neighbours" in knn:
        drawn["knn-depth"] += _draw_neighbours(knn["neighbours"], album, among)
    return {name: tuple(panels) for name, panels in drawn.items() if panels}


@final
class _Album:
    """The small pictures of a set of images, each made once."""

    def __init__(self, shown: ShownImages) -> None:
        self._shown = shown
        self._places = {name: row for row, name in enumerate(shown.images.ids)}
        self._pictures: dict[str, UInt8[np.ndarray, "small small 3"]] = {}

    def show(self, ids: Sequence[Sequence[str]]) -> UInt8[np.ndarray, "row column side side 3"]:
        """Return the pictures of images in rows; a row that is shorter than the longest ends in
        white."""
        for name in itertools.chain.from_iterable(ids):
            if name not in self._pictures:
                self._pictures[name] = _shrink(self._shown.look(self._places[name]))
        longest = max(map(len, ids))
        white = np.full_like(next(iter(self._pictures.values())), BETWEEN)
        return np.stack(
            [
                np.stack([*(self._pictures[name] for name in row), *[white] * (longest - len(row))])
                for row in ids
            ]
        )


def _draw_apart(rows: pd.DataFrame, album: _Album) -> Iterator[Sheet]:
    """A sheet for each pair: the images on which the two differ most, with how alike they are."""
    for pair, own in _list_pairs(rows):
        levels = tuple(spell_level(float(value)) for value in own.similarity)
        yield Sheet(APART, album.show([list(own.image)]), ("",), levels, facets={"pair": pair})


def _draw_one_right(rows: pd.DataFrame, album: _Album) -> Iterator[Sheet]:
    """A sheet for each pair: images that only the first has right, and that only the second has."""
    for pair, own in _list_pairs(rows):
        sides = [(str(name), part) for name, part in own.groupby("right", sort=False)]
        labels = tuple(
            name_only(name, int(part["count"].iloc[0]), int(part.images.iloc[0]))
            for name, part in sides
        )
        pixels = album.show([list(part.image) for _, part in sides])
        columns = tuple(str(number + 1) for number in range(pixels.shape[1]))
        yield Sheet(ONE_RIGHT, pixels, labels, columns, facets={"pair": pair})


def _draw_neighbours(rows: pd.DataFrame, album: _Album, among: _Album) -> Iterator[Sheet]:
    """A sheet for each model and image: a row for each layer, the image and its neighbours."""
    held: set[str] = set()
    for (model, image), own in rows.groupby(["model", "image"], sort=False):
        held |= set(own.neighbour)
        if len(held) > MOST:
            return
        layers = {str(tap): part for tap, part in own.groupby("tap", sort=False)}
        labels = tuple(
            name_layer(tap, int((part.neighbour_label == part.label).sum()), len(part))
            for tap, part in layers.items()
        )
        near = among.show([list(part.neighbour) for part in layers.values()])
        pixels = np.concatenate([album.show([[image]] * len(layers)), near], 1)
        columns = ("image", *(str(number + 1) for number in range(near.shape[1])))
        facets = {"model": str(model), "image": f"{own.label.iloc[0]}, {image}"}
        yield Sheet(NEIGHBOURS, pixels, labels, columns, facets=facets)


def _list_pairs(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of the first pairs of models, with the pair's name."""
    groups = rows.groupby(["model_a", "model_b"], sort=False)
    for (a, b), own in itertools.islice(groups, PAIRS):
        yield f"{a} · {b}", own


def _shrink(pixels: UInt8[np.ndarray, "side side 3"]) -> UInt8[np.ndarray, "small small 3"]:
    """A picture with a longest side of at most `SIDE` pixels; all are square."""
    if len(pixels) <= SIDE:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX))
