"""Segmentation by joint-embedding models (JE) less that by reconstruction models (REC): by depth
and by size of object, and on large objects less on small ones."""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from sslens.comparisons.dense_scores import DenseCurve, to_estimate
from sslens.comparisons.families import list_families
from sslens.comparisons.inputs import Models
from sslens.comparisons.roles import JE, REC
from sslens.comparisons.rows import Row
from sslens.comparisons.separation import describe_sides
from sslens.comparisons.trainings import (
    TRAININGS,
    Alone,
    Sides,
    average_arrays,
    average_over_objectives,
    fill_trainings,
    measure_alone,
)
from sslens.comparisons.trainings import UNITS as TRAINING_UNITS
from sslens.statistics.estimate import Estimate
from sslens.statistics.sampled import Sampled, average

#: the difference on the largest objects less the difference on the smallest ones
TILT = "large less small"
#: which blocks a row is of
LAST, EVERY = "the last block", "all blocks"
ABOUT = ("model_a", "model_b", "members", "reading", "size")
NUMBERS = (
    *("miou_a", "miou_b", "difference", "difference_low", "difference_high", "together"),
    *(*TRAININGS, "images"),
)
#: the columns of the two tables
TABLES: Mapping[str, tuple[str, ...]] = {
    "families": (*ABOUT, "at", *NUMBERS),
    "families-by-depth": (*ABOUT, "depth", *NUMBERS),
}
UNITS = {
    "model_a": "the first family: JE, joint embedding",
    "model_b": "the family that is subtracted: REC, reconstruction",
    "members": "the models of both families",
    "at": "the last block, or the mean over all blocks",
    "miou_a": "mean of the first family's mIoU; each objective has the same weight",
    "miou_b": "of the other family",
    "difference": "the first less the second, on the same images",
    "difference_low": "lower end of its 95 % interval over images",
    "difference_high": "upper end",
    "together": "depths whose intervals hold at once; 1 for an interval of its own",
} | TRAINING_UNITS


class _Means(NamedTuple):
    """The two families' scores, [depth, size], and their difference."""

    je: Sampled
    rec: Sampled
    difference: Sampled


def compare_families(
    models: Models, curves: Mapping[str, DenseCurve], sizes: tuple[str, ...], reading: str
) -> Iterator[tuple[str, Row]]:
    """Subtract REC's mean IoU from JE's at each depth, at the last block and over all blocks.

    Args:
        models: the models and the controls.
        curves: the scores after each block, by the model's name.
        sizes: what the scores are of, all objects first.
        reading: how patches are classified.

    Yields:
        Rows, each after the name of its table; none without a model of each family.
    """
    je, rec = ([name for name in side if name in curves] for side in list_families(models))
    if not je or not rec:
        return
    sides = {JE: je, REC: rec}
    grid = max((curves[name].depths for name in (*je, *rec)), key=len)
    one, other = (_average(models, curves, names, grid) for names in (je, rec))
    means = _Means(one, other, one - other)

    def measure(chosen: Sides) -> np.ndarray:
        a, b = (_average_values(models, curves, chosen[side], grid) for side in sides)
        return np.asarray(a - b)

    alone = measure_alone(models, sides, measure)
    about = {"model_a": JE, "model_b": REC, "members": describe_sides(je, rec), "reading": reading}
    yield from (("families", about | row) for row in _list_summaries(means, alone, sizes))
    for row in _list_depths(means, alone, grid, sizes):
        yield "families-by-depth", about | row


def _list_depths(
    means: _Means, alone: Alone, grid: Float64[np.ndarray, " depth"], sizes: tuple[str, ...]
) -> Iterator[Row]:
    """A row for each size and depth, with intervals that hold at all depths at once."""
    for place, size in enumerate(sizes):
        column = _select(means.difference, place)
        low, high = column.simultaneous_interval()
        chosen = _transform(alone, operator.itemgetter((slice(None), slice(None), place)))
        for k, depth in enumerate(grid.tolist()):
            images = to_estimate(column[k])
            shown = Estimate(images.value, float(low[k]), float(high[k]), "images", images.n)
            yield {
                "size": size,
                "depth": depth,
                "miou_a": float(means.je.value[k, place]),
                "miou_b": float(means.rec.value[k, place]),
                **shown.columns("difference"),
                "together": len(grid),
                **fill_trainings(images, chosen, k, together=len(grid)),
                "images": images.n,
            }


def _list_summaries(means: _Means, alone: Alone, sizes: tuple[str, ...]) -> Iterator[Row]:
    """The rows of the last block and of all blocks, by size, then large less small."""
    for at in (LAST, EVERY):
        je, rec, difference = (
            part[-1] if at == LAST else average([part[k] for k in range(len(part.value))])
            for part in means
        )
        chosen = _transform(alone, _take_last if at == LAST else _average_blocks)
        for place, size in enumerate(sizes):
            images = to_estimate(difference[place])
            yield {
                "size": size,
                "at": at,
                "miou_a": float(je.value[place]),
                "miou_b": float(rec.value[place]),
                **images.columns("difference"),
                "together": 1,
                **fill_trainings(images, chosen, place),
                "images": images.n,
            }
        if len(sizes) > 2:
            images = to_estimate(difference[len(sizes) - 1] - difference[1])
            tilted = _transform(chosen, lambda values: values[:, -1:] - values[:, 1:2])
            yield {
                "size": TILT,
                "at": at,
                "miou_a": float(je.value[-1] - je.value[1]),
                "miou_b": float(rec.value[-1] - rec.value[1]),
                **images.columns("difference"),
                "together": 1,
                **fill_trainings(images, tilted, 0),
                "images": images.n,
            }


def _take_last(values: Float64[np.ndarray, "training depth size"]) -> np.ndarray:
    return values[:, -1]


def _average_blocks(values: Float64[np.ndarray, "training depth size"]) -> np.ndarray:
    """The mean over the blocks at which a size has scores; a size has them at all or at none."""
    return values.mean(1)


def _select(values: Sampled, place: int) -> Sampled:
    """One size of scores by depth."""
    return Sampled(
        values.value[:, place],
        values.left_out[:, place],
        values.share[:, place],
        values.drawn,
        values.reach,
    )


def _transform(alone: Alone, change: Callable[[np.ndarray], np.ndarray]) -> Alone:
    """Change the array of each objective; its first axis is over trainings."""
    return {
        side: {name: change(values) for name, values in objectives.items()}
        for side, objectives in alone.items()
    }


def _average(
    models: Models,
    curves: Mapping[str, DenseCurve],
    names: Sequence[str],
    grid: Float64[np.ndarray, " depth"],
) -> Sampled:
    """The mean over the objectives of a family, by depth and size."""
    values: dict[tuple[str, ...], Sampled] = {(name,): curves[name].at(grid) for name in names}
    return average_over_objectives(models, values, average)


def _average_values(
    models: Models,
    curves: Mapping[str, DenseCurve],
    names: Sequence[str],
    grid: Float64[np.ndarray, " depth"],
) -> np.ndarray:
    """The same without intervals."""
    values: dict[tuple[str, ...], np.ndarray] = {
        (name,): np.asarray(curves[name].at(grid).value) for name in names
    }
    return average_over_objectives(models, values, average_arrays)
