"""Linear, deeper and multi-layer probes: every head of a grid trained together, in one stream of
features.

A head alone is a few products that are too thin for a processor, between a normalisation of the
features that all heads share. Together they are one wide product: see `bench/probes.py`.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from sslens.capture import Column
from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.probes.linear.augmented import Augmented
from sslens.probes.linear.batches import (
    Batches,
    Held,
    Labelled,
    Stored,
    require_columns,
    usual_batch,
)
from sslens.probes.linear.choosing import Outcome, choose, table
from sslens.probes.linear.grid import GRIDS, Point, paper_grid, small_grid
from sslens.probes.linear.heads import EPS_FEATURES, FORGET, Head, Pack, fresh, group_into_packs
from sslens.probes.linear.lars import Lars

__all__ = [
    "GRIDS",
    "Augmented",
    "Column",
    "Head",
    "Held",
    "Outcome",
    "Point",
    "Probes",
    "Stored",
    "choose",
    "fresh",
    "outcomes",
    "paper_grid",
    "require_top",
    "small_grid",
    "table",
    "train_probes",
    "usual_batch",
]


@final
class Probes:
    """Trained heads: each of `heads` at each point of `grid`.

    Attributes:
        diverged: by head, the epoch in which each point's values overflowed, −1 where they did not.
    """

    def __init__(
        self, heads: Sequence[Head], grid: Sequence[Point], classes: int, packs: Sequence[Pack]
    ) -> None:
        self.heads, self.grid, self.classes = tuple(heads), tuple(grid), classes
        self._packs = {head: [pack for pack in packs if pack.head == head] for head in self.heads}
        self._row = {point: row for row, point in enumerate(self.grid)}

    @property
    def diverged(self) -> dict[Head, Int64[np.ndarray, " point"]]:
        found = {head: np.full(len(self.grid), -1) for head in self.heads}
        for head, pack in self._all():
            found[head][self._rows(pack)] = pack.diverged
        return found

    def module(self, head: Head, point: int) -> nn.Sequential:
        """Return one head as a plain module in evaluation mode; it takes features that are not
        normalised, with the head's columns concatenated, and returns logits."""
        return next(
            pack.module(self.grid[point])
            for pack in self._packs[head]
            if self.grid[point] in pack.points
        )

    def right(self, data: Labelled, top: int = 1) -> dict[Head, Bool[np.ndarray, "point image"]]:
        """Return by head which images each point has right: the label is among its `top` highest
        logits.

        Of equal logits the first class comes first.

        Raises:
            InputError: fewer classes than `top`, a column that `data` lacks, or other classes than
                in training.
        """
        require_top(top, self.classes)
        self._require(data)
        found = {head: np.zeros((len(self.grid), len(data.labels)), bool) for head in self.heads}
        start = 0
        for features, labels in data.blocks(self._columns()):
            rows = slice(start, start + len(labels))
            for head, pack in self._all():
                found[head][self._rows(pack), rows] = find_right(
                    _logits(pack, features), labels, top
                ).numpy()
            start = rows.stop
        return found

    def logits(self, head: Head, point: int, data: Labelled) -> Float[Tensor, "image class"]:
        """Compute one head's logits of the images of `data`.

        Raises:
            InputError: a column that `data` lacks, or other classes than in training.
        """
        self._require(data)
        module = self.module(head, point)
        with torch.no_grad():
            blocks = data.blocks(head.columns)
            return torch.cat(
                [module(join_columns(head, features).to(_dtype(module))) for features, _ in blocks]
            )

    def _require(self, data: Labelled) -> None:
        require_columns(self._columns(), data.columns)
        if data.classes != self.classes:
            raise InputError(
                f"The probes know {spell_count(self.classes, 'class')}, and the images are of"
                f" {data.classes}."
            )

    def _columns(self) -> list[Column]:
        return list(dict.fromkeys(column for head in self.heads for column in head.columns))

    def _all(self) -> Iterator[tuple[Head, Pack]]:
        return ((head, pack) for head, packs in self._packs.items() for pack in packs)

    def _rows(self, pack: Pack) -> list[int]:
        return [self._row[point] for point in pack.points]


def train_probes(
    data: Batches,
    heads: Sequence[Head],
    grid: Sequence[Point] | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: Callable[[int, int], None] | None = None,
) -> Probes:
    """Train every head at every point of the grid, all together.

    Minimises the mean cross-entropy by LARS (You et al., 2017, as in MAE's linear probe), each
    point with its own learning rate, weight decay, minimal learning rate, warm-up and length. All
    heads see the same batches. A head ends with the same weights as if it was trained alone, up to
    the rounding of the products.

    Args:
        data: features and labels; `Held`, `Stored` or `Augmented`.
        heads: the probes: what each reads, and its number of layers.
        grid: `paper_grid()` unless given.
        seed: decides the heads' first weights.
        device: the device on which the heads are trained.
        dtype: the number type of the heads.
        progress: called with epochs done and epochs in all.

    Raises:
        InputError: two heads or points are the same, there are none, or a head reads what is not in
            `data`.

    >>> labels = torch.arange(64) % 2
    >>> x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)) + 3 * labels[:, None]
    >>> data = Held({("norm", "cls"): x}, labels)
    >>> head = Head((("norm", "cls"),))
    >>> probes = train_probes(data, [head], [Point(10.0)])
    >>> probes.right(data)[head].mean(axis=1).tolist()
    [1.0]
    """
    grid = paper_grid() if grid is None else tuple(grid)
    require_distinct("head", heads)
    require_distinct("grid point", grid)
    columns = list(dict.fromkeys(column for head in heads for column in head.columns))
    require_columns(columns, data.columns)
    packs = list(_packs(data, heads, grid, seed, device, dtype))
    sizes = {column: dim for column, dim in data.columns.items() if column in columns}
    zeros = partial(torch.zeros, device=device, dtype=dtype)
    running = {column: (zeros(dim), zeros(dim) + 1) for column, dim in sizes.items()}
    room = zeros(max(pack.count_room(data.batch) for pack in packs))
    length = max(pack.epochs for pack in packs)
    for epoch in range(length):
        train_epoch(data, epoch, [pack for pack in packs if pack.epochs > epoch], running, room)
        for pack in packs:
            if pack.epochs == epoch + 1:
                means, variances = zip(
                    *(running[column] for column in pack.head.columns), strict=True
                )
                pack.running = torch.cat(means).clone(), torch.cat(variances).clone()
        if progress:
            progress(epoch + 1, length)
    return Probes(heads, grid, data.classes, packs)


