"""How sensitive the last layer is to each transform (claim C11): families of objectives against
each other, models after fine-tuning against before, controls, two trainings of one objective."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from sslens.comparisons.families import list_families
from sslens.comparisons.inputs import Models
from sslens.comparisons.invariances import Answer, estimate_over_images
from sslens.comparisons.roles import JE, REC, list_pretrained
from sslens.comparisons.rows import Row
from sslens.comparisons.separation import describe_sides
from sslens.comparisons.trainings import (
    TRAININGS,
    Sides,
    average_over_objectives,
    count_trainings_once,
    fill_trainings,
    group_by_objective,
    measure_alone,
)
from sslens.comparisons.trainings import UNITS as TRAINING_UNITS
from sslens.comparisons.tuned import describe_match, is_control, match_origins
from sslens.data.alter import Transform
from sslens.statistics.sampled import Sampled, average

#: whether each dimension of the features is divided by its deviation first
RAW, STANDARDISED = "raw", "standardised"
#: the pooling of raw pixels
FLAT = "flat"
#: what fine-tuned models of a family are called
TUNED = "{family} fine-tuned"
ABOUT = ("model_a", "model_b", "members", "pooling", "features", "transform", "strength")
NUMBERS = (
    *("sensitivity_a", "sensitivity_b", "difference", "difference_low", "difference_high"),
    *(*TRAININGS, "images"),
)
TABLES: Mapping[str, tuple[str, ...]] = {
    "families": (*ABOUT, *NUMBERS),
    "fine-tuned": (*ABOUT, *NUMBERS),
    "controls": (*ABOUT, *NUMBERS),
    "second-seeds": (*ABOUT, *NUMBERS),
    "pairs": (*ABOUT, *NUMBERS),
}
UNITS = {
    "model_a": (
        "the first side: REC, reconstruction; a family after fine-tuning; a control; or a model"
    ),
    "model_b": (
        "the side that is subtracted: JE, joint embedding; the family before fine-tuning; or"
        " another training of the model's objective"
    ),
    "members": "the models of both sides",
    "pooling": "of the last layer: cls, mean, patch (mean of patch tokens) or flat",
    "features": "raw, or standardised: each dimension divided by its deviation",
    "sensitivity_a": "1 − invariance of the first side; each objective has the same weight",
    "sensitivity_b": "of the other side",
    "difference": "the first less the second, on the same images",
    "difference_low": "lower end of its 95 % interval over images",
    "difference_high": "upper end",
    "images": "images",
} | TRAINING_UNITS
TEXTS = ("model_a", "model_b", "members", "pooling", "features", "transform")
#: the sensitivity of the last layer of each model, by the model's name
Levels = Mapping[str, Sampled]


def compare_sides(models: Models, answers: Sequence[Answer]) -> Iterator[tuple[str, Row]]:
    """Compare how sensitive last layers are, for each pooling, transform, and reading of features.

    Yields:
        Rows, each after the name of its table; none of a table where models are missing.
    """
    for about, levels in _group(answers):
        yield from (("families", about | row) for row in _compare_families(models, levels))
        yield from (("fine-tuned", about | row) for row in _compare_tuned(models, levels))
        yield from (("controls", about | row) for row in _compare_controls(models, levels))
        yield from (("second-seeds", about | row) for row in _compare_seeds(models, levels))
        yield from (("pairs", about | row) for row in _compare_pairs(models, levels))


def _group(answers: Sequence[Answer]) -> Iterator[tuple[Row, Levels]]:
    """The sensitivities of all models that have one pooling of the last layer, to one
    transform."""
    groups: dict[tuple[str, Transform], list[Answer]] = {}
    for one in answers:
        if one.place["last"]:
            groups.setdefault((str(one.place["pooling"]), one.transform), []).append(one)
    poolings = list(dict.fromkeys(pooling for pooling, _ in groups if pooling != FLAT)) or [FLAT]
    transforms = list(dict.fromkeys(transform for _, transform in groups))
    for pooling, transform in itertools.product(poolings, transforms):
        # raw pixels, which have no tokens, stand beside every pooling
        group = groups.get((pooling, transform), []) + (
            groups.get((FLAT, transform), []) if pooling != FLAT else []
        )
        for features in (RAW, STANDARDISED):
            values = {
                str(one.place["model"]): one.sensitivity if features == RAW else one.standardised
                for one in group
            }
            about: Row = {"pooling": pooling, "features": features}
            about |= {"transform": transform.name, "strength": transform.strength}
            yield about, {name: one for name, one in values.items() if np.isfinite(one.value)}


def _compare_families(models: Models, levels: Levels) -> Iterator[Row]:
    """REC less JE, both as they were pre-trained."""
    je, rec = _list_sides(models, levels)
    if je and rec:
        sides = {REC: rec, JE: je}
        values = {side: _average(models, levels, names) for side, names in sides.items()}

        def measure(chosen: Sides) -> float:
            one, other = (_average(models, levels, chosen[side]) for side in sides)
            return float(one.value - other.value)

        row = _make_row(values[REC], values[JE])
        row |= fill_trainings(
            estimate_over_images(values[REC] - values[JE]), measure_alone(models, sides, measure)
        )
        yield {"model_a": REC, "model_b": JE, "members": describe_sides(je, rec)} | row


def _list_sides(models: Models, levels: Levels) -> tuple[list[str], list[str]]:
    je, rec = ([name for name in side if name in levels] for side in list_families(models))
    return je, rec


def _average(models: Models, levels: Levels, names: Sequence[str]) -> Sampled:
    """The mean over trainings, then over objectives."""
    values: dict[tuple[str, ...], Sampled] = {(name,): levels[name] for name in names}
    return average_over_objectives(models, values, average)


def _make_row(one: Sampled, other: Sampled) -> Row:
    difference = estimate_over_images(one - other)
    return {
        "sensitivity_a": float(one.value),
        "sensitivity_b": float(other.value),
        **difference.columns("difference"),
        "images": difference.n,
    }


def _compare_tuned(models: Models, levels: Levels) -> Iterator[Row]:
    """Models of a family after fine-tuning less the same models before.

    Two trainings are two pre-trainings: of several fine-tunings of one the first is taken.
    """
    origins = {
        tuned: first
        for tuned, first in match_origins(models).items()
        if tuned in levels and first in levels and not is_control(models.about(tuned))
    }
    for family in (REC, JE):
        firsts = list_pretrained(models, models.studied, family)
        pairs: dict[str, str] = {}
        for tuned, first in origins.items():
            if first in firsts:
                pairs.setdefault(first, tuned)
        counted = count_trainings_once(models, pairs)
        pairs = {first: tuned for first, tuned in pairs.items() if first in counted}
        if not pairs:
            continue
        changes = {first: levels[tuned] - levels[first] for first, tuned in pairs.items()}

        def measure(chosen: Sides, changes: Levels = changes, family: str = family) -> float:
            return float(_average(models, changes, chosen[family]).value)

        names = list(pairs)
        after = {first: levels[tuned] for first, tuned in pairs.items()}
        row = _make_row(_average(models, after, names), _average(models, levels, names))
        change = estimate_over_images(_average(models, changes, names))
        row |= fill_trainings(change, measure_alone(models, {family: names}, measure))
        members = "; ".join(describe_match(models, tuned, one) for one, tuned in pairs.items())
        sides = {"model_a": TUNED.format(family=family), "model_b": family, "members": members}
        yield sides | row


def _compare_controls(models: Models, levels: Levels) -> Iterator[Row]:
    """Each control less JE; where there is no JE model, less the mean of all models."""
    studied = [name for name in models.studied if name in levels]
    je = _list_sides(models, levels)[0]
    against, label = (je, JE) if je else (studied, "the models")
    for control in models.controls:
        if control in levels and against:
            row = _make_row(levels[control], _average(models, levels, against))
            members = f"{label}: {', '.join(against)}" if je else ", ".join(against)
            yield {"model_a": control, "model_b": label, "members": members} | row


def _compare_seeds(models: Models, levels: Levels) -> Iterator[Row]:
    """Two trainings of one objective, the first less the second."""
    for side in _list_sides(models, levels):
        for names in group_by_objective(models, side).values():
            for a, b in itertools.combinations(names, 2):
                row = _make_row(levels[a], levels[b])
                yield {"model_a": a, "model_b": b, "members": f"{a}, {b}"} | row


def _compare_pairs(models: Models, levels: Levels) -> Iterator[Row]:
    """Each two models under study, and each of them and a control, the first less the second."""
    studied, controls = (
        [name for name in names if name in levels] for names in (models.studied, models.controls)
    )
    for a, b in (*itertools.combinations(studied, 2), *itertools.product(studied, controls)):
        row = _make_row(levels[a], levels[b])
        yield {"model_a": a, "model_b": b, "members": f"{a}, {b}"} | row
