"""The accuracy of a linear probe of the last block less that of 20-NN there: what is told apart by
some directions, and not by the nearest neighbours."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Bool, Float64

from sslens.capture import Column, Features
from sslens.comparisons.inputs import FeatureSets, Labels, Models
from sslens.comparisons.probe_split import Split, explain_unfit_sets
from sslens.comparisons.roles import JE, REC, list_names
from sslens.comparisons.rows import Row
from sslens.comparisons.separation import list_sides
from sslens.comparisons.trainings import (
    TRAININGS,
    Sides,
    average_arrays,
    average_over_objectives,
    fill_trainings,
    measure_alone,
)
from sslens.comparisons.trainings import UNITS as TRAINING_UNITS
from sslens.probes.logistic import fit_logistic
from sslens.statistics.gains import estimate_gain
from sslens.statistics.proportions import difference_of_shares, estimate_share

#: where both the probe and 20-NN read
LAST_BLOCK = "last block"
#: the columns of the two tables: a model, and a family
PROBES = (
    *("model", "control", "place", "tap", "depth", "main", "pooling", "features"),
    *("accuracy", "low", "high", "knn", "knn_low", "knn_high", "gap", "gap_low", "gap_high"),
    *("penalty", "converged", "inside", "why", "images"),
)
FAMILIES = (
    *("model", "members", "place", "main", "pooling", "features", "gap", "gap_low", "gap_high"),
    *("against", "difference", "difference_low", "difference_high", *TRAININGS, "images"),
)
UNITS = {
    "place": "where both the probe and 20-NN read",
    "knn": "share of the same images whose class 20-NN predicts, by the weighted vote",
    "knn_low": "lower end of its 95 % interval",
    "knn_high": "upper end",
    "gap": (
        "accuracy of the probe less that of 20-NN, on the same images; the probe learns from fewer"
        " images than vote: from four fifths of a bank, or of half of the images without one"
    ),
    "gap_low": "lower end of its 95 % interval over images",
    "gap_high": "upper end",
    "penalty": "of the logistic regression, chosen on validation images",
    "converged": "whether the probe has reached its optimum",
    "inside": "whether its penalty lies inside the path that was tried",
    "why": "where the probe has not converged, or its penalty is the path's end: which; or empty",
    "against": "the family that is subtracted in the difference",
    "difference": "gap of this family less the other's, on the same images",
    "difference_low": "lower end of its 95 % interval over images",
    "difference_high": "upper end",
} | TRAINING_UNITS


@final
@dataclass(frozen=True, eq=False)
class Neighbours:
    """What 20-NN has right in the last block of a model.

    Attributes:
        column: the tap of the last block, and the usual pooling.
        depth: the tap's relative depth.
        right: whether each image is right, by the kind of features: "raw" or "standardised".
    """

    column: Column
    depth: float
    right: Mapping[str, Bool[np.ndarray, " image"]]


#: by test image, the probe's right less that of 20-NN: 1, 0 or −1
Gaps = dict[str, dict[str, Float64[np.ndarray, " image"]]]


def compare_with_probes(
    models: Models,
    features: FeatureSets,
    labels: Labels,
    neighbours: Mapping[str, Neighbours],
    seed: int,
) -> Iterator[tuple[str, Row]]:
    """Fit a linear probe of the last block of each model, and subtract what 20-NN has there.

    The probe is a logistic regression at its optimum, and both are tested on the test images of
    `probing.Split`. The table `probes` has a row for each model and kind of features of 20-NN,
    `families-probes` one for each family, of the models with a probe that has converged inside its
    path of penalties.

    Args:
        models: the models and the controls.
        features: their features.
        labels: the class of each image.
        neighbours: what 20-NN has right, by the model's name.
        seed: seed of the split.

    Yields:
        Rows, each after the name of its table; none if there are too few images for a probe.
    """
    if not neighbours or explain_unfit_sets(features, labels) is not None:
        return
    split = Split.of(features, labels, seed)
    gaps: Gaps = {}
    for name, neighbour in neighbours.items():
        bank = features.bank.get(name)
        row, right = _fit(split, features.images[name], bank, neighbour.column, seed)
        about = {
            "model": name,
            "control": models.is_control(name),
            "place": LAST_BLOCK,
            "tap": neighbour.column[0],
            "depth": neighbour.depth,
            "main": True,
            "pooling": neighbour.column[1],
        }
        for scale, near in neighbour.right.items():
            near = near[split.test]
            numbers = estimate_share(near).columns("knn")
            numbers |= difference_of_shares(right, near).columns("gap")
            yield "probes", about | row | {"features": scale} | numbers
            if row["converged"] and row["inside"]:
                gaps.setdefault(scale, {})[name] = right.astype(float) - near
    for scale, by_model in gaps.items():
        about = {"place": LAST_BLOCK, "main": True, "pooling": "", "features": scale}
        yield from _compare_families(models, by_model, about)


def _fit(
    split: Split, features: Features, bank: Features | None, column: Column, seed: int
) -> tuple[dict[str, Any], Bool[np.ndarray, " image"]]:
    """Fit the probe of one model; returns its columns, and which test images are right."""
    train, validation, test = split.read(features, bank, [column], seed)
    (probe,) = fit_logistic(
        [train.features[column]],
        train.labels,
        [validation.features[column]],
        validation.labels,
    )
    right = np.asarray(torch.eq(probe.predict(test.features[column]), test.labels).numpy())
    row = estimate_share(right).columns("accuracy", ("low", "high")) | {
        "penalty": probe.penalty,
        "converged": probe.converged,
        "inside": probe.inside,
        "why": probe.why,
        "images": len(right),
    }
    return row, right


def _compare_families(
    models: Models, gaps: Mapping[str, Float64[np.ndarray, " image"]], about: Row
) -> Iterator[tuple[str, Row]]:
    """The mean gap of each family, and REC's less JE's."""
    je, rec = list_sides(models, list(gaps))
    sides = {family: names for family, names in ((JE, je), (REC, rec)) if names}

    def average(names: "list[str]") -> Float64[np.ndarray, " image"]:
        values: dict[tuple[str, ...], np.ndarray] = {(name,): gaps[name] for name in names}
        return average_over_objectives(models, values, average_arrays)

    def subtract(chosen: Sides) -> float:
        return float(average(list(chosen[REC])).mean() - average(list(chosen[JE])).mean())

    means = {family: average(names) for family, names in sides.items()}
    for family, mean in means.items():
        row = about | {"model": family, "members": list_names(sides[family]), "against": ""}
        row |= estimate_gain(mean).columns("gap") | {"images": len(mean)}
        if family == REC and JE in means:
            difference = estimate_gain(mean - means[JE], bound=2.0)
            row |= difference.columns("difference") | {"against": JE}
            row |= fill_trainings(difference, measure_alone(models, sides, subtract))
        yield "families-probes", row
