"""Trained detectors of a study, and how good they are, with intervals over images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from jaxtyping import Float32, Float64, Int64

from sslens.comparisons import trainings
from sslens.comparisons.inputs import Models
from sslens.comparisons.multicrop import uses_multicrop
from sslens.comparisons.roles import JE, REC, is_tuned, list_names, list_pretrained
from sslens.comparisons.rows import Row
from sslens.comparisons.trainings import Sides
from sslens.data.detections import DetectionSet
from sslens.statistics.bootstrap import Bootstrapped
from sslens.statistics.estimate import NAN, NARROWEST, Estimate

#: what is scored, boxes or masks, and the numbers of each, in the order of
#: `sslens.scoring.score.PRECISIONS`
KINDS = ("box", "mask")
MEASURES = ("AP", "AP50", "AP75", "AP small", "AP medium", "AP large")
#: the columns of the papers' tables 6 and 7
PAPERS = ("AP", "AP large", "AP small")
#: JE without those that were trained on small crops, as claim C12 has it
SINGLE = f"{JE} without multi-crop"
MULTI = f"{JE} with multi-crop"


@final
@dataclass(frozen=True, eq=False)
class Found:
    """The detections in all images of a set, the best of each image first.

    Attributes:
        image: the row of each detection's image.
        boxes: (x0, y0, x1, y1) in pixels of the image.
        scores: from 0 to 1.
        labels: index into the categories of the set.
    """

    image: Int64[np.ndarray, " detection"]
    boxes: Float32[np.ndarray, "detection 4"]
    scores: Float32[np.ndarray, " detection"]
    labels: Int64[np.ndarray, " detection"]


@final
@dataclass(frozen=True)
class TrainingLength:
    """How long a detector was trained, and whether longer would have helped.

    Attributes:
        steps: steps of the training.
        epochs: passes over the training images.
        batch_size: images of a step.
        seconds: time of the training.
        loss: mean loss of the last quarter of the steps.
        gained: the last box AP less the box AP after three quarters of the steps; nan if it is not
            known.
    """

    steps: int
    epochs: int
    batch_size: int
    seconds: float
    loss: float
    gained: float


@final
@dataclass(frozen=True, eq=False)
class TrainedDetector:
    """A detector of one model.

    Attributes:
        numbers: average precisions, from 0 to 1, in cells [kind, measure]; nan where there is no
            object. All detectors of a set have the same draws of images.
        categories: AP of each category.
        found: what it detects.
        length: how long it was trained.
        key: everything that decided it.
    """

    numbers: Bootstrapped
    categories: Float64[np.ndarray, "kind category"]
    found: Found
    length: TrainingLength
    key: Mapping[str, Any]


@final
@dataclass(frozen=True, eq=False)
class DetectorSet:
    """Detectors that were trained alike on several models.

    Attributes:
        detectors: by the model's name, in the models' order.
        images: the images in which they are judged.
        sizes: what large, medium and small mean, as a sentence.
        protocol: how the detectors were trained, as a sentence.
        as_published: whether images, sizes and heads are the papers', so that their numbers can
            stand beside.
    """

    detectors: Mapping[str, TrainedDetector]
    images: DetectionSet
    sizes: str
    protocol: str
    as_published: bool = False

    @property
    def numbers(self) -> dict[str, Bootstrapped]:
        """The numbers of each model's detector."""
        return {name: one.numbers for name, one in self.detectors.items()}

    @property
    def key(self) -> Mapping[str, Any]:
        """What decided each detector, and what small and large mean."""
        return {"sizes": self.sizes} | {name: dict(one.key) for name, one in self.detectors.items()}


def read_number(numbers: Bootstrapped, kind: str, measure: str) -> Estimate:
    """One of the numbers of a detector, or of a difference of two, with its interval over images;
    there is none where it is the same in all draws, which tells nothing of other images.

    Args:
        numbers: cells [kind, measure].
        kind: one of `KINDS`.
        measure: one of `MEASURES`.
    """
    estimate = numbers[KINDS.index(kind), MEASURES.index(measure)].estimate()
    if estimate.high - estimate.low < NARROWEST:
        return replace(estimate, low=NAN, high=NAN)
    return estimate


def average_models(
    models: Models, numbers: Mapping[str, Bootstrapped], names: Sequence[str]
) -> Bootstrapped:
    """Average over trainings, then over objectives."""
    values = {(name,): numbers[name] for name in names}
    return trainings.average_over_objectives(models, values, Bootstrapped.average)


def compare_sides(
    models: Models, numbers: Mapping[str, Bootstrapped], sides: Sides, kind: str, measure: str
) -> Row:
    """Make the columns of the first side's mean, the second's, and their difference, with its
    interval over images and over trainings too.

    Args:
        models: the models of the study.
        numbers: of each model, cells [kind, measure].
        sides: the names of the models of two sides.
        kind: "box" or "mask".
        measure: one of `MEASURES`.
    """
    at = KINDS.index(kind), MEASURES.index(measure)
    (one, first), (other, second) = sides.items()
    means = {side: average_models(models, numbers, names) for side, names in sides.items()}
    difference = read_number(means[one] - means[other], kind, measure)

    def measure_alone(chosen: Sides) -> float:
        means = [average_models(models, numbers, names).value[at] for names in chosen.values()]
        return float(means[0] - means[1])

    alone = trainings.measure_alone(models, sides, measure_alone)
    members = f"{one}: {list_names(first)}; {other}: {list_names(second)}"
    row: Row = {"model": one, "less": other, "members": members, "kind": kind, "measure": measure}
    row |= read_number(means[one], kind, measure).columns("ap", ends=("low", "high"))
    row |= {"other": float(means[other].value[at])} | difference.columns("difference")
    return row | trainings.fill_trainings(difference, alone) | {"images": difference.n}


def list_sides(models: Models, names: Sequence[str]) -> dict[str, list[str]]:
    """The pre-trained models of each side of the claims, those of equal weights once: JE, JE
    without and with multi-crop, and REC."""
    je, rec = (
        trainings.count_trainings_once(models, list_pretrained(models, names, family))
        for family in (JE, REC)
    )
    single = [name for name in je if not uses_multicrop(models.about(name))]
    sides = {JE: je, SINGLE: single, MULTI: [n for n in je if n not in single], REC: rec}
    return {side: members for side, members in sides.items() if members}


def read_sides(members: str) -> dict[str, tuple[str, ...]]:
    """Read the column `members` of a comparison of two sides.

    >>> read_sides("REC: mae; JE without multi-crop: dino, moco and msn")
    {'REC': ('mae',), 'JE without multi-crop': ('dino', 'moco', 'msn')}
    """
    sides = {}
    for part in members.split("; "):
        side, _, names = part.partition(": ")
        *first, last = names.rsplit(" and ", 1)
        sides[side] = (*(name for text in first for name in text.split(", ")), last)
    return sides


def find_control(models: Models, names: Sequence[str], name: str) -> str | None:
    """Return the random initialisation of a model's architecture, if there is one."""
    arch = models.about(name).arch
    for other in names:
        about = models.about(other)
        if models.is_control(other) and arch and about.arch == arch and not is_tuned(about):
            return other
    return None
