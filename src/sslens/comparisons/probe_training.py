"""Probes of one model, trained on some images, chosen on others and tested on a third set."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sslens.comparisons.rows import Row
from sslens.probes.linear.batches import Held, Stored
from sslens.probes.linear.choosing import Outcome
from sslens.probes.linear.converging import train_converged
from sslens.probes.linear.grid import GRIDS, Point
from sslens.probes.linear.heads import Head
from sslens.probes.linear.training import outcomes, train_probes
from sslens.probes.logistic import LogisticProbe, fit_logistic
from sslens.statistics.proportions import wilson

#: the default: probes at their optimum, without a grid of trainings for a linear one
CONVERGED = "converged"
#: how probes may be trained: converged, or at each point of a grid
HOW = (CONVERGED, *sorted(GRIDS, reverse=True))
#: bytes of features of linear probes that are read at once
READ = 1 << 30
#: every regression of a path of penalties
PENALTIES = {
    "penalty": "λ, on features of variance 1",
    "loss": "cross-entropy of the training images and λ/2 ‖W‖²",
    "certificate": "the loss lies at most this part of itself above its minimum",
    "steps": "products with the Hessian that it took",
    "validation": "share of validation images right",
    "entropy": "mean cross-entropy of the validation images",
    "taken": "whether it is the penalty that was chosen",
}


@final
@dataclass(frozen=True)
class Parts:
    """Labelled features of the training, validation and test images."""

    train: Held | Stored
    validation: Held | Stored
    test: Held | Stored


@final
@dataclass(frozen=True, eq=False)
class Trained:
    """Trained probes of one model.

    Attributes:
        outcomes: how each does on the test images, in the order of the heads.
        grid: the points at which all were trained; none where each has its own.
        linear: the linear probes that are at their optimum, with their paths of penalties.
    """

    outcomes: Mapping[Head, Outcome]
    grid: tuple[Point, ...] = ()
    linear: Mapping[Head, LogisticProbe] = field(default_factory=dict)

    def penalties(self) -> Iterator[tuple[Head, Row]]:
        """List every regression that was tried, as a row with the columns `PENALTIES`."""
        for head, probe in self.linear.items():
            for number, trial in enumerate(probe.path):
                yield (
                    head,
                    {
                        "penalty": trial.penalty,
                        "loss": trial.loss,
                        "certificate": trial.gap,
                        "steps": trial.products,
                        "validation": trial.validation,
                        "entropy": trial.cross_entropy,
                        "taken": number == probe.chosen,
                    },
                )


def train_heads(
    parts: Parts,
    heads: Sequence[Head],
    how: str = CONVERGED,
    *,
    seed: int = 0,
    top: int = 1,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Trained:
    """Train probes of one model, choose their settings on the validation images and test them.

    Converged probes of one layer are logistic regressions at their optimum (`fit_logistic`), deeper
    ones are trained until the validation loss stops falling (`train_converged`). At a grid, every
    probe is trained at each point (`train_probes`).

    Args:
        parts: features and labels.
        heads: the probes.
        how: one of `HOW`.
        seed: seed of the first weights.
        top: an image is right when its class is among so many highest logits.
        device: where they are trained.
        progress: called with what is done and what there is in all.

    Raises:
        InputError: the features cannot be used.
    """
    if how != CONVERGED:
        grid = GRIDS[how](parts.train.batch, parts.train.steps)
        probes = train_probes(parts.train, heads, grid, seed=seed, device=device, progress=progress)
        return Trained(outcomes(probes, parts.validation, parts.test, top), grid)
    linear = [head for head in heads if head.layers == 1]
    deeper = [head for head in heads if head.layers > 1]
    found: dict[Head, Outcome] = {}
    fitted: dict[Head, LogisticProbe] = {}
    for head, probe, outcome in _fit_linear(parts, linear, top, device, progress):
        fitted[head], found[head] = probe, outcome
    if deeper:
        trained = train_converged(
            parts.train, parts.validation, deeper, seed=seed, device=device, progress=progress
        )
        found |= {head: one.outcome(parts.test, top) for head, one in trained.items()}
    return Trained({head: found[head] for head in heads}, linear=fitted)


def _fit_linear(
    parts: Parts,
    heads: Sequence[Head],
    top: int,
    device: str,
    progress: Callable[[int, int], None] | None,
) -> Iterator[tuple[Head, LogisticProbe, Outcome]]:
    """Fit as many linear probes together as memory holds the features of."""
    done = 0
    for group in _group(parts, heads):
        before = done

        def report(at: int, _: int, before: int = before) -> None:
            if progress:
                progress(before + at, len(heads))

        probes = fit_logistic(
            *_read(parts.train, group),
            *_read(parts.validation, group),
            top=top,
            device=device,
            progress=report,
        )
        done += len(group)
        for head, probe in zip(group, probes, strict=True):
            (features,), labels = _read(parts.test, [head])
            yield head, probe, _judge(head, probe, probe.right(features, labels, top).numpy())


def _judge(head: Head, probe: LogisticProbe, right: Bool[np.ndarray, " image"]) -> Outcome:
    """How a linear probe does on the test images."""
    low, high = wilson(int(right.sum()), len(right))
    return Outcome(
        head,
        probe.chosen,
        probe.validation,
        float(right.mean()),
        low,
        high,
        best=float("nan"),
        std=float("nan"),
        diverged=0,
        right=right,
        converged=probe.converged,
        inside=probe.inside,
        why=probe.why,
        points=len(probe.path),
        penalty=probe.penalty,
        certificate=probe.gap,
    )


def _group(parts: Parts, heads: Sequence[Head]) -> Iterator[list[Head]]:
    """Consecutive heads whose features are at most `READ` bytes, or one."""
    images = len(parts.train.labels) + len(parts.validation.labels)
    group: list[Head] = []
    size = 0
    for head in heads:
        own = 4 * images * sum(parts.train.columns[column] for column in head.columns)
        if group and size + own > READ:
            yield group
            group, size = [], 0
        group.append(head)
        size += own
    if group:
        yield group


def _read(
    part: Held | Stored, heads: Sequence[Head]
) -> tuple[list[Float[Tensor, "image _"]], Int64[Tensor, " image"]]:
    """Read what each head reads of all images, with several columns concatenated, and the class of
    each image."""
    columns = list(dict.fromkeys(column for head in heads for column in head.columns))
    blocks = list(part.blocks(columns))
    features = [
        torch.cat([torch.cat([x[column] for column in head.columns], 1) for x, _ in blocks])
        for head in heads
    ]
    return features, torch.cat([labels for _, labels in blocks])
