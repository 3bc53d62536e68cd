"""Generated images that share a representation with a source (figures 3, 17 and 18 of Shekhar et
al., 2023): what varies among them, and how far they can be trusted."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import final

import numpy as np
import pandas as pd

from sslens.comparisons import sheets
from sslens.comparisons.inputs import Models
from sslens.comparisons.rows import Row, make_results
from sslens.comparisons.samples import ModelSamples, Readings, SampleSet
from sslens.comparisons.targets import code_factors
from sslens.figure import Figure
from sslens.probes.factors import kind_of
from sslens.probes.fidelity import Whitening, measure_cosines, rank_sources
from sslens.probes.realism import compare_sets, measure_frechet_distance
from sslens.statistics.sampled import Sampled
from sslens.statistics.spread import average_over_sources, estimate_spread, measure_spread
from sslens.table import Results

TITLE = "What varies among generated images with one representation?"
CAPTION = (
    "Each row is an image, the source first, then samples that a generator made from noise"
    " and the source's features; samples in one place of two sheets have one noise. What varies"
    " in a row is what the features do not hold, if the samples are faithful: the table of fidelity"
    " says how often the source is the nearest of up to 1,000 images by the sample's own features"
    " (cosine, centred and whitened), beside a copy of the source that is shifted by one pixel, and"
    " whether the samples look real to another model, where there is one. First a sheet for each"
    " of four images, a model in a row, then a sheet for each model. All sheets are in the folder"
    " sheets."
)
ON_REQUEST = True
#: sources in a sheet of a model and images with a sheet of their own: as files, and in the report
SHEETS, SHOWN = 16, 4
#: share of what a shifted copy reaches, from which on samples count as faithful
FAITHFUL = 0.8
UNITS = {
    "model": "name of the model with features that conditioned the samples",
    "tap": "where these are read",
    "pooling": "how they are pooled",
    "sources": "images of which samples are made",
    "draws": "samples of each",
    "images": "images among which a source is ranked",
    "nearest": "share of samples to which the source is the nearest of these images",
    "nearest_low": "lower end of its 95 % interval over sources",
    "nearest_high": "upper end",
    "nearest_copy": (
        "the same share of copies of the sources, shifted to the right by one pixel of the samples'"
        " size"
    ),
    "faithful": "whether `nearest` is at least 0.8 times `nearest_copy`",
    "margin": "`nearest` less 0.8 times `nearest_copy`",
    "margin_low": "lower end of its 95 % interval over sources, samples and copies paired",
    "margin_high": "upper end",
    "rank": "median rank of the source, 1 the nearest",
    "cosine": "mean cosine of centred, whitened features of a sample and its source",
    "cosine_low": "lower end of its 95 % interval over sources",
    "cosine_high": "upper end",
    "cosine_copy": "the same of the shifted copies",
    "judge": "model that judges quality: another one of the study, or itself where there is none",
    "precision": "share of samples that lie among real images (3-NN), by the judge's features",
    "precision_low": "lower end of its 95 % interval over sources",
    "precision_high": "upper end",
    "precision_real": "the same share of other real images: what a perfect sampler reaches",
    "recall": "share of real images that lie among the samples; small where the sources are few",
    "frechet": (
        "Fréchet distance of the judge's features of samples and of real images; those of"
        " different judges do not compare, and of few images it is too large"
    ),
    "frechet_real": (
        "the same of other real images, half of `images`; these are fewer than the samples, so that"
        " this distance is biased more"
    ),
    "quantity": "a factor of the scenes, read from the pixels by a network",
    "kind": "categorical, continuous or circular",
    "spread": (
        "mean squared difference of the samples from the source, over that of all images; of kinds"
        " the share of another kind over that of all images"
    ),
    "low": "lower end of its 95 % interval over sources",
    "high": "upper end",
    "other": "of kinds, share of samples of which another kind is read than the source has",
    "other_low": "lower end of its 95 % interval over sources",
    "other_high": "upper end",
    "model_a": "name of a model",
    "model_b": "name of another one",
    "difference": "spread of model_a less that of model_b, sources and noise paired",
    "difference_low": "lower end of its 95 % interval over sources",
    "difference_high": "upper end",
    "other_difference": "of kinds, `other` of model_a less that of model_b, paired",
    "other_difference_low": "lower end of its 95 % interval over sources",
    "other_difference_high": "upper end",
    "misread": "of kinds, share of the sources themselves of which another kind is read",
    "read": "how well the network reads the factor in held-out scenes: accuracy, or R²",
    "read_low": "lower end of its 95 % interval over scenes",
    "read_high": "upper end",
    **sheets.UNITS,
    "sheet": "a model's name, or a source's id",
    "label": "the source's class or id, or a model's name",
}
SIZE = ("sources", "draws")
TABLES: Mapping[str, tuple[str, ...]] = {
    "fidelity": (
        *("model", "tap", "pooling", *SIZE, "images", "nearest", "nearest_low", "nearest_high"),
        *("nearest_copy", "faithful", "margin", "margin_low", "margin_high", "rank"),
        *("cosine", "cosine_low", "cosine_high", "cosine_copy", "judge", "precision"),
        *("precision_low", "precision_high", "precision_real", "recall", "frechet", "frechet_real"),
    ),
    "spreads": (
        *("model", "quantity", "kind", "spread", "low", "high", "other", "other_low"),
        *("other_high", "misread", "read", "read_low", "read_high", *SIZE),
    ),
    "pairs": (
        *("model_a", "model_b", "quantity", "kind", "difference", "difference_low"),
        *("difference_high", "other_difference", "other_difference_low", "other_difference_high"),
        *("read", *SIZE),
    ),
    **sheets.TABLES,
}
TEXTS = (
    "model",
    "model_a",
    "model_b",
    "tap",
    "pooling",
    "judge",
    "quantity",
    "kind",
    *sheets.TEXTS,
)


def compute(models: Models, *, samples: SampleSet, seed: int = 0) -> Results:
    """Judge the samples of each model.

    `fidelity` has a row for each model; `spreads` one for each factor that a network reads from the
    pixels, where the images are scenes, and `pairs` one for each of these and two models; `sheets`
    and `pictures` have what is shown. The seed is not used: samples are drawn before.
    """
    rows: list[tuple[str, Row]] = []
    found: dict[str, dict[str, Variation]] = {}
    for name, one in samples.models.items():
        rows.append(("fidelity", {"model": name} | _judge(one, samples)))
        if samples.readings is not None and one.read is not None:
            found[name] = _measure(one.read, one.pixels.shape[1], samples.readings)
            size = {"sources": len(samples.ids), "draws": one.pixels.shape[1]}
            rows += [
                ("spreads", {"model": name, "quantity": quantity} | varied.columns() | size)
                for quantity, varied in found[name].items()
            ]
    rows += [
        ("pairs", {"model_a": a, "model_b": b, "quantity": quantity} | row | size)
        for a, b in combinations(found, 2)
        for quantity, one in found[a].items()
        for row in (one.compare(found[b][quantity]),)
    ]
    rows += sheets.list_sheets(_list_rows(samples))
    return make_results(rows, TABLES, UNITS, TEXTS)


def _judge(one: ModelSamples, samples: SampleSet) -> Row:
    """How faithful the samples of a model are, and how real."""
    count = len(samples.ids)
    sources = np.arange(count)
    whitening = Whitening.fit(one.images)
    images, own, copies = (whitening.apply(rows) for rows in (one.images, one.features, one.copies))
    ranks = rank_sources(own, images, sources)
    hits = (ranks == 1).astype(np.float64)
    copied = (rank_sources(copies, images, sources) == 1).astype(np.float64)
    nearest = average_over_sources(hits, reach=1.0)
    margin = average_over_sources(hits - FAITHFUL * copied, reach=1.0)
    cosine = average_over_sources(measure_cosines(own, images, sources), reach=1.0)
    row: Row = {"tap": one.tap, "pooling": one.pooling, "sources": count}
    row |= {"draws": one.pixels.shape[1], "images": len(images)}
    row |= estimate_spread(nearest, count, 0.0).columns("nearest")
    row |= {"nearest_copy": float(copied.mean()), "faithful": bool(margin.value >= 0)}
    row |= estimate_spread(margin, count).columns("margin") | {"rank": float(np.median(ranks))}
    row |= estimate_spread(cosine, count).columns("cosine")
    row["cosine_copy"] = float(measure_cosines(copies, images, sources).mean())
    return row | _judge_quality(one, samples)


def _judge_quality(one: ModelSamples, samples: SampleSet) -> Row:
    """How real the samples look to the judge, against one half of the real images; the other half
    is what a perfect sampler would make."""
    every = samples.real[one.judge]
    half = len(every) // 2
    other, real = every[:half], every[half:]
    found, floor = compare_sets(one.judged, real), compare_sets(other, real)
    precise = average_over_sources(
        found.precise.astype(np.float64).reshape(len(samples.ids), -1), reach=1.0
    )
    return {
        "judge": one.judge,
        **estimate_spread(precise, len(samples.ids), 0.0).columns("precision"),
        "precision_real": float(floor.precise.mean()),
        "recall": float(found.recalled.mean()),
        "frechet": measure_frechet_distance(one.judged, real),
        "frechet_real": measure_frechet_distance(other, real),
    }


@final
@dataclass(frozen=True)
class Variation:
    """How far a factor that is read from a model's samples lies from the sources'.

    Attributes:
        kind: of the factor.
        spread: over the sources.
        other: of a kind, the share of samples of another one than the source has; else None.
        sources: how many.
        rest: what else the table says of the factor.
    """

    kind: str
    spread: Sampled
    other: Sampled | None
    sources: int
    rest: Row

    def columns(self) -> Row:
        """The columns of a row of the table `spreads`."""
        row: Row = {"kind": self.kind}
        row |= estimate_spread(self.spread, self.sources, 0.0).columns("spread", ("low", "high"))
        if self.other is not None:
            row |= estimate_spread(self.other, self.sources, 0.0).columns("other")
        return row | self.rest

    def compare(self, less: "Variation") -> Row:
        """The columns of a row of the table `pairs`: this less another model's."""
        row: Row = {"kind": self.kind, "read": self.rest["read"]}
        row |= estimate_spread(self.spread - less.spread, self.sources).columns("difference")
        if self.other is not None and less.other is not None:
            gap = estimate_spread(self.other - less.other, self.sources)
            row |= gap.columns("other_difference")
        return row


