"""Labelled features, for training in shuffled batches and for evaluation in order: in memory, or
block by block from a store."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, final, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sslens.capture import Column, Features
from sslens.counts import spell_count
from sslens.data.streams import stream
from sslens.errors import InputError, nearest
from sslens.probes.linear.grid import PAPER_BATCH

Batch = tuple[Mapping[Column, Float[Tensor, "_ _"]], Int64[Tensor, " _"]]

#: images of a block where nothing is trained
BLOCK = 4096
#: steps of an epoch for which the batch is made smaller than the papers'
STEPS = 32


@runtime_checkable
class Batches(Protocol):
    """Training data of probes: the widths of the features, and batches of them, as many in every
    epoch."""

    columns: Mapping[Column, int]
    classes: int
    batch: int

    @property
    def steps(self) -> int:
        """Number of batches in an epoch."""
        ...

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the batches of an epoch; the same number gives the same batches."""
        ...


@runtime_checkable
class Labelled(Protocol):
    """Evaluation data of probes: features and labels in a fixed order."""

    columns: Mapping[Column, int]
    classes: int
    labels: Int64[Tensor, " image"]

    def blocks(self, columns: Sequence[Column]) -> Iterator[Batch]:
        """Yield all images in order, a block at a time."""
        ...


def usual_batch(images: int) -> int:
    """Return the default number of images in a step: the papers' 4,096, or for small sets the
    largest power of two that leaves `STEPS` steps an epoch, but 32 or more.

    LARS moves a weight by a share of its length in a step. With few steps the weights therefore
    hardly move, whatever the learning rate.

    >>> usual_batch(1_281_167), usual_batch(20_000), usual_batch(50)
    (4096, 512, 32)
    """
    power = 1 << max(5, int(np.log2(max(1, images / STEPS))))
    return min(PAPER_BATCH, power, images)


@final
class Held:
    """Labelled features in memory.

    Args:
        features: `[image, dim]` by column, all of the same images.
        labels: the class of each image.
        classes: the number of classes; the highest label + 1 unless given.
        batch: the number of images in a step; `usual_batch` unless given. Images that do not fill a
            last batch are left out of the epoch.
        seed: decides, with the number of the epoch, the order of the images.

    Raises:
        InputError: no features, another number of labels, labels out of range or of one class,
            values that are not finite.

    >>> features, labels = {("norm", "cls"): torch.arange(6.0)[:, None]}, torch.arange(6) % 2
    >>> held = Held(features, labels, batch=4)
    >>> [(sorted(x[("norm", "cls")].flatten().tolist()), y.tolist()) for x, y in held.epoch(0)]
    [([0.0, 1.0, 4.0, 5.0], [1, 0, 0, 1])]
    """

    def __init__(
        self,
        features: Mapping[Column, Float[Tensor, "_ _"]],
        labels: Int64[Tensor, " image"],
        classes: int | None = None,
        *,
        batch: int | None = None,
        seed: int = 0,
    ) -> None:
        if not features:
            raise InputError("There are no features to probe: give one column at least.")
        for column, values in features.items():
            if len(values) != len(labels):
                raise InputError(
                    f"{'/'.join(column)} has features of {spell_count(len(values), 'image')},"
                    f" beside {spell_count(len(labels), 'label')}: give one label an image."
                )
            _require_finite(column, values)
        self.features = dict(features)
        self.columns: Mapping[Column, int] = {
            column: values.shape[1] for column, values in features.items()
        }
        self.labels, self.classes = labels, class_count(labels, classes)
        self.batch, self.seed = step_size(batch, len(labels)), seed

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def steps(self) -> int:
        return len(self.labels) // self.batch

    def take(self, rows: Int64[np.ndarray, " taken"], *, batch: int | None = None) -> "Held":
        """Return the data of these images, in this order."""
        at = torch.from_numpy(rows)
        taken = {column: values[at] for column, values in self.features.items()}
        return Held(taken, self.labels[at], self.classes, batch=batch, seed=self.seed)

    def epoch(self, number: int) -> Iterator[Batch]:
        order = torch.from_numpy(stream(self.seed, number, 2).permutation(len(self.labels)))
        for start in range(0, self.steps * self.batch, self.batch):
            rows = order[start : start + self.batch]
            yield (
                {column: values.index_select(0, rows) for column, values in self.features.items()},
                self.labels[rows],
            )

    def blocks(self, columns: Sequence[Column]) -> Iterator[Batch]:
        require_columns(columns, self.columns)
        for start in range(0, len(self.labels), BLOCK):
            rows = slice(start, start + BLOCK)
            yield {column: self.features[column][rows] for column in columns}, self.labels[rows]