def require_distinct(what: str, given: Sequence[Head] | Sequence[Point]) -> None:
    """Refuse none, and the same twice."""
    if not given:
        raise InputError(f"There is no {what}.")
    if len(set(given)) != len(given):
        raise InputError(f"The same {what} is given twice.")


def _packs(
    data: Batches,
    heads: Sequence[Head],
    grid: Sequence[Point],
    seed: int,
    device: str,
    dtype: torch.dtype,
) -> Iterator[Pack]:
    """All heads at all points, with their first weights."""
    for head in heads:
        dim = sum(data.columns[column] for column in head.columns)
        for points in group_into_packs(grid, head, dim, data.classes, data.batch, device):
            yield Pack(
                head,
                points,
                dim,
                data.classes,
                optimiser=partial(Lars, batch=data.batch),
                seed=seed,
                device=device,
                dtype=dtype,
            )


def train_epoch(
    data: Batches,
    epoch: int,
    packs: Sequence[Pack],
    running: Mapping[Column, tuple[Tensor, Tensor]],
    room: Float[Tensor, " _"],
    forget: Callable[[int], float] = lambda number: FORGET,
) -> None:
    """Make a step of every pack on every batch, with features of mean 0 and variance 1.

    Args:
        data: training images.
        epoch: the number of the epoch.
        packs: the packs; those of a head in a row.
        running: mean and variance of each column, which are updated.
        room: memory that every step uses again, for `Pack.count_room` values of each pack.
        forget: the weight of a batch in `running`, by its number in the epoch.
    """
    for number, (features, labels) in enumerate(data.epoch(epoch)):
        whitened = {
            column: F.batch_norm(
                features[column].to(mean),
                mean,
                variance,
                training=True,
                momentum=forget(number),
                eps=EPS_FEATURES,
            )
            for column, (mean, variance) in running.items()
        }
        at = epoch + number / data.steps
        for head, mine in itertools.groupby(packs, lambda pack: pack.head):
            x = join_columns(head, whitened)
            for pack in mine:
                pack.step(x, labels.to(x.device), at, room)


def require_top(top: int, classes: int) -> None:
    """Refuse a `top` that is larger than the number of classes.

    Raises:
        InputError: `top` is not from 1 to `classes`.

    >>> require_top(5, 3)
    Traceback (most recent call last):
    ...
    sslens.errors.InputError: The top 5 of 3 classes cannot be taken: give 1 to 3.
    """
    if not 1 <= top <= classes:
        raise InputError(
            f"The top {top} of {classes} classes cannot be taken: give 1 to {classes}."
        )


def outcomes(
    probes: Probes, validation: Labelled, test: Labelled, top: int = 1
) -> dict[Head, Outcome]:
    """Choose each head's point of the grid on `validation`, and measure its accuracy on `test`; see
    `choose`.

    Raises:
        InputError: for the same reasons as `Probes.right` and `choose`.
    """
    validated, tested = probes.right(validation, top), probes.right(test, top)
    return {
        head: choose(head, validated[head], tested[head], probes.diverged[head], probes.grid)
        for head in probes.heads
    }


def join_columns(
    head: Head, features: Mapping[Column, Float[Tensor, "image _"]]
) -> Float[Tensor, "image dim"]:
    """Concatenate the columns that a head reads."""
    found = [features[column] for column in head.columns]
    return found[0] if len(found) == 1 else torch.cat(found, 1)


def _dtype(module: nn.Sequential) -> torch.dtype:
    return next(module.parameters()).dtype


def _logits(pack: Pack, features: Mapping[Column, Tensor]) -> Float[Tensor, "head class image"]:
    assert pack.running is not None
    return pack.logits(join_columns(pack.head, features).to(pack.running[0]))


def find_right(
    logits: Float[Tensor, "head class image"], labels: Int64[Tensor, " image"], top: int
) -> Bool[Tensor, "head image"]:
    """Find which images each head has right: the label is among its `top` highest logits; a logit
    that is nan is never right."""
    labels = labels.to(logits.device)
    own = logits.gather(1, labels.expand(len(logits), 1, -1))
    before = torch.arange(logits.shape[1], device=logits.device)[:, None] < labels
    ahead = ((logits > own) | ((logits == own) & before)).sum(1)
    return ((ahead < top) & ~own[:, 0].isnan()).cpu()
