"""Real images that share a representation: the nearest neighbours of images, and what varies among
them (beside figures 3, 17 and 18 of Shekhar et al., 2023; without diffusion)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Int64

from sslens.comparisons import sheets
from sslens.comparisons.inputs import FeatureSets, Models
from sslens.comparisons.pool import Pool, ShownImages
from sslens.comparisons.readings import find_last_tap, list_poolings, read_features
from sslens.comparisons.rows import Row, make_results
from sslens.figure import Figure, Heatmap
from sslens.probes.knn import SCALES, Scale, neighbours, standardise
from sslens.statistics.sampled import Sampled
from sslens.statistics.spread import estimate_spread, measure_spread
from sslens.table import Results

TITLE = "What varies among images with one representation?"
CAPTION = (
    "The nearest neighbours of each image, by the cosine of the features after the last layer (CLS"
    " token, or the mean where a model has none; each dimension standardised by the images in which"
    " neighbours are sought). Above, how far each known quantity of 8 neighbours lies from the"
    " image's: mean squared difference, of kinds the share of another kind, both over that of all"
    " images in which neighbours are sought. 0: the neighbours have the image's value, which the"
    " representation therefore holds; 1: they are as far from it as any image. In a larger set"
    " neighbours lie closer. Below, the first images, each with its nearest neighbours, as the"
    " models see them. Controls: random initialisations and raw pixels. Intervals, 95 %, are over"
    " the images; the tables have them, with raw features and the mean of patch tokens beside."
)
ON_REQUEST = True
#: neighbours of which the spread is measured, those that are shown, and the images with these
K, SHOWN, SOURCES = 8, 6, 4
UNITS = {
    "model": "name",
    "control": "whether it is a control",
    "tap": "where the features are read",
    "pooling": (
        "cls, mean (of all tokens, or places of a CNN's map), patch (mean of patch tokens), or flat"
    ),
    "features": "raw, or standardised: each dimension less its mean, over its deviation",
    "main": "whether it is the usual pooling, standardised",
    "quantity": "a known quantity of the images",
    "kind": "categorical, continuous or circular",
    "spread": (
        "mean squared difference of the neighbours from the image, over that of all images; of"
        " kinds the share of another kind over that of all images; empty where all are alike"
    ),
    "low": "lower end of its 95 % interval over images",
    "high": "upper end",
    "over_control": "spread less the smallest of a control, on the same images",
    "over_control_low": "lower end of its 95 % interval over images",
    "over_control_high": "upper end",
    "against": "the control",
    "neighbours": "of each image",
    "images": "images with neighbours",
    "pool": "images in which neighbours are sought",
    **sheets.UNITS,
}
PLACE = ("model", "control", "tap", "pooling", "features", "main")
TABLES: Mapping[str, tuple[str, ...]] = {
    "spreads": (
        *(*PLACE, "quantity", "kind", "spread", "low", "high"),
        *("over_control", "over_control_low", "over_control_high", "against"),
        *("neighbours", "images", "pool"),
    ),
    **sheets.TABLES,
}
TEXTS = ("model", "tap", "pooling", "features", "quantity", "kind", "against", *sheets.TEXTS)


@final
@dataclass(frozen=True, eq=False)
class Found:
    """The neighbours of all images by one reading of a model.

    Attributes:
        place: the columns of the model and the reading.
        queries: the position of each image in the set of images, in the order of the features.
        rows: the positions of its neighbours in the pool, nearest first.
        spreads: the spread of each quantity.
    """

    place: Row
    queries: Int64[np.ndarray, " image"]
    rows: Int64[np.ndarray, "image k"]
    spreads: Mapping[str, Sampled]


def compute(models: Models, *, features: FeatureSets, pool: Pool, seed: int = 0) -> Results:
    """Find the neighbours of every image by every model and control, and measure their spread.

    `spreads` has a row for each known quantity and reading of a model; `sheets` and `pictures` have
    the first images with their neighbours. The seed is not used: nothing is drawn.
    """
    found = [
        one
        for name in features.images
        for one in _find(name, features, pool, control=models.is_control(name))
    ]
    rows = [*_list_spreads(found, pool), *sheets.list_sheets(_list_rows(found, pool))]
    return make_results(rows, TABLES, UNITS, TEXTS)


def _find(name: str, features: FeatureSets, pool: Pool, *, control: bool) -> Iterator[Found]:
    """Find the neighbours by each pooling, and raw and standardised features, of one model."""
    own, bank = features.images[name], features.bank.get(name)
    among = own if bank is None else bank
    tap = find_last_tap(own)
    queries = np.array(pool.sources.locate(own.ids))
    places = np.array(pool.among.locate(among.ids))
    k = min(K, len(among) - (bank is None))
    for number, pooling in enumerate(list_poolings(own)):
        asked = read_features(own, tap, pooling)
        searched = asked if bank is None else read_features(among, tap, pooling)
        sides: dict[Scale, tuple[torch.Tensor, torch.Tensor]] = {
            "raw": (asked, searched),
            "standardised": standardise(asked, searched),
        }
        for scale in SCALES:
            one, other = sides[scale]
            if not other.shape[1]:
                continue
            near = neighbours(one, other, k, leave_one_out=bank is None)[0].numpy()
            main = not number and scale == "standardised"
            place = {"model": name, "control": control, "tap": tap, "pooling": pooling}
            place |= {"features": scale, "main": main}
            rows = places[near]
            yield Found(place, queries, rows, _measure(pool, queries, rows))


def _measure(
    pool: Pool, queries: Int64[np.ndarray, " image"], rows: Int64[np.ndarray, "image k"]
) -> Mapping[str, Sampled]:
    """Measure the spread of each quantity among the neighbours, in the order of the images."""
    order = np.argsort(queries)
    return {
        name: measure_spread(
            pool.sources.values[name][queries[order]],
            pool.among.values[name][rows[order]],
            pool.among.values[name],
        )
        for name in pool.kinds
    }


def _list_spreads(found: Sequence[Found], pool: Pool) -> Iterator[tuple[str, Row]]:
    """Make a row for each reading and quantity, held against the best control of that reading."""
    for one in found:
        controls = [
            other
            for other in found
            if other.place["control"] and other.place["features"] == one.place["features"]
        ]
        size = {"neighbours": one.rows.shape[1], "images": len(one.queries)}
        size["pool"] = len(pool.among.images)
        for name, spread in one.spreads.items():
            best = min(controls, key=lambda other: float(other.spreads[name].value), default=None)
            row = {"quantity": name, "kind": pool.kinds[name], **size}
            row |= estimate_spread(spread, len(one.queries), 0.0).columns("spread", ("low", "high"))
            if best is not None:
                less = estimate_spread(spread - best.spreads[name], len(one.queries))
                row |= less.columns("over_control") | {"against": best.place["model"]}
            yield "spreads", one.place | row


def _list_rows(found: Sequence[Found], pool: Pool) -> Iterator[sheets.SheetRow]:
    """List the rows of all sheets: the first images, each with its neighbours."""
    for one in found:
        if not one.place["main"]:
            continue
        row_of = {int(query): row for row, query in enumerate(one.queries)}
        for source in range(min(SOURCES, len(one.queries))):
            near = one.rows[row_of[source], :SHOWN].tolist()
            shown = [_show(pool.sources, source), *(_show(pool.among, row) for row in near)]
            name = str(one.place["model"])
            yield sheets.SheetRow(name, source, pool.sources.name(source), shown)


def _show(images: ShownImages, row: int) -> tuple[str, np.ndarray]:
    """The id and the pixels of an image."""
    return images.images.ids[row], images.look(row)


def draw(results: Results) -> Figure:
    """Draw the spread of each quantity by model, and below it a sheet for each model: the images
    in rows, each with its nearest neighbours."""
    frame = results["spreads"]
    main = frame[frame.main]
    names = list(dict.fromkeys(main.model))[::-1]
    quantities = tuple(dict.fromkeys(main.quantity))
    values = main.pivot(index="model", columns="quantity", values="spread")
    top = max(1.0, float(np.nanmax(values.to_numpy(), initial=1.0)))
    heatmap = Heatmap(
        "",
        values.loc[names, list(quantities)].to_numpy(np.float64),
        tuple(names),
        quantities,
        "",
        "",
        (0.0, top),
        "spread among neighbours, over that of all images",
    )
    drawn = sheets.draw_sheets(results["sheets"], results["pictures"])
    return Figure("neighbours", ((heatmap, *(None,) * (sheets.ACROSS - 1)), *drawn))
