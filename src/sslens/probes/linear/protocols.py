"""Protocols for few labels: probes trained and chosen with a share of the labels, several times
over, or in folds, so that every image is tested once."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from sslens.probes.linear.batches import Held, Stored
from sslens.probes.linear.choosing import Outcome, choose
from sslens.probes.linear.grid import Point
from sslens.probes.linear.heads import Head
from sslens.probes.linear.training import outcomes, train_probes
from sslens.probes.splits import few_shot, folds
from sslens.statistics.proportions import wilson

Data = Held | Stored
#: the points that a training with so many images a step and steps an epoch is searched for; see
#: `sslens.probes.linear.grid.GRIDS`
Grid = Callable[[int, int], tuple[Point, ...]]


def few_shot_outcomes(
    train: Data,
    train_ids: Sequence[str],
    validation: Data,
    validation_ids: Sequence[str],
    test: Data,
    heads: Sequence[Head],
    grid: Grid,
    *,
    share: float,
    draws: int = 5,
    seed: int = 0,
    top: int = 1,
    device: str = "cpu",
) -> list[dict[Head, Outcome]]:
    """Train and choose each head with a share of the labels, and return one dict of outcomes for
    each draw of the share.

    Raises:
        InputError: for the same reasons as `few_shot`, `train_probes` and `outcomes`.
    """
    found = []
    for draw in range(seed, seed + draws):
        some = train.take(few_shot(train.labels.numpy(), train_ids, share, draw))
        chosen_on = validation.take(
            few_shot(validation.labels.numpy(), validation_ids, share, draw)
        )
        probes = train_probes(some, heads, grid(some.batch, some.steps), seed=draw, device=device)
        found.append(outcomes(probes, chosen_on, test, top))
    return found


def train_in_folds(
    data: Data,
    ids: Sequence[str],
    heads: Sequence[Head],
    grid: Grid,
    *,
    count: int = 5,
    seed: int = 0,
    top: int = 1,
    device: str = "cpu",
    classes: Sequence[str] = (),
) -> tuple[dict[Head, Outcome], tuple[Point, ...]]:
    """Test every image once, in folds; returns each head's outcome, and the points of the grid.

    An image is tested by probes that were trained on all folds except its own and the next one. The
    next fold chooses the point of the grid. In the outcome, `right` and `accuracy` are over all
    images, each with the point chosen for its fold; `point` is the one with most validation images
    right over all folds, and `best` and `std` are over points that are the same in all folds. The
    chosen point lies inside the grid if it does so in every fold.

    Raises:
        InputError: for the same reasons as `folds`, `train_probes` and `outcomes`.
    """
    fold = folds(data.labels.numpy(), ids, count, seed, classes)
    first = data.take(np.flatnonzero(fold > 1))
    points = grid(first.batch, first.steps)
    validated, tested = (
        {head: np.zeros((len(points), len(fold)), bool) for head in heads} for _ in range(2)
    )
    right = {head: np.zeros(len(fold), bool) for head in heads}
    reasons = dict.fromkeys(heads, "")
    diverged = {head: np.full(len(points), -1) for head in heads}
    for number in range(count):
        test, chosen_on = (
            np.flatnonzero(fold == number),
            np.flatnonzero(fold == (number + 1) % count),
        )
        rest = np.flatnonzero((fold != number) & (fold != (number + 1) % count))
        probes = train_probes(data.take(rest), heads, points, seed=seed, device=device)
        ours = probes.right(data.take(chosen_on), top), probes.right(data.take(test), top)
        for head in heads:
            validated[head][:, chosen_on], tested[head][:, test] = ours[0][head], ours[1][head]
            chosen = choose(head, ours[0][head], ours[1][head], probes.diverged[head], points)
            right[head][test] = chosen.right
            reasons[head] = reasons[head] or chosen.why
            diverged[head] = np.maximum(diverged[head], probes.diverged[head])
    found = {}
    for head in heads:
        low, high = wilson(int(right[head].sum()), len(fold))
        whole = choose(head, validated[head], tested[head], diverged[head])
        found[head] = replace(
            whole,
            right=right[head],
            accuracy=float(right[head].mean()),
            low=low,
            high=high,
            inside=not reasons[head],
            why=reasons[head],
        )
    return found, points
