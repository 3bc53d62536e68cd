"""Converged probes with a share of the labels, and in folds."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from sslens.comparisons.probe_training import Parts, train_heads
from sslens.probes.linear.batches import Held, Stored
from sslens.probes.linear.choosing import Outcome
from sslens.probes.linear.heads import Head
from sslens.probes.splits import few_shot, folds
from sslens.statistics.proportions import wilson


def converge_few_shot(
    parts: Parts,
    ids: tuple[Sequence[str], Sequence[str]],
    heads: Sequence[Head],
    *,
    share: float,
    draws: int = 5,
    seed: int = 0,
    top: int = 1,
    device: str = "cpu",
) -> list[dict[Head, Outcome]]:
    """Train and choose each head with a share of the labels; one dict of outcomes a draw.

    Args:
        parts: training, validation and test images.
        ids: ids of the training and of the validation images.
        heads: the probes.
        share: the share of the labels, for training and for choosing.
        draws: number of draws of the share.
        seed: seed of the draws and of first weights.
        top: an image is right when its class is among so many highest logits.
        device: where they are trained.

    Raises:
        InputError: for the same reasons as `few_shot` and `train_heads`.
    """
    found = []
    for draw in range(seed, seed + draws):
        train, validation = (
            part.take(few_shot(part.labels.numpy(), names, share, draw))
            for part, names in zip((parts.train, parts.validation), ids, strict=True)
        )
        some = Parts(train, validation, parts.test)
        found.append(dict(train_heads(some, heads, seed=draw, top=top, device=device).outcomes))
    return found


def converge_in_folds(
    data: Held | Stored,
    ids: Sequence[str],
    heads: Sequence[Head],
    *,
    count: int = 5,
    classes: Sequence[str] = (),
    seed: int = 0,
    top: int = 1,
    device: str = "cpu",
) -> list[Outcome]:
    """Test every image once: by probes trained on all folds but its own and the next one, on which
    the penalty or the setting is chosen.

    In an outcome, `right` and `accuracy` are over all images, `validation` is the mean over folds,
    and `penalty` the median; it has converged, and is inside, if it does so in every fold.

    Raises:
        InputError: for the same reasons as `folds` and `train_heads`.
    """
    fold = folds(data.labels.numpy(), ids, count, seed, classes)
    by_head: dict[Head, list[Outcome]] = {head: [] for head in heads}
    right = {head: np.zeros(len(fold), bool) for head in heads}
    for number in range(count):
        own, following = fold == number, fold == (number + 1) % count
        parts = Parts(*(data.take(np.flatnonzero(x)) for x in (~own & ~following, following, own)))
        for head, one in train_heads(
            parts, heads, seed=seed, top=top, device=device
        ).outcomes.items():
            by_head[head].append(one)
            right[head][own] = one.right
    return [_unite(outcomes, right[head]) for head, outcomes in by_head.items()]


def _unite(outcomes: Sequence[Outcome], right: Bool[np.ndarray, " image"]) -> Outcome:
    """The outcomes of a head in all folds as one."""
    low, high = wilson(int(right.sum()), len(right))
    reasons = [f"in fold {number}: {one.why}" for number, one in enumerate(outcomes) if one.why]
    return replace(
        outcomes[0],
        validation=float(np.mean([one.validation for one in outcomes])),
        accuracy=float(right.mean()),
        low=low,
        high=high,
        right=right,
        diverged=max(one.diverged for one in outcomes),
        converged=all(one.converged for one in outcomes),
        inside=all(one.inside for one in outcomes),
        why="; ".join(reasons[:1]),
        points=max(one.points for one in outcomes),
        penalty=float(np.median([one.penalty for one in outcomes])),
        certificate=max(one.certificate for one in outcomes),
    )
