"""Segmentation by the patch tokens after every block: k-NN and linear probes, by size of object
(the cheap twin of claim C12, tables 6 and 7 of Shekhar et al., 2023)."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from sslens.comparisons import dense_families, norms
from sslens.comparisons.dense_families import compare_families
from sslens.comparisons.dense_scores import (
    READINGS,
    DenseCurve,
    DenseScore,
    DenseSplit,
    score_model,
    to_estimate,
)
from sslens.comparisons.depth_lines import lines_by_depth
from sslens.comparisons.inputs import MapSets, Models
from sslens.comparisons.probing import PLUS
from sslens.comparisons.roles import PIXELS
from sslens.comparisons.rows import Row, make_results
from sslens.comparisons.segments import Segments
from sslens.figure import Figure, Lines
from sslens.statistics.estimate import Estimate
from sslens.table import Results

TITLE = "Which block knows what is where?"
CAPTION = (
    "Mean IoU of segmentations of the test images by their patch tokens after every block: of all"
    " pixels, and of small, medium and large objects (terciles of the area of the training images'"
    " objects). k-NN needs no training (30 neighbours among up to 10,000 remembered patches, votes"
    " by exp(s/0.02)); linear probes are trained until converged on each patch's label proportions,"
    " with the penalty chosen on held-out training images; all are scored at the resolution of the"
    " images, with each patch's class for all its pixels. Above at the right, the share of patch"
    " tokens with a norm of over three times the median. Bands are 95 % intervals over test"
    " images. Dashed lines are controls: random initialisations, and the pixels of each patch with"
    " its position. The linear probe of two blocks together is in the tables."
)
UNITS = (
    dense_families.UNITS
    | norms.UNITS
    | {
        "model": "name of a model",
        "control": "whether it is a control",
        "tap": "where the patch tokens are read; two of them are concatenated",
        "depth": "relative depth, 0 to 1; of two taps that of the later one",
        "reading": "k-NN, which trains nothing, or linear",
        "size": (
            "of the objects: all (with the background), or small, medium, large: terciles of the"
            " areas of the training images' objects, relative to the image"
        ),
        "miou": "mean IoU over the classes of the test images; empty where none has such objects",
        "low": "lower end of its 95 % interval over images; empty where a share is 0 or 1",
        "high": "upper end",
        "gain": "mIoU less that of the control with the highest, on the same images",
        "gain_low": "lower end of its 95 % interval over images",
        "gain_high": "upper end",
        "over_last": "mIoU less that of the model's last block, on the same images",
        "over_last_low": "lower end of its 95 % interval over images",
        "over_last_high": "upper end",
        "images": "test images",
        "rows": "rows of patches",
        "columns": "columns of patches",
        "dimensions": "of the features of a patch",
        "trained": "training images",
        "small_under": "share of an image's pixels under which an object is small",
        "large_over": "share of an image's pixels over which an object is large",
        "bound": (
            "mIoU where each patch has its most frequent class: a reference that a prediction may"
            " exceed"
        ),
        "background": "mIoU where all is called background (the first class): the least to beat",
        "accuracy": "share of the test images' pixels that are right",
        "accuracy_low": "lower end of its 95 % interval over images",
        "accuracy_high": "upper end",
        "memory": "patches that k-NN remembers",
        "k": "neighbours",
        "penalty": "of the linear probe, chosen on held-out training images",
        "validation": "mIoU on these",
        "converged": "whether the linear probe is at its optimum",
        "inside": "whether penalties on both sides of the chosen one were tried",
        "why": "what is wrong with the probe; empty if nothing is",
        "class": "name of the class",
        "iou": "intersection over union of the class; empty where no test image has it",
    }
)
PROBE = ("model", "control", "tap", "depth", "reading")
TABLES: Mapping[str, tuple[str, ...]] = {
    "scores": (
        *(*PROBE, "size", "miou", "low", "high", "gain", "gain_low", "gain_high"),
        *("over_last", "over_last_low", "over_last_high", "images"),
    ),
    "probes": (
        *(*PROBE, "rows", "columns", "dimensions", "trained", "images", "bound", "background"),
        *("small_under", "large_over"),
        *("accuracy", "accuracy_low", "accuracy_high", "memory", "k"),
        *("penalty", "validation", "converged", "inside", "why"),
    ),
    "classes": (*PROBE, "class", "iou", "low", "high", "images"),
    **dense_families.TABLES,
    "norms": norms.COLUMNS,
}
TEXTS = ("model", "tap", "reading", "size", "class", "why", "model_a", "model_b", "members", "at")


def compute(models: Models, *, segments: Segments, maps: MapSets, seed: int = 0) -> Results:
    """Segment the test images by the maps of every model and control.

    The bank trains, or without one half of the images. `scores` has a row for each tap, reading and
    size of objects; `probes` says how each was trained, and `classes` has its IoU by class.
    `families` and `families-by-depth` have JE less REC, on large objects, on small ones, and on
    large less small. `norms` has the share of patch tokens of outlying norm.

    Args:
        models: the models and the controls.
        segments: the class and the object of each pixel.
        maps: patch tokens of all models.
        seed: seed of the split and of the patches that are remembered.
    """
    split = DenseSplit.of(segments, seed)
    scored = {
        name: list(score_model(name, maps, split, control=models.is_control(name), seed=seed))
        for name in maps.images
    }
    rows = [*_list_rows(scored, segments.classes)]
    for reading in READINGS:
        curves = {
            name: DenseCurve.of(found)
            for name, scores in scored.items()
            if (found := [one for one in scores if _is_block(one, reading)])
        }
        sizes = next(iter(scored.values()))[0].sizes
        rows += compare_families(models, curves, sizes, reading)
    for name, own in maps.images.items():
        if name != PIXELS:
            outlying = norms.find_outlying(name, own, control=models.is_control(name))
            rows += [("norms", row) for row in outlying]
    return make_results(rows, TABLES, UNITS, TEXTS)


def _is_block(score: DenseScore, reading: str) -> bool:
    """Whether a score is of one block, by this reading."""
    tap = str(score.place["tap"])
    return score.place["reading"] == reading and tap != PIXELS and PLUS not in tap


def _list_rows(
    scored: Mapping[str, Sequence[DenseScore]], classes: Sequence[str]
) -> Iterator[tuple[str, Row]]:
    """The rows of the tables of single models."""
    every = [one for scores in scored.values() for one in scores]
    best = {reading: _find_best_control(every, reading) for reading in READINGS}
    for scores in scored.values():
        last = {reading: _find_last(scores, reading) for reading in READINGS}
        for one in scores:
            reading = str(one.place["reading"])
            yield from _list_scores(one, best[reading], last[reading])
            yield "probes", one.place | one.head
            for place, name in enumerate(classes):
                iou = to_estimate(one.overlap.iou[place], share=True)
                row = {"class": name, **iou.columns("iou", ("low", "high"))}
                yield "classes", one.place | row | {"images": iou.n}


def _find_last(scores: Sequence[DenseScore], reading: str) -> DenseScore:
    """The probe of a model's last map alone."""
    alone = [
        one
        for one in scores
        if one.place["reading"] == reading and PLUS not in str(one.place["tap"])
    ]
    return max(alone, key=lambda one: float(one.place["depth"]))


