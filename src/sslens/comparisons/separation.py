"""The separation of classes by depth, in joint-embedding models (JE) and in reconstruction models
(REC): the difference at each depth, and the depth from which JE stays above REC."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Bool, Float64

from sslens.comparisons.depths import find_nearest
from sslens.comparisons.families import list_families
from sslens.comparisons.inputs import Models
from sslens.comparisons.roles import JE, REC, list_names
from sslens.comparisons.rows import Row
from sslens.comparisons.trainings import (
    TRAININGS,
    Sides,
    average_arrays,
    average_over_objectives,
    fill_trainings,
    measure_alone,
)
from sslens.comparisons.trainings import UNITS as TRAINING_UNITS
from sslens.statistics.estimate import SMALLEST, Estimate
from sslens.statistics.gains import estimate_gain, estimate_gains_at_once

#: the columns of the two tables: the difference at each depth, and the depths that it decides
PARTING = ("model_a", "model_b", "members")
BY_DEPTH = (
    *("depth", "accuracy_a", "accuracy_b"),
    *("difference", "difference_low", "difference_high", "together", *TRAININGS, "images"),
)
FIRST = ("first", "reversed", "depths", "images")
UNITS = {
    "model_a": "the first family: JE, joint embedding",
    "model_b": "the family that is subtracted: REC, reconstruction",
    "members": "the models of both families",
    "depth": "relative depth, 0 to 1; of a shorter network the nearest block's",
    "accuracy_a": "mean accuracy of the first family; each objective has the same weight",
    "accuracy_b": "of the other family",
    "difference": "the first less the second, on the same images",
    "difference_low": (
        "lower end of its 95 % interval over images, which holds at all depths at once"
    ),
    "difference_high": "upper end",
    "together": "depths whose intervals hold at once",
    "first": (
        "relative depth from which the first family is above the second at every later depth too,"
        " each by its interval and by half a point; empty: none"
    ),
    "reversed": "the first relative depth at which it is below the second; empty: none",
    "depths": "depths that are compared",
    "images": "images classified",
} | TRAINING_UNITS


@final
@dataclass(frozen=True, eq=False)
class Curve:
    """The images that are classified correctly after each block of one model.

    Attributes:
        depths: the relative depth of each block, ascending.
        right: whether an image is classified correctly after a block; all models have the same
            images in the same order.
    """

    depths: Float64[np.ndarray, " block"]
    right: Bool[np.ndarray, "block image"]

    def at(self, depths: Float64[np.ndarray, " depth"]) -> Bool[np.ndarray, "depth image"]:
        """Return which images are right after the blocks nearest to some relative depths.

        >>> curve = Curve(np.array([0.5, 1.0]), np.array([[True], [False]]))
        >>> curve.at(np.array([0.25, 0.5, 0.75, 1.0])).T.tolist()  # of equally near the first
        [[True, True, True, False]]
        """
        return self.right[find_nearest(depths, self.depths)]


def list_sides(models: Models, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The pre-trained JE models and the pre-trained REC models among these names."""
    je, rec = ([name for name in side if name in names] for side in list_families(models))
    return je, rec


def compare_curves(
    models: Models, curves: Mapping[str, Curve], about: Row, seed: int
) -> Iterator[tuple[str, Row]]:
    """Subtract REC's mean accuracy from JE's at each depth, and find where JE stays above.

    The table `families-by-depth` has a row for each relative depth, with intervals that hold at all
    depths at once; `families-parting` has one row.

    Args:
        models: the models and the controls.
        curves: the images that are right after each block, by the model's name.
        about: columns that every row repeats.
        seed: seed of the simultaneous intervals.

    Yields:
        Rows, each after the name of its table; none without a model of each family.
    """
    je, rec = list_sides(models, list(curves))
    if not je or not rec:
        return
    grid = max((curves[name].depths for name in (*je, *rec)), key=len)
    sides = {JE: je, REC: rec}
    means = {family: _average(models, curves, names, grid) for family, names in sides.items()}
    values = means[JE] - means[REC]
    mean, (low, high) = estimate_gains_at_once(values, seed=seed)
    estimates = [
        Estimate(float(mean[k]), float(low[k]), float(high[k]), "images", values.shape[1])
        for k in range(len(grid))
    ]

    def measure(chosen: Sides) -> Float64[np.ndarray, " depth"]:
        one, other = (_average(models, curves, chosen[family], grid).mean(1) for family in sides)
        return np.asarray(one - other)

    alone = measure_alone(models, sides, measure)
    common = about | {"model_a": JE, "model_b": REC, "members": describe_sides(je, rec)}
    common |= {"images": values.shape[1]}
    for k, estimate in enumerate(estimates):
        row = {"depth": float(grid[k]), "together": len(grid)} | estimate.columns("difference")
        row |= {"accuracy_a": float(means[JE][k].mean()), "accuracy_b": float(means[REC][k].mean())}
        row |= fill_trainings(estimate_gain(values[k]), alone, k, together=len(grid))
        yield "families-by-depth", common | row
    first, back = find_parting(estimates)
    found = {
        name: float("nan") if place is None else float(grid[place])
        for name, place in (("first", first), ("reversed", back))
    }
    yield "families-parting", common | found | {"depths": len(grid)}


def _average(
    models: Models,
    curves: Mapping[str, Curve],
    names: Sequence[str],
    depths: Float64[np.ndarray, " depth"],
) -> Float64[np.ndarray, "depth image"]:
    """The mean over the objectives of a family, by depth and image."""
    right: dict[tuple[str, ...], np.ndarray] = {
        (name,): curves[name].at(depths).astype(float) for name in names
    }
    return average_over_objectives(models, right, average_arrays)


def describe_sides(je: Sequence[str], rec: Sequence[str]) -> str:
    """Name the models of both families, such as "JE: dino and msn; REC: mae"."""
    return f"{JE}: {list_names(je)}; {REC}: {list_names(rec)}"


def find_parting(differences: Sequence[Estimate]) -> tuple[int | None, int | None]:
    """Find where a difference stays above 0, and where it is below 0, along ascending depths.

    Args:
        differences: the difference at each depth, with its interval.

    Returns:
        The first place at which and after which every difference lies above 0, by its interval and
        by half a point, or None; and the first place at which one lies below 0 so, or None.

    >>> above, below, open_ = (
    ...     Estimate(value, value - 0.1, value + 0.1, "images", 100) for value in (0.3, -0.3, 0.05)
    ... )
    >>> find_parting([open_, above, above])
    (1, None)
    >>> find_parting([above, open_, above])  # at the second depth it is not shown
    (2, None)
    >>> find_parting([above, below, below])
    (None, 1)
    """
    sides = [one.find_side(SMALLEST["accuracy"]) for one in differences]
    place = len(sides)
    while place and sides[place - 1] == "more":
        place -= 1
    return place if place < len(sides) else None, sides.index("less") if "less" in sides else None