@final
class Stored:
    """Labelled features in a store, read block by block: memory does not grow with their number.

    Args:
        store: as `open_features` or `Features.of` gives them.
        labels: the class of each row of the store; the store's own unless given.
        classes: the number of classes; the store's unless given.
        rows: the rows of the store that are taken; all unless given.
        columns: the columns that are read; all unless given.
        batch: the number of images in a step; `usual_batch` unless given.
        seed: decides the order of images.

    Raises:
        InputError: no labels, labels that do not fit, or a column that the store lacks; and when
            they are read, values that are not finite.
    """

    def __init__(
        self,
        store: Features,
        labels: Int64[Tensor, " image"] | None = None,
        classes: int | None = None,
        *,
        rows: Int64[np.ndarray, " taken"] | None = None,
        columns: Sequence[Column] | None = None,
        batch: int | None = None,
        seed: int = 0,
    ) -> None:
        if labels is None:
            if store.labels is None:
                raise InputError(
                    "The stored features have no labels: their images had no classes. Give labels."
                )
            labels, classes = (
                torch.from_numpy(np.array(store.labels)),
                classes or len(store.classes),
            )
        if len(labels) != len(store):
            raise InputError(
                f"{spell_count(len(labels), 'label')} for {len(store):,} stored images:"
                " give one an image."
            )
        require_columns(columns or (), store.columns)
        self._store, self._all = store, labels
        self._rows = np.arange(len(store)) if rows is None else rows
        self.columns: Mapping[Column, int] = {
            c: dim for c, dim in store.columns.items() if columns is None or c in columns
        }
        self.labels = labels[torch.from_numpy(self._rows)]
        self.classes = class_count(self.labels, classes)
        self.batch, self.seed = step_size(batch, len(self._rows)), seed

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def steps(self) -> int:
        return len(self._rows) // self.batch

    def take(self, rows: Int64[np.ndarray, " taken"], *, batch: int | None = None) -> "Stored":
        """Return the data of these images, in this order."""
        return Stored(
            self._store,
            self._all,
            self.classes,
            rows=self._rows[rows],
            columns=list(self.columns),
            batch=batch,
            seed=self.seed,
        )

    def epoch(self, number: int) -> Iterator[Batch]:
        order = self._store.order(int(stream(self.seed, number, 2).integers(2**31)), self._rows)
        return self._read(order[: self.steps * self.batch], self.batch, list(self.columns))

    def blocks(self, columns: Sequence[Column]) -> Iterator[Batch]:
        require_columns(columns, self.columns)
        return self._read(self._rows, BLOCK, columns)

    def _read(
        self, rows: Int64[np.ndarray, " taken"], size: int, columns: Sequence[Column]
    ) -> Iterator[Batch]:
        for block in self._store.blocks(size, columns=list(columns), rows=rows):
            features = {column: values.float() for column, values in block.features.items()}
            for column, values in features.items():
                _require_finite(column, values)
            yield features, self._all[torch.from_numpy(block.rows)]


def require_columns(asked: Sequence[Column], there: Mapping[Column, int]) -> None:
    """Refuse columns that are not there.

    Raises:
        InputError: an asked column is not there; the message offers the nearest name.

    >>> require_columns([("norm", "clf")], {("norm", "cls"): 8})
    Traceback (most recent call last):
    ...
    sslens.errors.InputError: There are no features norm/clf: did you mean norm/cls?
    """
    for column in asked:
        if column not in there:
            known = ["/".join(present) for present in there]
            raise InputError(
                f"There are no features {'/'.join(column)}: {nearest('/'.join(column), known)}"
            )


def _require_finite(column: Column, values: Float[Tensor, "_ _"]) -> None:
    if not torch.isfinite(values).all():
        raise InputError(
            f"The features {'/'.join(column)} hold values that are not finite: the model or its"
            " input is broken."
        )


def class_count(labels: Int64[Tensor, " image"], classes: int | None) -> int:
    """Return the number of classes: `classes` if given, else one more than the highest label.

    Raises:
        InputError: no labels, labels out of range, or all of one class.

    >>> class_count(torch.tensor([2, 0]), None)
    3
    """
    if not len(labels):
        raise InputError("There is no image to probe.")
    low, high = int(labels.min()), int(labels.max())
    if classes is None:
        classes = high + 1
    if low < 0 or high >= classes:
        raise InputError(
            f"Labels reach from {low} to {high}, for {spell_count(classes, 'class')}:"
            " number them from 0."
        )
    if low == high:
        raise InputError(
            f"All {len(labels):,} images are of one class: a probe needs two classes or more."
        )
    return classes


def step_size(asked: int | None, images: int) -> int:
    """Return the number of images in a step: `asked`, or `usual_batch` for None.

    Raises:
        InputError: `asked` is below 2 or above the number of images.

    >>> step_size(None, 20_000), step_size(64, 20_000)
    (512, 64)
    """
    if asked is None:
        return usual_batch(images)
    if not 2 <= asked <= images:
        raise InputError(
            f"A batch of {asked} cannot be drawn from {spell_count(images, 'image')}: give 2 to"
            f" {images:,}."
        )
    return asked
