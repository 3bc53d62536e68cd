"""What probes will cost, from a fit of made-up features on this machine."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from sslens.capture.manifest import Column
from sslens.probes.linear.batches import Held
from sslens.probes.linear.heads import Head
from sslens.probes.logistic import fit_logistic
from sslens.study.costing import Clock, Cost, PassProbe, measure_memory
from sslens.study.passes import PassRunner

if TYPE_CHECKING:
    from sslens.study.probe_sets import ProbeSets

#: values (images × width × classes) of a fit that is measured, and classes of it, at most: some
#: tenths of a second of one core
MOST, CLASSES = 1.0e6, 10
#: processor time of the ridge probes, the tables and the imports that they need, in seconds
TABLES = 0.8
#: epochs of a deeper probe that are measured, and that one takes until it has converged
TRIED, USUAL = 2, 60


def estimate_probes(
    sets: "ProbeSets", heads: Sequence[Head], runner: PassRunner, points: int
) -> Cost:
    """Estimate the cost of probes and of the passes before them.

    Args:
        sets: the planned sets.
        heads: the probes.
        runner: how passes are run.
        points: points of the grid; 0 where probes are trained to their optimum.
    """
    from sslens.study.members import Member
    from sslens.study.probe_sets import plan_passes

    request, seconds, disk = sets.request, {"start": time.process_time(), "tables": TABLES}, 0.0
    if sets.model is not None:
        parts = (sets.train, sets.val, sets.test)
        images = {id(part.images): part.images for part in parts if part.images is not None}
        member = Member(sets.model.name, False, sets.model)
        passes = plan_passes(member, images.values(), request, runner)
        seconds["passes"] = PassProbe(runner.device, runner.precision).estimate(passes)
        row = 4 * sum(sets.train.features.columns.values())
        disk = float(row * sum(len(one.images) for one in passes if one.missing))
    folds = request.folds or 1
    trained = len(sets.train.rows) * (1 - 1 / folds if request.folds else 1)
    repeats = folds + request.draws * len(request.few_shot)
    widths = [sum(sets.train.features.columns[column] for column in head.columns) for head in heads]
    seconds["probes"] = repeats * sum(
        time_head(int(trained), width, len(sets.classes), head.layers, points, runner.device)
        for head, width in zip(heads, widths, strict=True)
    )
    held = 12.0 * len(sets.train.rows) * max(widths)
    return Cost(seconds, measure_memory() + held, disk)


def time_head(
    images: int, width: int, classes: int, layers: int, points: int, device: str
) -> float:
    """Estimate the processor time of one probe, from a smaller one of made-up features.

    The made-up features have a spectrum as networks' have, which decides how many steps a fit
    takes: the j-th direction has the deviation 1/j.
    """
    taught = min(classes, CLASSES)
    used = max(4, min(images, max(8 * taught, int(MOST / (width * taught)))))
    features, labels = make_up(used, width, taught)
    share = images / used * classes / taught
    if layers == 1 and not points:
        return time_fit(features, labels, device) * share
    return _time_epochs(features, labels, taught, layers, device) * share * (points or 6) / 6


def make_up(images: int, width: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Make features up, and the classes of their images, of which the features know something."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(images) % classes
    directions = torch.randn(width, width, generator=generator) / width**0.5
    spread = 1 / torch.arange(1, width + 1)
    values = torch.randn(images, width, generator=generator)
    values += torch.randn(classes, width, generator=generator)[labels]
    return (values * spread) @ directions, labels


def time_fit(features: torch.Tensor, labels: torch.Tensor, device: str) -> float:
    """The processor time of a logistic regression along its path of penalties."""
    held = max(2, len(labels) // 5)
    clock = Clock()
    with clock.running():
        fit_logistic(
            [features[held:]], labels[held:], [features[:held]], labels[:held], device=device
        )
    return clock.seconds


def _time_epochs(
    features: torch.Tensor, labels: torch.Tensor, classes: int, layers: int, device: str
) -> float:
    """The processor time of a deeper probe until it has converged, from its first epochs."""
    from sslens.probes.linear.converging import train_converged

    column: Column = ("made up", "flat")
    head, held = Head((column,), layers), max(2, len(labels) // 5)
    data, judged = (
        Held({column: features[part]}, labels[part], classes)
        for part in (slice(held, None), slice(held))
    )
    clock = Clock()
    with clock.running():
        train_converged(data, judged, [head], cap=TRIED, rounds=0, device=device)
    return clock.seconds * USUAL / TRIED
