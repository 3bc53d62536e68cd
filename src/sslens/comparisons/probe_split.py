"""The split of the images on which probes are trained, chosen and tested."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Int64

from sslens.capture import Column, Features
from sslens.comparisons.inputs import FeatureSets, Labels
from sslens.comparisons.readings import read_features
from sslens.errors import InputError
from sslens.probes.linear.batches import Held
from sslens.probes.splits import held_out

SPLIT = (
    "Probes are trained on the bank, or without one on half of the images, less a fifth on which"
    " the penalty or the setting of the training is chosen; both parts are drawn by SHA-256 of the"
    " ids, class by class, and all are centre crops. All numbers are of the other images, the test"
    " images"
)


def explain_unfit(
    labels: Int64[np.ndarray, " image"],
    bank: Int64[np.ndarray, " banked"] | None,
    classes: Sequence[str],
) -> str | None:
    """Say why images of these classes are too few to train, choose and test a probe: fewer than two
    classes have enough, or these hold less than half of the images.

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
    voting = labels if bank is None else bank
    fit = find_fit(labels, bank)
    enough = 2 * np.isin(voting, fit).sum() >= len(voting) and bool(np.isin(labels, fit).any())
    if len(fit) > 1 and enough:
        return None
    present, counts = np.unique(voting, return_counts=True)
    least = int(counts.argmin())
    return f"{describe_fewest(bank is not None)}, and {classes[present[least]]} has {counts[least]}"


def explain_unfit_sets(features: FeatureSets, labels: Labels) -> str | None:
    """Say as `explain_unfit` why the images of some features, and of the bank where there is one,
    are too few for a probe; None if they are enough.

    Args:
        features: the features of all models.
        labels: the class of each image.

    >>> import torch
    >>> from sslens.capture import Features
    >>> from sslens.models.taps import Tap
    >>> x = torch.zeros(2, 1)
    >>> one = Features.of({("norm", "cls"): x}, ids=("a", "b"), taps=[Tap("norm", "norm", 1.0)])
    >>> explain_unfit_sets(FeatureSets({"mae": one}), Labels({"a": 0, "b": 1}, {}, ("cat", "dog")))
    'without a bank a class needs four images, to train, to choose and to test on, and cat has 1'
    """
    own, bank = (
        np.array([known[name] for name in next(iter(sets.values())).ids]) if sets else None
        for sets, known in ((features.images, labels.images), (features.bank, labels.bank))
    )
    assert own is not None
    return explain_unfit(own, bank, labels.classes)


def describe_fewest(banked: bool) -> str:
    """Say how many images a class needs for a probe.

    >>> describe_fewest(True)
    'a class of the bank needs two images, to train and to choose on'
    """
    if banked:
        return "a class of the bank needs two images, to train and to choose on"
    return "without a bank a class needs four images, to train, to choose and to test on"


def find_fit(
    labels: Int64[np.ndarray, " image"], bank: Int64[np.ndarray, " banked"] | None
) -> Int64[np.ndarray, " fit"]:
    """Find the classes with images enough to train, choose and test a probe: two in the bank, or
    four without one.

    >>> find_fit(np.array([0, 0, 0, 0, 1]), None).tolist()
    [0]
    """
    fewest, voting = (4, labels) if bank is None else (2, bank)
    present, counts = np.unique(voting, return_counts=True)
    return np.asarray(present[counts >= fewest], np.int64)


@final
@dataclass(frozen=True, eq=False)
class Split:
    """The split of the images into training, validation and test images, equal for all models.

    Images of classes that have too few are in no part (`find_fit`). Without a bank, the images
    under study take the bank's place: `bank_labels` equals `labels`, and `bank_ids` equals `ids`.

    Attributes:
        train: rows of the bank's features that train probes.
        validation: rows of the bank's features that choose the hyperparameters of a probe.
        test: rows of the features of the images under study that test probes.
        labels: class of each image under study.
        bank_labels: class of each image of the bank.
        ids: id of each image under study.
        bank_ids: id of each image of the bank.
        classes_of: the number of classes that there were, of which those of `test` had images
            enough.
    """

    train: Int64[np.ndarray, " train"]
    validation: Int64[np.ndarray, " validation"]
    test: Int64[np.ndarray, " test"]
    labels: Int64[np.ndarray, " image"]
    bank_labels: Int64[np.ndarray, " banked"]
    ids: tuple[str, ...]
    bank_ids: tuple[str, ...]
    classes_of: int = 0

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
        ids, bank_ids = (_find_common_ids(sets) for sets in (features.images, features.bank))
        numbers = np.array([labels.images[name] for name in ids])
        if features.bank:
            bank_numbers = np.array([labels.bank[name] for name in bank_ids])
            fit = find_fit(numbers, bank_numbers)
            learnt, test = (
                np.flatnonzero(np.isin(several, fit)) for several in (bank_numbers, numbers)
            )
        else:
            bank_ids, bank_numbers = ids, numbers
            rows = np.flatnonzero(np.isin(numbers, find_fit(numbers, None)))
            of_rows = [ids[row] for row in rows]
            halves = held_out(numbers[rows], of_rows, share=0.5, seed=seed, classes=labels.classes)
            learnt, test = (rows[half] for half in halves)
        names = [bank_ids[row] for row in learnt]
        # of another seed: with that of the halves it would be the first of each class again
        train, validation = held_out(
            bank_numbers[learnt], names, seed=seed + 1, classes=labels.classes
        )
        every = labels.count_classes(numbers)["classes_of"]
        return cls(
            learnt[train], learnt[validation], test, numbers, bank_numbers, ids, bank_ids, every
        )

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


def _find_common_ids(features: Mapping[str, Features]) -> tuple[str, ...]:
    if not features:
        return ()
    first, *others = features.values()
    for other in others:
        if other.ids != first.ids:
            raise InputError(
                f"The features of {other.model} are of other images than those of {first.model}."
            )
    return first.ids
