"""The grids of hyper-parameters with which probes are trained, and the learning rate at any time of
a training."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from sslens.errors import InputError

#: images of a step in the papers; the learning rate is scaled by batch / 256
PAPER_BATCH = 4096

# Table 4 of Shekhar et al. (2023), row by row. Two rows have lost their names in print; {0, 5e-2,
# 0.1} is read as weight decay and {0, 1e-1, …, 1e-4, 5e-4} as the learning rate at the end of the
# cosine. The number of points is the same either way.
_LR = (0.1, 1e-2, 1e-3)
_WEIGHT_DECAY = (0.0, 5e-2, 0.1)
_MIN_LR = (0.0, 1e-1, 1e-2, 1e-3, 1e-4, 5e-4)
_WARMUP = (10, 40)
_EPOCHS = (100, 200)

#: steps that a point of the small grid is trained for
_SMALL_STEPS = 400


@dataclass(frozen=True)
class Point:
    """A point of the grid: the hyper-parameters of one head's training.

    Args:
        lr: the base learning rate; after the warm-up the learning rate is lr · batch / 256.
        weight_decay: λ of LARS, for matrices only.
        min_lr: the learning rate at the end of the cosine, not scaled with the batch (as in MAE's
            code); it may be above `lr`.
        warmup: the number of epochs of a linear rise from 0.
        epochs: the number of epochs of the training.

    Raises:
        InputError: a value that no training can follow.

    >>> Point(0.1, warmup=10, epochs=5)
    Traceback (most recent call last):
    ...
    sslens.errors.InputError: A grid point's warmup is 10: expected 0 or more and below...
    """

    lr: float
    weight_decay: float = 0.0
    min_lr: float = 0.0
    warmup: int = 10
    epochs: int = 100

    def __post_init__(self) -> None:
        wanted = {
            "lr": (0 < self.lr < math.inf, "above 0"),
            "weight_decay": (0 <= self.weight_decay < math.inf, "0 or more"),
            "min_lr": (0 <= self.min_lr < math.inf, "0 or more"),
            "epochs": (self.epochs >= 1, "1 or more"),
            "warmup": (
                0 <= self.warmup < self.epochs,
                f"0 or more and below its epochs, {self.epochs}",
            ),
        }
        for name, (holds, expected) in wanted.items():
            if not holds:
                raise InputError(
                    f"A grid point's {name} is {getattr(self, name)}: expected {expected}."
                )


def paper_grid(batch: int = PAPER_BATCH) -> tuple[Point, ...]:
    """Return the 216 points of Table 4 of Shekhar et al. (2023): 3 learning rates, 3 weight decays,
    6 minimal learning rates, 2 warm-ups, 2 lengths.

    The base learning rates are multiplied by 4,096 / `batch`, so that lr · batch / 256, the
    learning rate of a step, is the papers' at any batch. A small set of images needs small batches,
    and with the usual scaling LARS would hardly move a weight there: by 0.001 · lr · batch / 256 of
    its length in each step.

    >>> len(paper_grid()), paper_grid()[0]
    (216, Point(lr=0.1, weight_decay=0.0, min_lr=0.0, warmup=10, epochs=100))
    >>> paper_grid(512)[0].lr
    0.8
    """
    return tuple(
        Point(lr * PAPER_BATCH / batch, weight_decay, min_lr, warmup, epochs)
        for lr, weight_decay, min_lr, warmup, epochs in itertools.product(
            _LR, _WEIGHT_DECAY, _MIN_LR, _WARMUP, _EPOCHS
        )
    )


def small_grid(batch: int, steps: int) -> tuple[Point, ...]:
    """Return eight points of about 400 steps each, with learning rates scaled as in `paper_grid`.

    Args:
        batch: the number of images in a step.
        steps: the number of steps in an epoch.

    >>> [(point.lr, point.epochs) for point in small_grid(batch=32, steps=8)][:3:2]
    [(256.0, 50), (76.8, 50)]
    """
    epochs = max(10, -(-_SMALL_STEPS // steps))
    return tuple(
        Point(lr * PAPER_BATCH / batch, decay, warmup=epochs // 10, epochs=epochs)
        for lr in (2.0, 0.6, 0.2, 0.06)
        for decay in (0.0, 5e-2)
    )


#: by name, what a training with so many images a step and steps an epoch is searched for
GRIDS: dict[str, Callable[[int, int], tuple[Point, ...]]] = {
    "paper": lambda batch, steps: paper_grid(batch),
    "small": small_grid,
}


def rates(points: Sequence[Point], batch: int) -> Callable[[float], Float64[np.ndarray, " point"]]:
    """Return a function that gives the learning rate of each point after t epochs (a fraction
    within one): MAE's linear rise and half cosine.

    With η = lr · batch / 256, the learning rate is η · t / warmup until the warm-up ends, then
    min_lr + (η − min_lr) · (1 + cos(π (t − warmup) / (epochs − warmup))) / 2.

    >>> rates([Point(0.1, warmup=10, epochs=110)], 512)(5.0).tolist()  # half of 0.2
    [0.1]
    >>> point = Point(0.1, min_lr=0.05, warmup=10, epochs=110)
    >>> rates([point], 512)(60.0).round(9).tolist()  # half way from 0.2 to 0.05
    [0.125]
    """
    lr, low, warmup, epochs = (
        np.array([getattr(point, name) for point in points], np.float64)
        for name in ("lr", "min_lr", "warmup", "epochs")
    )
    peak = lr * batch / 256

    def after(at: float) -> Float64[np.ndarray, " point"]:
        rise = peak * at / np.maximum(warmup, 1)
        fall = low + (peak - low) * 0.5 * (1 + np.cos(np.pi * (at - warmup) / (epochs - warmup)))
        return np.where(at < warmup, rise, fall)

    return after
