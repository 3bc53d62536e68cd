"""What can still be reconstructed from each block: pictures by a deterministic decoder, and their
PSNR."""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from sslens.capture import Features, Maps
from sslens.comparisons import sheets
from sslens.comparisons.depth_lines import lines_by_depth
from sslens.comparisons.inputs import FeatureSets, MapSets, Models
from sslens.comparisons.pool import Pool, ShownImages
from sslens.comparisons.readings import (
    choose_main_pooling,
    list_depths,
    name_pooling,
    read_features,
)
from sslens.comparisons.roles import PIXELS
from sslens.comparisons.rows import Row, make_results
from sslens.figure import Figure, Lines
from sslens.models.taps import Tap
from sslens.probes.decoder import Decoder, fit_decoder, measure_psnr
from sslens.probes.splits import held_out
from sslens.statistics.sampled import Sampled
from sslens.statistics.spread import average_over_sources, estimate_spread
from sslens.table import Results

TITLE = "What can still be reconstructed from each block?"
CAPTION = (
    "PSNR of pictures of about 32 px that a decoder makes from the features after every block,"
    " above from the CLS token, or the mean where a model has none, below from the patch tokens,"
    " each for its own part of the picture. The decoder has two layers: the first is random, the"
    " second is at the exact minimum of the squared error, with the penalty chosen on held-out"
    " training images. No training stops too early, but a larger decoder may find more. Bands are"
    " 95 % intervals over test images. Dashed lines are controls: random initialisations, and raw"
    " pixels, at 8 × 8 above, and below whole, which is the ceiling. In the sheets each row is a"
    " test image, followed by what is made of each block, in order."
)
ON_REQUEST = True
#: the side of pictures in pixels, about; and the test images that are shown
SIDE, SHOWN = 32, 4
TOKENS = "patch tokens"
UNITS = {
    "model": "name",
    "control": "whether it is a control",
    "tap": "where the features are read",
    "depth": "relative depth, 0 to 1",
    "reading": "what is decoded: the pooled features, or each patch token for its own part",
    "psnr": "mean over test images of the peak signal-to-noise ratio, in decibels",
    "low": "lower end of its 95 % interval over images",
    "high": "upper end",
    "over_random": "psnr less the highest of a random initialisation, on the same images",
    "over_random_low": "lower end of its 95 % interval over images",
    "over_random_high": "upper end",
    "nothing": "the PSNR of the mean of the training pictures, which needs no features",
    "side": "of the pictures, pixels",
    "dimensions": "of the features",
    "hidden": "hidden units of the decoder",
    "penalty": "of the decoder, chosen on held-out training images",
    "inside": "whether penalties on both sides of it were tried",
    "trained": "training images",
    "images": "test images",
    **sheets.UNITS,
    "sheet": "the model and what is decoded",
}
PLACE = ("model", "control", "tap", "depth", "reading")
TABLES: Mapping[str, tuple[str, ...]] = {
    "decoded": (
        *(*PLACE, "psnr", "low", "high", "over_random", "over_random_low", "over_random_high"),
        *("nothing", "side", "dimensions", "hidden", "penalty", "inside", "trained", "images"),
    ),
    **sheets.TABLES,
}
TEXTS = ("model", "tap", "reading", *sheets.TEXTS)


@final
@dataclass(frozen=True, eq=False)
class Split:
    """The images that train a decoder, choose its penalty and test it, by id.

    Attributes:
        pool: all images.
        train, validation, test: the ids of each part.
    """

    pool: Pool
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    @classmethod
    def of(cls, pool: Pool, seed: int) -> "Split":
        """Take the bank, or without one half of the images, to train on, less a fifth."""
        test = learnt = pool.sources.images.ids
        if pool.bank is None:
            parts = held_out(np.zeros(len(test), np.int64), test, share=0.5, seed=seed)
            learnt, test = (tuple(test[row] for row in rows) for rows in parts)
        else:
            learnt = pool.bank.images.ids
        rows = held_out(np.zeros(len(learnt), np.int64), learnt, seed=seed + 1)
        train, validation = (tuple(learnt[row] for row in part) for part in rows)
        return cls(pool, train, validation, test)

    def look(self, side: int, part: str) -> Float[Tensor, "image side side 3"]:
        """Return the pictures of a part, from 0 to 1."""
        shown = self.pool.sources if part == "test" else self.pool.among
        pixels = _shrink(shown, side)[shown.locate(getattr(self, part))]
        return torch.from_numpy(pixels).float() / 255


