"""Trainings of objectives: which models are trainings of one objective, means in which every
objective has the same weight, and intervals over images and trainings."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from sslens.comparisons.inputs import ModelInfo, Models
from sslens.comparisons.rows import Row
from sslens.comparisons.tuned import is_control
from sslens.statistics.estimate import Contrast, Estimate
from sslens.statistics.trainings import estimate_over_trainings

#: the columns of the interval of a difference over images and trainings
TRAININGS = ("trainings_low", "trainings_high", "trainings")
UNITS = {
    "trainings_low": (
        "lower end of the difference's 95 % interval over images and trainings; empty if an"
        " objective has one training"
    ),
    "trainings_high": "upper end",
    "trainings": "trainings of the family that has the fewest",
}
#: the names of models, by side of a comparison, such as JE and REC
Sides = Mapping[str, Sequence[str]]
#: a number, or an array of numbers, for each training of each objective of each side
Alone = Mapping[str, Mapping[str, np.ndarray]]
Value = TypeVar("Value")


def group_by_objective(models: Models, names: Iterable[str]) -> dict[str, list[str]]:
    """Group models by their objective. Random initialisations are one group, fine-tuned or not; a
    model of an unknown objective is a group of its own.

    >>> from sslens.comparisons.inputs import ModelInfo
    >>> from sslens.models.about import About
    >>> known = {"a": "dino", "b": "msn", "c": "dino", "d": None}
    >>> members = [ModelInfo(name, about=About("JE", one)) for name, one in known.items()]
    >>> models = Models(tuple(members))
    >>> group_by_objective(models, known)
    {'dino': ['a', 'c'], 'msn': ['b'], 'd': ['d']}
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name_objective(models, name), []).append(name)
    return groups


def name_objective(models: Models, name: str) -> str:
    """Return a model's objective, "random" for a random initialisation, or else its own name."""
    about = models.about(name)
    return about.objective or ("random" if is_control(about) else name)


def count_trainings_once(models: Models, names: Iterable[str]) -> list[str]:
    """Leave out models that are no other training: those with the same weights as an earlier one,
    those that compute almost the same, and all states of a training but the last one.

    >>> from sslens.comparisons.inputs import ModelInfo
    >>> members = ModelInfo("a"), ModelInfo("a in bfloat16", copy_of="a"), ModelInfo("b")
    >>> count_trainings_once(Models(members), ["a", "a in bfloat16", "b"])
    ['a', 'b']
    """
    listed = list(names)
    counted: list[str] = []
    for name in listed:
        before = next((one for one in counted if models.are_one_training(one, name)), None)
        if before is None:
            counted.append(name)
        elif _is_later(models[name], models[before]):
            counted[counted.index(before)] = name
    return [name for name in listed if name in counted]


def _is_later(one: ModelInfo, other: ModelInfo) -> bool:
    """Whether a model is a later state of another's training, and no copy of the other."""
    if one.state is None or other.state is None or one.state.training != other.state.training:
        return False
    copied = one.copy_of in (other.name, other.copy_of) if one.copy_of else False
    same = copied or (one.digest is not None and one.digest == other.digest)
    return not same and one.state.place >= other.state.place


def list_across_objectives(models: Models, names: Sequence[str]) -> list[tuple[str, str]]:
    """List all pairs of models that have different objectives: two trainings of one objective tell
    how much a training varies, and not how alike objectives are."""
    objectives = {
        name: objective
        for objective, group in group_by_objective(models, names).items()
        for name in group
    }
    pairs = itertools.combinations(names, 2)
    return [(a, b) for a, b in pairs if objectives[a] != objectives[b]]


def average_over_objectives(
    models: Models,
    values: Mapping[Any, Value],
    average: Callable[[Sequence[Value]], Value],
) -> Value:
    """Average over trainings, then over objectives, so that every objective (or pair of objectives)
    has the same weight, however many trainings it has.

    Args:
        models: the models of the study.
        values: the value of each model, or of each pair of models, by a tuple of their names.
        average: computes the mean of several values.
    """
    groups: dict[tuple[str, ...], list[Value]] = {}
    for names, value in values.items():
        objectives = sorted(name_objective(models, name) for name in names)
        groups.setdefault(tuple(objectives), []).append(value)
    return average([average(group) for group in groups.values()])


def average_arrays(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Average arrays cell by cell over the arrays in which the cell is defined; nan if none is.

    >>> average_arrays([np.array([1.0, np.nan]), np.array([3.0, np.nan])]).tolist()
    [2.0, nan]
    """
    stacked = np.stack(arrays)
    count = np.isfinite(stacked).sum(0)
    total = np.nan_to_num(stacked).sum(0)
    return np.where(count, total / np.maximum(count, 1), np.nan)


def measure_alone(
    models: Models, sides: Sides, measure: Callable[[Sides], float | np.ndarray]
) -> Alone:
    """Measure a statistic with each objective represented by each of its trainings in turn.

    Args:
        models: the models of the study.
        sides: the names of the models of each side.
        measure: computes the statistic, or several at once, from the names of each side.

    >>> from sslens.comparisons.inputs import ModelInfo
    >>> from sslens.models.about import About
    >>> known = {"a": "mae", "b": "mae", "c": "dino"}
    >>> members = [ModelInfo(name, about=About(None, one)) for name, one in known.items()]
    >>> models = Models(tuple(members))
    >>> numbers = {"a": 1.0, "b": 2.0, "c": 4.0}
    >>> def measure(sides):
    ...     return np.mean([numbers[one] for one in sides["REC"]]) - numbers[sides["JE"][0]]
    >>> alone = measure_alone(models, {"REC": ["a", "b"], "JE": ["c"]}, measure)
    >>> alone["REC"]["mae"].tolist(), alone["JE"]["dino"].tolist()
    ([-3.0, -2.0], [-2.5])
    """
    alone: dict[str, dict[str, np.ndarray]] = {}
    for side, names in sides.items():
        alone[side] = {}
        for objective, trainings in group_by_objective(models, names).items():
            values = [
                measure({**sides, side: [n for n in names if n not in trainings or n == one]})
                for one in trainings
            ]
            alone[side][objective] = np.stack([np.asarray(value, float) for value in values])
    return alone


def fill_trainings(
    images: Estimate, alone: Alone, cell: int | None = None, together: int = 1
) -> Row:
    """Make the columns `TRAININGS` of a row.

    Args:
        images: the difference with its interval over images or minibatches, not simultaneous.
        alone: what `measure_alone` returned.
        cell: which of several statistics, if `alone` holds arrays of them.
        together: number of intervals that hold at once.
    """
    chosen = {
        side: {
            name: (values if cell is None else values[:, cell]).tolist()
            for name, values in objectives.items()
        }
        for side, objectives in alone.items()
    }
    estimate = estimate_over_trainings(images, chosen, together)
    return dict(zip(TRAININGS, (estimate.low, estimate.high, estimate.n), strict=True))


def read_over_trainings(row: Mapping[str, Any], contrast: Contrast) -> Contrast | None:
    """Read the columns `TRAININGS` of a row as the contrast's interval over images and trainings;
    None if there is no such interval."""
    low = row.get("trainings_low", float("nan"))
    if low != low:
        return None
    over = f"{contrast.difference.over} and trainings"
    estimate = Estimate(
        contrast.difference.value, low, row["trainings_high"], over, int(row["trainings"])
    )
    return Contrast(contrast.a, contrast.b, estimate, contrast.paired, contrast.together)
