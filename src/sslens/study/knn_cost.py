"""What k-NN of a model and its controls will cost."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from sslens.capture import Features
from sslens.capture.planned import plan_features
from sslens.study.costing import Clock, Cost, PassProbe, measure_memory

if TYPE_CHECKING:
    from sslens.study.passes import ActivationPass, PassRunner

#: images that are classified, and that vote, in the sweep that is measured
QUERIES, BANK = 64, 256


def estimate_knn(
    passes: "Sequence[ActivationPass]",
    runner: "PassRunner",
    sweep: Callable[[Features, Features | None], object],
) -> Cost:
    """Estimate the cost of the passes, and of classifying by features of each model.

    Args:
        passes: over the images of each model, and over the bank.
        runner: how passes are run.
        sweep: classifies features by those of a bank.
    """
    seconds = {"start": time.process_time()}
    seconds["passes"] = PassProbe(runner.device, runner.precision).estimate(passes)
    sizes = {one.member.name: len(one.images) for one in passes if one.bank}
    disk, k_nn, largest = 0.0, 0.0, 0.0
    known: dict[object, float] = {}
    for one in passes:
        planned = plan_features(one.model, one.images)
        size = planned.row_bytes * len(planned)
        disk, largest = disk + size * bool(one.missing), max(largest, float(size))
        if one.bank:
            continue
        voting, kind = sizes.get(one.member.name), tuple(planned.columns.items())
        if kind not in known:
            known[kind] = _time_sweep(planned, len(planned), voting, sweep)
        k_nn += known[kind]
    seconds["k-NN"] = k_nn
    return Cost(seconds, measure_memory() + 2 * largest, disk)


def _time_sweep(
    planned: Features,
    queries: int,
    voting: int | None,
    sweep: Callable[[Features, Features | None], object],
) -> float:
    """Classify a few made-up features by a few others; returns the processor time of all."""
    bank = queries if voting is None else voting
    few, voters = min(QUERIES, queries), min(BANK, bank)
    made = [_make_up(planned, count) for count in (few, voters)]
    clock = Clock()
    with clock.running():
        sweep(made[0], made[1])
    # as many rows as images are scored, and each is held against all that vote
    return clock.seconds * queries / few * (0.5 + 0.5 * bank / voters)


def _make_up(planned: Features, count: int) -> Features:
    """Random features of the same layers, poolings and classes."""
    assert planned.labels is not None
    generator = torch.Generator().manual_seed(0)
    return Features.of(
        {
            column: torch.randn(count, width, generator=generator)
            for column, width in planned.columns.items()
        },
        taps=planned.taps,
        labels=planned.labels[torch.arange(count) % len(planned)],
        classes=planned.classes,
        model=planned.model,
    )
