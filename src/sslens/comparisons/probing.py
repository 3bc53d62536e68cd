"""Training and testing of probes: the split of the images, and the gain of one probe over another,
paired on the test images."""

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


def explain_unfit(
    labels: Int64[np.ndarray, " image"],
    bank: Int64[np.ndarray, " banked"] | None,
    classes: Sequence[str],
) -> str | None:
    """Say why images of these classes are too few to train, choose and test a probe.

    Args:
        labels: class of each image under study, as an index into `classes`.
        bank: class of each image of the bank; None if there is no bank.
        classes: names of the classes.

    Returns:
        The reason, as a clause; None if there are enough images.

    >>> explain_unfit(np.array([0, 0, 0, 0, 1]), None, ["cat", "dog"])
    'without a bank a class needs four images, to train, to choose and to test on, and dog has 1'
    >>> explain_unfit(np.array([0, 1]), np.array([0, 0, 1, 1]), ["cat", "dog"])
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
    """The split of the images into training, validation and test images, equal for all models.

    Without a bank, the images under study take the bank's place: `bank_labels` equals `labels`, and
    `bank_ids` equals `ids`.

    Attributes:
        train: rows of the bank's features that train probes.
        validation: rows of the bank's features that choose the hyperparameters of a probe.
        test: rows of the features of the images under study that test probes.
        labels: class of each image under study.
        bank_labels: class of each image of the bank.
        ids: id of each image under study.
        bank_ids: id of each image of the bank.
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
        """Split the images: the bank trains and validates, and the images under study test.

        Without a bank, half of the images train and validate, and the other half test. A fifth of
        the images that train and validate is for validation.

        Args:
            features: the features of all models.
            labels: the class of each image.
            seed: seed of the split; each image is drawn by a hash of its id, class by class.

        Raises:
            InputError: the features of two models are of different images, or a class has too few
                images.
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
        """Rows of the bank's features that train or validate, in ascending order."""
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
        """Read one model's features and labels of the training, validation and test images.

        Args:
            features: the model's features of the images under study.
            bank: the model's features of the bank; None if there is no bank.
            columns: the columns (tap, pooling) that probes read.
            seed: seed of the order in which training sees the images.

        Returns:
            Training, validation and test data, in this order.
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
    """The trained probes of one model, with their results on the test images.

    Attributes:
        name: the model's name.
        usual: the usual probe: a linear one of the last layer (`usual_head`).
        outcomes: the result of each probe: its accuracies, and whether each test image is right.
        rows: the columns `PROBE` and `usual` of each probe's row.
        seed: seed of the bootstrap of intervals.
    """

    name: str
    usual: Head
    outcomes: Mapping[Head, Outcome]
    rows: Mapping[Head, Row]
    seed: int

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
        return mean_estimate(self.gains(head, less), self.seed)


@final
@dataclass(frozen=True, eq=False)
class ProbeSetup:
    """The data and settings that all probes of an analysis share.

    Attributes:
        models: the models and the controls.
        features: the features of all models and controls.
        split: the training, validation and test images.
        settings: how probes are trained.
        seed: seed of the initial weights, of the order of images, and of intervals.
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

        Each head is trained with each point of the grid of hyperparameters; the validation images
        choose the point, and the test images test it.

        Args:
            name: the model's name.
            heads: the probes to train.
            label: the name of the probes in the line of progress.
            seed: seed of the initial weights; `self.seed` unless given.

        Raises:
            InputError: `train_probes` or `outcomes` cannot use the features.
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
    """Return the usual probe: a linear one of the last tap's CLS token, or of the mean of its
    tokens if there is no CLS token, or of the values of raw pixels."""
    return Head(((last_tap(features), main_pooling(features)),))


def compare_gains_of_families(
    models: Models, gains: Mapping[str, Gains], about: Row, seed: int
) -> Iterator[tuple[str, Row]]:
    """Make the rows of the table `families`: the mean gain of each family, JE and REC.

    The row of REC also has the difference of the two families' mean gains, paired on the same test
    images.

    Args:
        models: the models and the controls.
        gains: the gain on each test image, by the model's name (`ModelProbes.gains`).
        about: the columns that describe the compared probes, which every row repeats.
        seed: seed of the bootstrap of intervals.
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
    """Read the accuracy of a row, a share of test images, with its interval."""
    return Estimate.from_row(row, "accuracy", "images", "images", ends=("low", "high"))


def read_gain(row: Mapping[str, Any], column: str = "gain") -> Estimate:
    """Read a difference of accuracies of a row, in the column `gain`, `over` or `difference`."""
    return Estimate.from_row(row, column, "images", "images")