@functools.lru_cache(maxsize=8)
def _shrink(shown: ShownImages, side: int) -> UInt8[np.ndarray, "image side side 3"]:
    return shown.shrink(side)


@final
@dataclass(frozen=True, eq=False)
class Decoded:
    """The test pictures that are decoded from one tap by one reading.

    Attributes:
        place: the columns of the model, tap and reading.
        decoder: what made them.
        psnr: the mean over the test images.
        nothing: the same of the mean training picture.
        pictures: the first ones.
    """

    place: Row
    decoder: Decoder
    psnr: Sampled
    nothing: float
    pictures: UInt8[np.ndarray, "image side side 3"]


def compute(
    models: Models, *, features: FeatureSets, maps: MapSets, pool: Pool, seed: int = 0
) -> Results:
    """Decode the test images from every block of every model and control.

    `decoded` has a row for each tap and reading; `sheets` and `pictures` have the first test images
    with what is decoded. The seed decides the split and the decoders' hidden units.
    """
    split = Split.of(pool, seed)
    found: list[Decoded] = []
    for name, own in features.images.items():
        control = models.is_control(name)
        found += _decode_pooled(name, own, features.bank.get(name, own), split, seed, control)
    for name, made in maps.images.items():
        control = models.is_control(name)
        found += _decode_tokens(name, made, maps.bank.get(name, made), split, seed, control)
    _shrink.cache_clear()
    rows = [*_list_rows(found, split), *sheets.list_sheets(_list_sheets(found, split))]
    return make_results(rows, TABLES, UNITS, TEXTS)


def _decode_pooled(
    name: str, own: Features, bank: Features, split: Split, seed: int, control: bool
) -> Iterator[Decoded]:
    """Decode whole pictures from the pooled features of each block and of the last layer."""
    pooling = choose_main_pooling(own)
    for number in list_depths(own, pooling):
        tap, parts = own.taps[number], {}
        for part in ("train", "validation", "test"):
            features = own if part == "test" else bank
            place = {id_: row for row, id_ in enumerate(features.ids)}
            rows = torch.tensor([place[id_] for id_ in getattr(split, part)])
            parts[part] = read_features(features, tap.name, pooling)[rows].float()[:, None, None]
        places = not {"cls", "patch"} & set(own.poolings)
        place_ = _describe(name, control, tap, name_pooling(pooling, places=places))
        yield _decode(place_, parts, split, SIDE, seed)


def _decode_tokens(
    name: str, own: Maps, bank: Maps, split: Split, seed: int, control: bool
) -> Iterator[Decoded]:
    """Decode each part of the pictures from its own patch token."""
    for tap in own.taps:
        if tap.name not in own.grids:
            continue
        grid = own.grids[tap.name]
        if grid.rows != grid.columns:
            continue
        parts = {
            part: made.read(tap.name, made.rows(getattr(split, part))).float()
            for part, made in (("train", bank), ("validation", bank), ("test", own))
        }
        side = grid.rows * max(1, round(SIDE / grid.rows))
        yield _decode(_describe(name, control, tap, TOKENS), parts, split, side, seed)


def _describe(name: str, control: bool, tap: Tap, reading: str) -> Row:
    place = {"model": name, "control": control, "tap": tap.name, "depth": tap.depth}
    return place | {"reading": reading}


def _decode(
    place: Row,
    parts: Mapping[str, Float[Tensor, "image row column dim"]],
    split: Split,
    side: int,
    seed: int,
) -> Decoded:
    """Fit a decoder of the cells of a grid, and decode the test pictures with it."""
    rows = parts["test"].shape[1]
    flat = {part: values.flatten(0, 2) for part, values in parts.items()}
    targets = {part: _cut(split.look(side, part), rows) for part in parts}
    decoder = fit_decoder(
        flat["train"], targets["train"], flat["validation"], targets["validation"], seed=seed
    )
    pictures = split.look(side, "test")
    made = _join(decoder.decode(flat["test"]), len(pictures), rows, side)
    plain = split.look(side, "train").mean(0).expand_as(pictures)
    psnr = average_over_sources(measure_psnr(made, pictures)[:, None])
    return Decoded(
        place | {"side": side, "dimensions": parts["test"].shape[3]},
        decoder,
        psnr,
        float(measure_psnr(plain, pictures).mean()),
        (made[:SHOWN].clamp(0, 1) * 255).round().to(torch.uint8).numpy(),
    )


