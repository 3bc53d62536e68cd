"""Training and testing of the probes of an analysis, and the gain of one probe over another, paired
on the test images."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import pandas as pd
from jaxtyping import Float64

from sslens.capture import Features
from sslens.comparisons import trainings
from sslens.comparisons.families import list_families
from sslens.comparisons.inputs import CLASSES, FeatureSets, Models, ProbeSettings
from sslens.comparisons.probe_split import Split
from sslens.comparisons.probe_training import PENALTIES, Parts, Trained, train_heads
from sslens.comparisons.readings import find_usual
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
from sslens.probes.linear import choosing
from sslens.probes.linear.choosing import Outcome
from sslens.probes.linear.heads import Head
from sslens.progress import progress
from sslens.statistics import estimate
from sslens.statistics.estimate import Answer, Contrast, Estimate
from sslens.statistics.gains import estimate_gain
from sslens.statistics.proportions import find_chance

#: every column of the tables of probes, and what it holds
UNITS = {
    "model": "name of a model, or of a family",
    "members": "the models averaged, or matched",
    "control": "whether it is a control",
    "depth": "relative depth of the tap, 0 to 1; of two taps that of the first",
    "usual": (
        "whether this is the usual choice: the last layer's CLS token (the mean where there is"
        " none; what the model's own classifier read, where it has one), linear"
    ),
    "main": "whether the pooling is that of the usual choice",
    **choosing.UNITS,
    "chance": "share of the most frequent class among all labelled images",
    **CLASSES,
    "chosen": (
        "whether it is the one of its model, pooling and kind (single taps, or two) with most"
        " validation images right"
    ),
    "less": "what is subtracted in the gain",
    "gain": "accuracy less that of `less`, on the same images",
    "gain_low": "lower end of its 95 % interval over test images, paired",
    "gain_high": "upper end",
    "over": "accuracy less that of the usual choice, on the same images",
    "over_low": "lower end of its 95 % interval",
    "over_high": "upper end",
    **{name: text for name, text in PENALTIES.items() if name not in choosing.UNITS},
    "settled": (
        "whether every probe behind the number has converged, with its setting inside those that"
        " were tried; no verdict rests on others"
    ),
    "against": "what is subtracted in the difference",
    "difference": "gain less that of `against`, on the same images",
    "difference_low": "lower end of its 95 % interval",
    "difference_high": "upper end",
    **trainings.UNITS,
}
#: between the names of two taps that are concatenated
PLUS = " + "
#: columns of text
TEXTS = ("model", "members", "tap", "pooling", "less", "against", "why")
#: the columns of a probe, of its gain, and of what that is more than another gain
PROBE = ("model", "control", "depth", "main", *choosing.UNITS, "chance", *CLASSES)
GAIN = ("less", "gain", "gain_low", "gain_high")
DIFFERENCE = ("against", "difference", "difference_low", "difference_high")
#: the columns of the tables that exhibits of probes share: a probe of a model; and the mean gain of
#: the models of a family
TABLES: Mapping[str, tuple[str, ...]] = {
    "probes": (*PROBE, "usual", "chosen", *GAIN, "over", "over_low", "over_high"),
    "families": (
        *("model", "members", "main", "pooling", "layers"),
        *(*GAIN, *DIFFERENCE, *TRAININGS, "settled", "why", "images"),
    ),
    "penalties": ("model", "control", "tap", "pooling", *PENALTIES),
}
#: by test image 1 where the one probe alone is right, −1 where the other alone is
Gains = Float64[np.ndarray, " image"]


@final
@dataclass(frozen=True, eq=False)
class ModelProbes:
    """The trained probes of one model, with their results on the test images.

    Attributes:
        name: the model's name.
        usual: the usual probe: a linear one of the last layer (`make_usual_head`).
        trained: the trained probes, with their results.
        rows: the columns `PROBE` and `usual` of each probe's row.
        chosen_on: the number of validation images.
    """

    name: str
    usual: Head
    trained: Trained
    rows: Mapping[Head, Row]
    chosen_on: int = 0

    @property
    def outcomes(self) -> Mapping[Head, Outcome]:
        """The result of each probe: its accuracies, and whether each test image is right."""
        return self.trained.outcomes

    def explain_unsettled(self, heads: Iterable[Head]) -> str:
        """Say which of some probes has not converged, or has its setting at an end of those that
        were tried; empty if each has converged inside."""
        for head in heads:
            if not is_settled(self.rows[head]):
                why = self.outcomes[head].why or "it has not converged"
                return f"{head.name} of {self.name}: {why}"
        return ""

    def penalties(self) -> Iterator[tuple[str, Row]]:
        """Make the rows of the table `penalties`: every regression that was tried."""
        for head, row in self.trained.penalties():
            place = {name: self.rows[head][name] for name in ("model", "control", "tap", "pooling")}
            yield "penalties", place | row

    def gains(self, head: Head, less: Head) -> Gains:
        """Compare two probes on each test image.

        The result is 1 where only `head` is right, −1 where only `less` is right, and 0 elsewhere.
        """
        return self.outcomes[head].right.astype(float) - self.outcomes[less].right

    def best(self, heads: Sequence[Head]) -> Head:
        """Return the probe with the highest validation accuracy; the first one if several tie."""
        return max(heads, key=lambda head: self.outcomes[head].validation)

    def row(self, head: Head, less: Head, name: str, *, chosen: bool) -> Row:
        """Make the row of a probe in the table `probes`.

        Args:
            head: the probe.
            less: the probe that is subtracted in the gain; the row has no gain if it equals `head`.
            name: the name of `less`, in words.
            chosen: whether the probe is the best of its kind on the validation images.
        """
        row = self.rows[head] | {"chosen": chosen, "less": ""}
        if head != less:
            row |= {"less": name} | self._estimate(head, less).columns("gain")
        if head != self.usual:
            row |= self._estimate(head, self.usual).columns("over")
        return row

    def _estimate(self, head: Head, less: Head) -> Estimate:
        return estimate_gain(self.gains(head, less))


@final
@dataclass(frozen=True, eq=False)
class ProbeSetup:
    """The data and settings that all probes of an analysis share.

    Attributes:
        models: the models and the controls.
        features: the features of all models and controls.
        split: the training, validation and test images.
        settings: how probes are trained.
        seed: seed of the initial weights and of the order of images.
    """

    models: Models
    features: FeatureSets
    split: Split
    settings: ProbeSettings
    seed: int

    def train(
        self, name: str, heads: Sequence[Head], *, label: str = "probes", seed: int | None = None
    ) -> ModelProbes:
        """Train, choose and test every probe of one model.

        The validation images choose the penalty of a linear probe, or the setting with which a
        probe is trained; the test images test it.

        Args:
            name: the model's name.
            heads: the probes to train.
            label: the name of the probes in the line of progress.
            seed: seed of the initial weights; `self.seed` unless given.

        Raises:
            InputError: `train_heads` cannot use the features.
        """
        features, settings = self.features.images[name], self.settings
        columns = list(dict.fromkeys(column for head in heads for column in head.columns))
        bank = self.features.bank.get(name)
        parts = Parts(*self.split.read(features, bank, columns, self.seed))
        with progress(f"{label} of {name}", unit="", quiet=settings.quiet) as report:
            trained = train_heads(
                parts,
                heads,
                settings.grid,
                seed=self.seed if seed is None else seed,
                device=settings.device,
                progress=report,
            )
        table = choosing.table(list(trained.outcomes.values()), trained.grid).frame
        usual = make_usual_head(features)
        depths = {tap.name: tap.depth for tap in features.taps}
        common = {
            "model": name,
            "control": self.models.is_control(name),
            "chance": find_chance(self.split.labels),
            "classes": len(np.unique(parts.test.labels.numpy())),
            "classes_of": self.split.classes_of,
        }
        rows = {}
        for head, numbers in zip(trained.outcomes, table.to_dict("records"), strict=True):
            tap, pooling = head.columns[0]
            rows[head] = common | {
                "depth": depths[tap],
                "usual": head == usual,
                "main": pooling == usual.columns[0][1],
                **{str(column): value for column, value in numbers.items()},
            }
        return ModelProbes(name, usual, trained, rows, len(parts.validation.labels))


def make_usual_head(features: Features) -> Head:
    """Return the usual probe: a linear one of the last tap with its usual pooling."""
    return Head((find_usual(features),))


def compare_gains_of_families(
    models: Models,
    gains: Mapping[str, Gains],
    about: Row,
    unsettled: Mapping[str, str],
) -> Iterator[tuple[str, Row]]:
    """Make the rows of the table `families`: the mean gain of each family, JE and REC.

    Every objective of a family has the same weight. The row of REC also has the difference of the
    two families' mean gains, paired on the same test images, and its interval over trainings.

    Args:
        models: the models and the controls.
        gains: the gain on each test image, by the model's name (`ModelProbes.gains`).
        about: the columns that describe the compared probes, which every row repeats.
        unsettled: what keeps a model's gain from being settled, by its name; empty if nothing does.
    """
    sides = {
        family: [name for name in names if name in gains]
        for family, names in zip((JE, REC), list_families(models), strict=True)
    }
    sides = {family: names for family, names in sides.items() if names}

    def average(names: Sequence[str]) -> Gains:
        return average_over_objectives(models, {(n,): gains[n] for n in names}, average_arrays)

    def subtract(chosen: Sides) -> float:
        return float((average(chosen[REC]) - average(chosen[JE])).mean())

    for family, names in sides.items():
        mean = average(names)
        row = about | {"model": family, "members": list_names(names), "against": ""}
        row |= estimate_gain(mean).columns("gain") | {"images": len(mean)}
        why = "; ".join(filter(None, (unsettled.get(name, "") for name in names)))
        row |= {"settled": not why, "why": why}
        if family == REC and JE in sides:
            row["against"] = JE
            difference = estimate_gain(mean - average(sides[JE]), bound=2.0)
            row |= difference.columns("difference")
            row |= fill_trainings(difference, measure_alone(models, sides, subtract))
        yield "families", row


def is_settled(row: Mapping[str, Any]) -> bool:
    """Whether a row of a probe has converged, with its setting inside those that were tried."""
    return bool(row["converged"]) and bool(row["inside"])


def find_settled(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Find the probes that have converged, with a setting inside those that were tried.

    >>> rows = pd.DataFrame({"converged": [1.0, 1.0, None], "inside": [1.0, 0.0, 1.0]})
    >>> find_settled(rows).tolist()
    [True, False, False]
    """
    settled = pd.Series(True, index=rows.index)
    for column in ("converged", "inside"):
        if column in rows:
            settled &= rows[column].map(lambda value: value is not None and value == 1).astype(bool)
    return settled


def judge_gain(gain: Contrast | None, models: int = 1) -> Answer:
    """Say whether the best probe should replace the usual one: "holds" if it gains half a point or
    more, and its interval lies above 0.

    Args:
        models: the number of models of which this is asked; it "holds" only by an interval that
            holds for all at once.
        gain: accuracy or mIoU of the best probe less the usual one's, on the test images; None if
            the usual probe is the best one.
    """
    if gain is None:
        return "undecided"
    answer = estimate.decide(gain, smallest=estimate.SMALLEST["accuracy"])
    together = replace(gain, difference=gain.difference.hold_together(models))
    sure = estimate.decide(together, smallest=estimate.SMALLEST["accuracy"])
    return "undecided" if answer == "holds" and sure != "holds" else answer


def read_accuracy(row: Mapping[str, Any]) -> Estimate:
    """Read the accuracy of a row, a share of test images, with its interval."""
    return Estimate.from_row(row, "accuracy", "images", "images", ends=("low", "high"))


def read_gain(row: Mapping[str, Any], column: str = "gain") -> Estimate:
    """Read a difference of accuracies of a row, in the column `gain`, `over` or `difference`."""
    return Estimate.from_row(row, column, "images", "images")