def _measure(read: pd.DataFrame, draws: int, readings: Readings) -> dict[str, Variation]:
    """Measure how far each factor that is read from the samples lies from the sources'.

    The difference is from what is read of the source, not from what is true of it, so that what the
    network cannot see does not count as variation; a kind is held against the true one.
    """
    count = len(readings.sources)
    together = pd.concat([readings.sources, readings.pool, read], ignore_index=True)
    starts = [count, count + len(readings.pool)]
    found = {}
    for name, codes in code_factors(together).items():
        sources, pool, others = np.split(codes, starts)
        spread = measure_spread(sources, others.reshape(count, draws, -1), pool)
        kind, rest = str(kind_of(name, readings.true[name])), readings.scores[name].columns("read")
        other = None
        if kind == "categorical":
            true = readings.true[name].astype(str).to_numpy()
            kinds = read[name].astype(str).to_numpy().reshape(-1, draws)
            other = average_over_sources((kinds != true[:, None]).astype(np.float64), reach=1.0)
            seen = readings.sources[name].astype(str).to_numpy()
            rest |= {"misread": float((seen != true).mean())}
        found[name] = Variation(kind, spread, other, count, rest)
    return found


def _list_rows(samples: SampleSet) -> Iterator[sheets.SheetRow]:
    """List the rows of all sheets: a sheet for each source, then a sheet for each model."""
    count = min(SHEETS, len(samples.ids))
    for source in range(count):
        for row, name in enumerate(samples.models):
            yield _make_row(samples, name, source, samples.ids[source], row, name)
    for name in samples.models:
        for source in range(count):
            yield _make_row(samples, name, source, name, source, samples.names[source])


def _make_row(
    samples: SampleSet, name: str, source: int, sheet: str, row: int, label: str
) -> sheets.SheetRow:
    """A row of a sheet: the source, and its samples by a model."""
    own = samples.ids[source]
    shown = [(own, samples.pictures[source])]
    for draw, pixels in enumerate(samples.models[name].pixels[source], 1):
        shown.append((f"{own} by {name}, {draw}", pixels))
    return sheets.SheetRow(sheet, row, label, shown)


def draw(results: Results) -> Figure:
    """Draw a sheet for each of the first four sources, and a sheet of these for each model."""
    frame = results["sheets"]
    models = list(results["fidelity"].model)
    sources = [name for name in dict.fromkeys(frame.sheet) if name not in models][:SHOWN]
    chosen = frame[frame.sheet.isin(sources) | (frame.sheet.isin(models) & (frame.row < SHOWN))]
    return Figure("samples", tuple(sheets.draw_sheets(chosen, results["pictures"])))