def _find_best_control(scores: Sequence[DenseScore], reading: str) -> DenseScore | None:
    """The probe of a control with the highest mIoU; None without controls."""
    controls = [one for one in scores if one.place["control"] and one.place["reading"] == reading]
    return max(controls, key=lambda one: float(one.overlap.miou.value), default=None)


def _list_scores(
    one: DenseScore, control: DenseScore | None, last: DenseScore
) -> Iterator[tuple[str, Row]]:
    """A row for each size of objects, with the gain over the best control and over the last
    block."""
    for place, size in enumerate(one.sizes):
        score = one.scores[place]
        numbers = to_estimate(score, share=True)
        gain = Estimate(float("nan"))
        if control is not None:
            gain = to_estimate(score - control.scores[place])
        over_last = to_estimate(score - last.scores[place])
        yield (
            "scores",
            one.place
            | {"size": size, "images": one.head["images"]}
            | numbers.columns("miou", ("low", "high"))
            | gain.columns("gain")
            | over_last.columns("over_last"),
        )


def draw(results: Results) -> Figure:
    """Draw a panel for each reading of all pixels, beside them the share of outlying norms, and
    below a panel for each reading and size of objects."""
    frame = results["scores"]
    frame = frame[~frame.tap.str.contains(PLUS, regex=False)]
    frame = frame.assign(pooling=np.where(frame.tap == PIXELS, "flat", "patch"))
    sizes = list(dict.fromkeys(frame["size"]))
    top = float(frame[["miou", "high"]].max().max())
    beside = _draw_norms(results["norms"]) if "norms" in results else None
    rows: list[tuple[Lines | None, ...]] = [
        (*(_panel(frame, reading, sizes[0], top) for reading in READINGS), beside)
    ]
    if len(sizes) > 1:
        rows += [
            tuple(_panel(frame, reading, size, top) for size in sizes[1:]) for reading in READINGS
        ]
    return Figure("dense-depth", tuple(rows))


def _draw_norms(frame: pd.DataFrame) -> Lines:
    return Lines(
        "norms over 3 × the median",
        "relative depth",
        "share of tokens",
        tuple(lines_by_depth(frame.assign(pooling="patch"), ("share", "share_low", "share_high"))),
        (0.0, max(0.01, float(frame.share_high.max()) * 1.05)),
    )


def _panel(frame: pd.DataFrame, reading: str, size: str, top: float) -> Lines:
    chosen = frame[(frame.reading == reading) & (frame["size"] == size)]
    title = f"{reading}, {'all pixels' if size == 'all' else f'{size} objects'}"
    lines = lines_by_depth(chosen, ("miou", "low", "high"))
    facets = {"reading": reading, "objects": size}
    limits = (0.0, min(1.0, top * 1.05))
    return Lines(title, "relative depth", "mIoU", tuple(lines), limits, facets=facets)
