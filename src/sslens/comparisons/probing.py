"""Probes of a study's models: which images train, choose and test them, and what a probe gains over
another, paired on the test images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float64, Int64

from sslens.capture import Column, Features
from sslens.comparisons.families import list_families
from sslens.comparisons.inputs import FeatureSets, Labels, Models, ProbeSettings
from sslens.comparisons.readings import last_tap, main_pooling, read_features
from sslens.comparisons.roles import JE, REC, list_names
from sslens.comparisons.rows import Row
from sslens.errors import InputError
from sslens.probes.linear import choosing
from sslens.probes.linear.choosing import Outcome
from sslens.probes.linear.training import GRIDS, Head, Held, outcomes, train_probes
from sslens.probes.splits import held_out
from sslens.progress import progress
from sslens.statistics.bootstrap import mean_estimate
from sslens.statistics.estimate import Estimate

SPLIT = (
    "Probes are trained on the bank, or without one on half of the images, less a fifth on which"
    " the point of the grid is chosen; both parts are drawn by SHA-256 of the ids, class by class."
    " All numbers are of the other images, the test images"
)
#: every column of the tables of probes, and what it holds
UNITS = {
    "model": "name of a model, or of a family",
    "members": "the models averaged, or matched",
    "control": "whether it is a control",
    "depth": "relative depth of the tap, 0 to 1; of two taps that of the first",
    "usual": (
        "whether this is the usual choice: the last layer's CLS token (the mean where there is"
        " none), linear"
    ),
    "main": "whether the pooling is that of the usual choice",
    **choosing.UNITS,
    "chance": "share of the most frequent class of the test images",
    "chosen": (
        "whether it is the one of its model, pooling and kind (single taps, or two) with most"
        " validation images right"
    ),
    "less": "what is subtracted in the gain",
    "gain": "accuracy less that of `less`, on the same images",
    "gain_low": "lower end of its 95 % interval, by bootstrap over test images, paired",
    "gain_high": "upper end",
    "over": "accuracy less that of the usual choice, on the same images",
    "over_low": "lower end of its 95 % interval",
    "over_high": "upper end",
    "against": "what is subtracted in the difference",
    "difference": "gain less that of `against`, on the same images",
    "difference_low": "lower end of its 95 % interval",
    "difference_high": "upper end",
}
#: between the names of two taps that are concatenated
PLUS = " + "
#: columns of text
TEXTS = ("model", "members", "tap", "pooling", "less", "against")
#: the columns of a probe, of its gain, and of what that is more than another gain
PROBE = ("model", "control", "depth", "main", *choosing.UNITS, "chance")
GAIN = ("less", "gain", "gain_low", "gain_high")
DIFFERENCE = ("against", "difference", "difference_low", "difference_high")
#: the columns of the tables that exhibits of probes share: a probe of a model; and the mean gain of
#: the models of a family
TABLES: Mapping[str, tuple[str, ...]] = {
    "probes": (*PROBE, "usual", "chosen", *GAIN, "over", "over_low", "over_high"),
    "families": (
        *("model", "members", "main", "pooling", "layers"),
        *(*GAIN, *DIFFERENCE, "images"),
    ),
}
#: by test image 1 where the one probe alone is right, −1 where the other alone is
Gains = Float64[np.ndarray, " image"]


def unfit(
    labels: Int64[np.ndarray, " image"],
    bank: Int64[np.ndarray, " banked"] | None,
    classes: Sequence[str],
) -> str | None:
    """Why no probe can be trained, chosen and tested on images of these classes; None where it can.

    Args:
        labels: the class of each image under study.
        bank: the class of each image of the bank; None without one.
        classes: their names.

    >>> unfit(np.array([0, 0, 0, 0, 1]), None, ["cat", "dog"])
    'without a bank a class needs four images, to train, to choose and to test on, and dog has 1'
    >>> unfit(np.array([0, 1]), np.array([0, 0, 1, 1]), ["cat", "dog"])
    """
    if any(len(np.unique(numbers)) < 2 for numbers in (labels, bank) if numbers is not None):
        return "the images are of one class, and a probe tells two or more apart"
    if bank is None:
        fewest = 4
        need = "without a bank a class needs four images, to train, to choose and to test on"
    else:
        fewest, need = 2, "a class of the bank needs two images, to train and to choose on"
    present, counts = np.unique(labels if bank is None else bank, return_counts=True)
    least = int(counts.argmin())
    if counts[least] >= fewest:
        return None
    return f"{need}, and {classes[present[least]]} has {counts[least]}"


@final
@dataclass(frozen=True, eq=False)
class Split:
    """Which images train, choose and test: the same images for all models.

    Attributes:
        train: rows of the bank's features (without a bank, of the images') that train probes.
        validation: rows on which the point of the grid is chosen.
        test: rows of the images' features that test probes.
        labels: the class of each image.
        bank_labels: the class of each image of the bank; without a bank those of the images.
        ids: of the images.
        bank_ids: of the bank; without a bank those of the images.
    """

    train: Int64[np.ndarray, " train"]
    validation: Int64[np.ndarray, " validation"]
    test: Int64[np.ndarray, " test"]
    labels: Int64[np.ndarray, " image"]
    bank_labels: Int64[np.ndarray, " banked"]
    ids: tuple[str, ...]
    bank_ids: tuple[str, ...]

    @classmethod
    def of(cls, features: FeatureSets, labels: Labels, seed: int) -> "Split":
        """The bank trains and the images test; without a bank each does with half of the images.

        Args:
            features: of all models.
            labels: the class of each image.
            seed: of the draw.

        Raises:
            InputError: the features of two models are of other images, or a class has too few.
        """
        ids, bank_ids = (_common_ids(sets) for sets in (features.images, features.bank))
        numbers = np.array([labels.images[name] for name in ids])
        if features.bank:
            bank_numbers = np.array([labels.bank[name] for name in bank_ids])
            learnt, test = np.arange(len(bank_ids)), np.arange(len(ids))
        else:
            bank_ids, bank_numbers = ids, numbers
            learnt, test = held_out(numbers, ids, share=0.5, seed=seed, classes=labels.classes)
        names = [bank_ids[row] for row in learnt]
        # of another seed: with that of the halves it would be the first of each class again
        train, validation = held_out(
            bank_numbers[learnt], names, seed=seed + 1, classes=labels.classes
        )
        return cls(learnt[train], learnt[validation], test, numbers, bank_numbers, ids, bank_ids)

    @property
    def learnt(self) -> Int64[np.ndarray, " learnt"]:
        """Training and validation images."""
        return np.sort(np.concatenate([self.train, self.validation]))

    @property
    def learnt_ids(self) -> list[str]:
        """Ids of the training and validation images."""
        return [self.bank_ids[row] for row in self.learnt]

    @property
    def test_ids(self) -> list[str]:
        """Ids of the test images."""
        return [self.ids[row] for row in self.test]

    def read(
        self, features: Features, bank: Features | None, columns: Sequence[Column], seed: int
    ) -> tuple[Held, Held, Held]:
        """One model's features to train on, to choose on and to test on.

        Args:
            features: of the images.
            bank: of the bank; None without one.
            columns: the taps and poolings that probes read.
            seed: of the order in which training sees the images.
        """
        classes = int(max(self.labels.max(), self.bank_labels.max())) + 1

        def part(source: Features, labels: np.ndarray, rows: np.ndarray) -> Held:
            at = torch.from_numpy(rows)
            values = {column: read_features(source, *column)[at] for column in columns}
            return Held(values, torch.from_numpy(labels[rows]), classes, seed=seed)

        learnt = features if bank is None else bank
        train, validation = (
            part(learnt, self.bank_labels, rows) for rows in (self.train, self.validation)
        )
        return train, validation, part(features, self.labels, self.test)


def _common_ids(features: Mapping[str, Features]) -> tuple[str, ...]:
    if not features:
        return ()
    first, *others = features.values()
    for other in others:
        if other.ids != first.ids:
            raise InputError(
                f"The features of {other.model} are of other images than those of {first.model}."
            )
    return first.ids


@final
@dataclass(frozen=True, eq=False)
class ModelProbes:
    """The probes of one model.

    Attributes:
        name: of the model.
        usual: the usual choice.
        outcomes: what each probe comes to, and which test images it has right.
        rows: the columns `PROBE` of each probe, and `usual`.
        seed: of the intervals.
    """

    name: str
    usual: Head
    outcomes: Mapping[Head, Outcome]
    rows: Mapping[Head, Row]
    seed: int

    def gains(self, head: Head, less: Head) -> Gains:
        """By test image 1 where `head` alone is right, −1 where `less` alone is."""
        return self.outcomes[head].right.astype(float) - self.outcomes[less].right

    def best(self, heads: Sequence[Head]) -> Head:
        """The probe with most validation images right, of equals the first."""
        return max(heads, key=lambda head: self.outcomes[head].validation)

    def row(self, head: Head, less: Head, name: str, *, chosen: bool) -> Row:
        """A row of the table `probes`.

        Args:
            head: the probe.
            less: the probe that is subtracted in its gain; of this one itself the gain is empty.
            name: what is subtracted, in words.
            chosen: whether the probe is the best of its kind on the validation images.
        """
        row = self.rows[head] | {"chosen": chosen, "less": ""}
        if head != less:
            row |= {"less": name} | self._estimate(head, less).columns("gain")
        if head != self.usual:
            row |= self._estimate(head, self.usual).columns("over")
        return row

    def _estimate(self, head: Head, less: Head) -> Estimate:
        return mean_estimate(self.gains(head, less), self.seed)


@final
@dataclass(frozen=True, eq=False)
class ProbeSetup:
    """What all probes of an exhibit share.

    Attributes:
        models: the models and the controls.
        features: of all of them.
        split: which images train, choose and test.
        settings: how probes are trained.
        seed: of first weights, of the order of images, and of intervals.
    """

    models: Models
    features: FeatureSets
    split: Split
    settings: ProbeSettings
    seed: int

    def train(
        self, name: str, heads: Sequence[Head], *, label: str = "probes", seed: int | None = None
    ) -> ModelProbes:
        """Train every head of one model on every point of the grid, and choose and test.

        Args:
            name: of the model.
            heads: what is trained.
            label: what is trained, for the line of progress.
            seed: of the first weights; that of the setup unless given.

        Raises:
            InputError: as `train_probes` and `outcomes` raise.
        """
        features, settings = self.features.images[name], self.settings
        columns = list(dict.fromkeys(column for head in heads for column in head.columns))
        bank = self.features.bank.get(name)
        train, validation, test = self.split.read(features, bank, columns, self.seed)
        grid = GRIDS[settings.grid](train.batch, train.steps)
        first = self.seed if seed is None else seed
        with progress(f"{label} of {name}", unit="epoch", quiet=settings.quiet) as report:
            probes = train_probes(
                train, heads, grid, seed=first, device=settings.device, progress=report
            )
        trained = outcomes(probes, validation, test)
        table = choosing.table(list(trained.values()), grid).frame
        usual = usual_head(features)
        depths = {tap.name: tap.depth for tap in features.taps}
        common = {
            "model": name,
            "control": self.models.is_control(name),
            "chance": float(np.bincount(test.labels.numpy()).max() / len(test.labels)),
        }
        rows = {}
        for head, numbers in zip(trained, table.to_dict("records"), strict=True):
            tap, pooling = head.columns[0]
            rows[head] = common | {
                "depth": depths[tap],
                "usual": head == usual,
                "main": pooling == usual.columns[0][1],
                **{str(column): value for column, value in numbers.items()},
            }
        return ModelProbes(name, usual, trained, rows, self.seed)


def usual_head(features: Features) -> Head:
    """A linear probe of the CLS token after the last layer, or of what the model has instead."""
    return Head(((last_tap(features), main_pooling(features)),))


def compare_families(
    models: Models, gains: Mapping[str, Gains], about: Row, seed: int
) -> Iterator[tuple[str, Row]]:
    """The rows of `families`: the mean gain of the models of each family, and what REC gains more
    than JE on the same images.

    Args:
        models: the models and the controls.
        gains: of each model, by test image.
        about: the columns that say of which probes the gains are.
        seed: of the intervals.
    """
    sides = {
        family: [name for name in names if name in gains]
        for family, names in zip((JE, REC), list_families(models), strict=True)
    }
    means = {
        family: np.mean([gains[name] for name in names], axis=0)
        for family, names in sides.items()
        if names
    }
    for family, mean in means.items():
        row = about | {"model": family, "members": list_names(sides[family]), "against": ""}
        row |= mean_estimate(mean, seed).columns("gain") | {"images": len(mean)}
        if family == REC and JE in means:
            row["against"] = JE
            row |= mean_estimate(mean - means[JE], seed).columns("difference")
        yield "families", row


def read_accuracy(row: Mapping[str, Any]) -> Estimate:
    """The accuracy of a row of a table, with its interval."""
    return Estimate.from_row(row, "accuracy", "images", "images", ends=("low", "high"))


def read_gain(row: Mapping[str, Any], column: str = "gain") -> Estimate:
    """A difference of accuracies of a row of a table: its `gain`, `over` or `difference`."""
    return Estimate.from_row(row, column, "images", "images")
