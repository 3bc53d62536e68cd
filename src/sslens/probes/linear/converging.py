"""Probes of several layers that are trained until they have converged, at a point inside a grid
that widens: every head and point together, in one stream of features.

The grid has three learning rates (10^−3.5, 10^−3, 10^−2.5) and two weight decays (0, 1). After each
epoch a head's weights are kept if its validation loss is the lowest so far. A head that has had no
fall by 0.1 % in 4 epochs goes on from these weights at a tenth of its rate; the second time it
leaves the batched products.

The point with the lowest validation loss is chosen; among points that are as good, within 1 % and
0.002 of it, one inside the grid. If it is still at the edge (the lowest or the highest rate, the
highest decay; below no decay there is nothing), the grid is widened on that side, by √10 or 10, up
to three times.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import final

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor, nn

from sslens.errors import InputError
from sslens.probes.linear.adam import AdamW
from sslens.probes.linear.batches import Batches, Held, Labelled, Stored, require_columns
from sslens.probes.linear.converged import ConvergedHead
from sslens.probes.linear.grid import Point
from sslens.probes.linear.heads import Head, Pack, group_into_packs
from sslens.probes.linear.training import join_columns, require_distinct, train_epoch
from sslens.probes.linear.widening import choose_point, explain_edges, make_points, widen

#: times that a grid is widened at most
ROUNDS = 3
#: epochs without a fall of the validation loss, by this share of it or more, after which a head
#: goes on slower or ends; and epochs that end it in any case
PATIENCE, FALL, CAP = 4, 1e-3, 200
#: times that a head goes on at a tenth of its rate before it stops
SLOWER = 1
#: images of a step at most, and steps of an epoch for which it is made smaller, to 32 at least
BATCH, STEPS = 1024, 8


def choose_converging_batch(images: int) -> int:
    """Return the number of images in a step of `train_converged`: a power of two that leaves 8
    steps an epoch, from 32 to 1,024.

    >>> [choose_converging_batch(images) for images in (1_280, 1_281_167, 20)]
    [128, 1024, 20]
    """
    power = 1 << max(5, int(np.log2(max(1, images / STEPS))))
    return min(BATCH, power, images)


def train_converged(
    data: Batches,
    validation: Labelled,
    heads: Sequence[Head],
    *,
    cap: int = CAP,
    rounds: int = ROUNDS,
    seed: int = 0,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: Callable[[int, int], None] | None = None,
) -> dict[Head, ConvergedHead]:
    """Train every head until its validation loss stops falling, at the best point of a grid.

    Minimises the mean cross-entropy by AdamW, as told above. A head ends with the same weights as
    if it was trained alone, up to the rounding of the products.

    Args:
        data: training images; unless they are random views, in steps of `choose_converging_batch`.
        validation: the images on which the end and the point are chosen.
        heads: the probes: what each reads, and its number of layers.
        cap: epochs after which a training ends in any case; it has then not converged.
        rounds: times that the grid is widened at most.
        seed: decides the heads' first weights.
        device: the device on which the heads are trained.
        dtype: the number type of the heads.
        progress: called with epochs done and epochs in all.

    Raises:
        InputError: no head or one twice, a column that is not there, or every point overflowed.

    >>> labels = torch.arange(96) % 2
    >>> x = torch.randn(96, 4, generator=torch.Generator().manual_seed(0)) + 4 * labels[:, None]
    >>> cls, head = ("norm", "cls"), Head((("norm", "cls"),), layers=2)
    >>> parts = [Held({cls: x[some]}, labels[some]) for some in (slice(64), slice(64, None))]
    >>> found = train_converged(*parts, [head], rounds=0)[head]
    >>> found.converged, found.validation > 0.9
    (True, True)
    """
    require_distinct("head", heads)
    columns = list(dict.fromkeys(column for head in heads for column in head.columns))
    require_columns(columns, data.columns)
    require_columns(columns, validation.columns)
    data = _with_batch(data)
    pending: dict[Head, tuple[Point, ...]] = dict.fromkeys(heads, make_points(cap))
    trials: dict[Head, list[_Trial]] = {head: [] for head in heads}
    for widened in range(rounds + 1):
        packs = [
            _Trial(pack)
            for head, points in pending.items()
            for pack in _make_packs(data, head, points, seed, device, dtype)
        ]
        _train(data, validation, packs, (widened * cap, (rounds + 1) * cap), progress)
        for trial in packs:
            trials[trial.head].append(trial)
        wider = {head: widen(*_gather(trials[head]), cap) for head in pending}
        pending = {head: points for head, points in wider.items() if points}
        if not pending:
            break
    return {head: _finish(trials[head], validation) for head in heads}


def _with_batch(data: Batches) -> Batches:
    """Data in memory or in a store, in steps of another size; random views as they are."""
    if isinstance(data, Held):
        return Held(
            data.features,
            data.labels,
            data.classes,
            batch=choose_converging_batch(len(data)),
            seed=data.seed,
        )
    if isinstance(data, Stored):
        return data.take(np.arange(len(data)), batch=choose_converging_batch(len(data)))
    return data


def _make_packs(
    data: Batches,
    head: Head,
    points: Sequence[Point],
    seed: int,
    device: str,
    dtype: torch.dtype,
) -> Iterator[Pack]:
    dim = sum(data.columns[column] for column in head.columns)
    for some in group_into_packs(points, head, dim, data.classes, data.batch, device):
        yield Pack(
            head, some, dim, data.classes, optimiser=AdamW, seed=seed, device=device, dtype=dtype
        )


@final
class _Trial:
    """A pack in training: by head (a row), the lowest validation loss, when it was, and the values
    then. Heads that have stopped leave the pack and stay here."""

    def __init__(self, pack: Pack) -> None:
        count = len(pack.points)
        self.pack, self.head, self.points = pack, pack.head, pack.points
        self.losses = np.full(count, np.inf)
        self.epochs = np.zeros(count, np.int64)
        self.stopped = np.zeros(count, bool)
        self._rows = np.arange(count)
        self._level = np.full(count, np.inf)
        self._fell = np.zeros(count, np.int64)
        self._slowed = np.zeros(count, np.int64)
        self._best = {name: value.clone() for name, value in pack.values().items()}
        self._running: list[tuple[Tensor, Tensor]] = [(torch.empty(0), torch.empty(0))] * count

    @property
    def training(self) -> bool:
        """Whether any head still trains."""
        return bool(len(self._rows))

    def look(self, epoch: int, losses: Float64[np.ndarray, " head"]) -> None:
        """Take the validation losses of the heads that train, after so many epochs."""
        rows, pack = self._rows, self.pack
        lost = pack.diverged >= 0
        losses = np.where(lost | ~np.isfinite(losses), np.inf, losses)
        better = losses < self.losses[rows]
        assert pack.running is not None
        if better.any():
            into, of = torch.from_numpy(rows[better]), torch.from_numpy(np.flatnonzero(better))
            for name, value in pack.values().items():
                self._best[name][into.to(value.device)] = value[of.to(value.device)]
            for row in rows[better]:
                self._running[row] = pack.running
        self.epochs[rows[better]] = epoch
        self.losses[rows] = np.minimum(self.losses[rows], losses)
        falls = losses < self._level[rows] * (1 - FALL)
        self._level[rows[falls]], self._fell[rows[falls]] = losses[falls], epoch
        flat = (epoch - self._fell[rows] >= PATIENCE) & ~lost
        self._slow(flat & (self._slowed[rows] < SLOWER), epoch)
        done = (flat & (epoch - self._fell[rows] >= PATIENCE)) | lost
        self.losses[rows[lost]] = np.inf
        self.stopped[rows[done]] = True
        if done.any():
            pack.keep(~done)
            self._rows = rows[~done]

    def _slow(self, which: Bool[np.ndarray, " head"], epoch: int) -> None:
        """Let some heads of the pack go on from their best values, at a tenth of the rate."""
        if not which.any():
            return
        rows, at = self._rows[which], np.flatnonzero(which)
        into, of = torch.from_numpy(at), torch.from_numpy(rows)
        for name, value in self.pack.values().items():
            value[into.to(value.device)] = self._best[name][of.to(value.device)]
        self.pack.slow(into)
        self._slowed[rows] += 1
        self._fell[rows] = epoch

    def module(self, row: int) -> nn.Sequential:
        """Build the head of a row with its best values."""
        state = {name: value[row] for name, value in self._best.items()}
        return self.pack.build(self.points[row], state, self._running[row])


def _train(
    data: Batches,
    validation: Labelled,
    trials: Sequence[_Trial],
    count: tuple[int, int],
    progress: Callable[[int, int], None] | None,
) -> None:
    """Train the heads of all packs until each has stopped, or the cap.

    Args:
        data: training images.
        validation: the images on which a loss stops falling.
        trials: the packs.
        count: epochs of the rounds before, and of all rounds.
        progress: called with epochs done and epochs in all.
    """
    columns = list(dict.fromkeys(column for one in trials for column in one.head.columns))
    first = next(iter(trials[0].pack.values().values()))
    running = {
        column: (first.new_zeros(data.columns[column]), first.new_ones(data.columns[column]))
        for column in columns
    }
    room = first.new_zeros(max(one.pack.count_room(data.batch) for one in trials))
    for epoch in range(trials[0].points[0].epochs):
        active = [one for one in trials if one.training]
        if not active:
            break
        before = epoch * data.steps

        def forget(number: int, before: int = before) -> float:
            return 1 / (before + number + 1)  # the mean of all batches so far

        train_epoch(data, epoch, [one.pack for one in active], running, room, forget)
        for one in active:
            means, variances = zip(*(running[column] for column in one.head.columns), strict=True)
            one.pack.running = torch.cat(means).clone(), torch.cat(variances).clone()
        losses = _measure_losses([one.pack for one in active], validation, columns)
        for one, loss in zip(active, losses, strict=True):
            one.look(epoch + 1, loss)
        if progress:
            progress(count[0] + epoch + 1, count[1])
    if progress:
        progress(count[0] + trials[0].points[0].epochs, count[1])


@torch.no_grad()
def _measure_losses(
    packs: Sequence[Pack], validation: Labelled, columns: Sequence[tuple[str, str]]
) -> list[Float64[np.ndarray, " head"]]:
    """The mean cross-entropy of each head of each pack on the validation images."""
    totals = [np.zeros(len(pack.points)) for pack in packs]
    for features, labels in validation.blocks(columns):
        for pack, total in zip(packs, totals, strict=True):
            assert pack.running is not None
            logits = pack.logits(join_columns(pack.head, features).to(pack.running[0]))
            own = logits.gather(1, labels.to(logits.device).expand(len(logits), 1, -1))[:, 0]
            total += (logits.logsumexp(1) - own).double().sum(1).cpu().numpy()
    return [total / len(validation.labels) for total in totals]


def _gather(
    trials: "Sequence[_Trial]",
) -> "tuple[tuple[Point, ...], Float64[np.ndarray, ' point']]":
    """All points that were tried for a head, and the lowest loss of each.

    Raises:
        InputError: every point overflowed.
    """
    points = tuple(point for one in trials for point in one.points)
    losses = np.concatenate([one.losses for one in trials])
    if not np.isfinite(losses).any():
        raise InputError(
            f"All {len(points)} points of the grid diverged for {trials[0].head.name}: its"
            " features are too large or too unequal for a probe."
        )
    return points, losses


def _finish(trials: Sequence[_Trial], validation: Labelled) -> ConvergedHead:
    """The head at its chosen point, with what is known of its convergence."""
    points, losses = _gather(trials)
    chosen = choose_point(points, losses)
    trial, row = [(one, row) for one in trials for row in range(len(one.points))][chosen]
    found = ConvergedHead(
        trial.head,
        points,
        losses,
        np.concatenate([one.epochs for one in trials]),
        np.concatenate([one.stopped for one in trials]),
        chosen,
        explain_edges(points, points[chosen]),
        trial.module(row),
        0.0,
    )
    return replace(found, validation=float(found.right(validation).mean()))
