"""Small pictures of images where they are evidence: on which two models differ most, and which only
one of them has right."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from PIL import Image

from sslens.comparisons.pool import ShownImages
from sslens.figure import Panel, Sheet
from sslens.report.writing.thumbnails import APART, ONE_RIGHT, name_only, name_similarity
from sslens.table import Results

#: the longest side of a picture in pixels, and the pairs of models that have pictures
SIDE, PAIRS = 40, 60


def draw_thumbnails(
    results: Mapping[str, Results], shown: ShownImages
) -> dict[str, Sequence[Panel]]:
    """Draw sheets of pictures for each two models, by the name of the section that shows them.

    Args:
        results: the results of the analyses that ran, by the analysis' name.
        shown: the images under study, as the first model sees them.
    """
    drawn: dict[str, Sequence[Panel]] = {}
    if "cka-blocks" in results and "apart" in results["cka-blocks"]:
        drawn["cka-blocks"] = tuple(_draw_apart(results["cka-blocks"]["apart"], shown))
    if "knn-depth" in results and "disagreements" in results["knn-depth"]:
        drawn["knn-depth"] = tuple(_draw_one_right(results["knn-depth"]["disagreements"], shown))
    return drawn


def _draw_apart(rows: pd.DataFrame, shown: ShownImages) -> Iterator[Sheet]:
    """A sheet for each pair: the images on which the two differ most, with how alike they are."""
    for pair, own in _list_pairs(rows):
        levels = tuple(name_similarity(float(value)) for value in own.similarity)
        yield Sheet(APART, _show([list(own.image)], shown), ("",), levels, facets={"pair": pair})


def _draw_one_right(rows: pd.DataFrame, shown: ShownImages) -> Iterator[Sheet]:
    """A sheet for each pair: images that only the first has right, and that only the second has."""
    for pair, own in _list_pairs(rows):
        sides = [(str(name), part) for name, part in own.groupby("right", sort=False)]
        labels = tuple(
            name_only(name, int(part["count"].iloc[0]), int(part.images.iloc[0]))
            for name, part in sides
        )
        pixels = _show([list(part.image) for _, part in sides], shown)
        columns = tuple(str(number + 1) for number in range(pixels.shape[1]))
        yield Sheet(ONE_RIGHT, pixels, labels, columns, facets={"pair": pair})


def _list_pairs(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of the first pairs of models, with the pair's name."""
    groups = rows.groupby(["model_a", "model_b"], sort=False)
    for number, ((a, b), own) in enumerate(groups):
        if number < PAIRS:
            yield f"{a} · {b}", own


def _show(
    ids: Sequence[Sequence[str]], shown: ShownImages
) -> UInt8[np.ndarray, "row column side side 3"]:
    """The pictures of images in rows; a row that is shorter than the longest ends in white."""
    names = list(dict.fromkeys(name for row in ids for name in row))
    rows = zip(names, shown.locate(names), strict=True)
    pictures = {name: _shrink(shown.look(row)) for name, row in rows}
    longest = max(map(len, ids))
    white = np.full_like(next(iter(pictures.values())), 255)
    return np.stack(
        [
            np.stack([*(pictures[name] for name in row), *[white] * (longest - len(row))])
            for row in ids
        ]
    )


def _shrink(pixels: UInt8[np.ndarray, "side side 3"]) -> UInt8[np.ndarray, "small small 3"]:
    """A picture with a longest side of at most `SIDE` pixels; all are square."""
    if len(pixels) <= SIDE:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX))