def _cut(pictures: Float[Tensor, "image side side 3"], rows: int) -> Float[Tensor, "cell pixel"]:
    """Cut pictures into rows × rows cells."""
    count, side = pictures.shape[:2]
    cell = side // rows
    cells = pictures.reshape(count, rows, cell, rows, cell, 3).permute(0, 1, 3, 2, 4, 5)
    return cells.reshape(count * rows * rows, cell * cell * 3)


def _join(
    cells: Float[Tensor, "cell pixel"], count: int, rows: int, side: int
) -> Float[Tensor, "image side side 3"]:
    """Join the cells of pictures."""
    cell = side // rows
    parts = cells.reshape(count, rows, rows, cell, cell, 3).permute(0, 1, 3, 2, 4, 5)
    return parts.reshape(count, side, side, 3)


def _list_rows(found: list[Decoded], split: Split) -> Iterator[tuple[str, Row]]:
    """Make a row for each tap and reading, held against the best random initialisation."""
    count = len(split.test)
    for one in found:
        controls = [
            other
            for other in found
            if other.place["control"]
            and other.place["tap"] != PIXELS
            and (other.place["reading"] == TOKENS) == (one.place["reading"] == TOKENS)
        ]
        row = one.place | estimate_spread(one.psnr, count).columns("psnr", ("low", "high"))
        if controls:
            best = max(controls, key=lambda other: float(other.psnr.value))
            row |= estimate_spread(one.psnr - best.psnr, count).columns("over_random")
        yield (
            "decoded",
            row
            | {"nothing": one.nothing, "hidden": one.decoder.units, "penalty": one.decoder.penalty}
            | {"inside": one.decoder.inside, "trained": len(split.train), "images": count},
        )


def _list_sheets(found: list[Decoded], split: Split) -> Iterator[sheets.SheetRow]:
    """List the rows of all sheets: a test image, then what is decoded from each block."""
    names = dict.fromkeys((one.place["model"], one.place["reading"]) for one in found)
    sources = split.pool.sources.locate(split.test[:SHOWN])
    for model, reading in names:
        own = [
            one for one in found if (one.place["model"], one.place["reading"]) == (model, reading)
        ]
        if model == PIXELS or len({one.place["side"] for one in own}) > 1:
            continue
        pictures = (split.look(int(own[0].place["side"]), "test")[:SHOWN] * 255).round()
        for number, source in enumerate(sources):
            key = f"{split.test[number]}, {own[0].place['side']} px"
            shown = [(key, pictures[number].to(torch.uint8).numpy())]
            for one in own:
                name = f"{key} by {model}, {reading}, {one.place['tap']}"
                shown.append((name, one.pictures[number]))
            label = split.pool.sources.name(source)
            yield sheets.SheetRow(f"{model}, {reading}", number, label, shown)


def draw(results: Results) -> Figure:
    """Draw PSNR against depth, for pooled features and for patch tokens, and below a sheet for each
    model and reading."""
    frame = results["decoded"]
    frame = frame.assign(pooling=np.where(frame.tap == PIXELS, "flat", ""))
    whole, tokens = frame[frame.reading != TOKENS], frame[frame.reading == TOKENS]
    panels = [_panel("pooled features", whole), _panel(TOKENS, tokens)]
    rows = [(panel, None) for panel in panels if panel.lines]
    if "sheets" not in results:
        return Figure("decoder-depth", tuple(rows))
    drawn = sheets.draw_sheets(results["sheets"], results["pictures"])
    return Figure("decoder-depth", (*rows, *drawn))


def _panel(title: str, frame: pd.DataFrame) -> Lines:
    lines = tuple(lines_by_depth(frame, ("psnr", "low", "high")))
    facets = {"features": title}
    return Lines(title, "relative depth", "PSNR, dB", lines, None, facets=facets)
