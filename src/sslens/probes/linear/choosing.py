"""The results of a grid of probes: the papers' mean of the best five points, and the point that is
chosen on other images than it is tested on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Int64

from sslens.errors import InputError
from sslens.probes.linear.grid import Point
from sslens.probes.linear.heads import Head
from sslens.probes.linear.widening import explain_edges
from sslens.statistics.proportions import wilson

if TYPE_CHECKING:
    from sslens.table import Table

#: points of the grid over which the papers average
BEST = 5

UNITS = {
    "tap": "where the features are read; two are concatenated",
    "pooling": (
        "cls, mean (of all tokens, or places of a CNN's map), patch (mean of patch tokens), or flat"
    ),
    "layers": "of the probe; 1 is linear",
    "accuracy": "share of test images that the chosen point has right",
    "low": "lower end of its 95 % Wilson interval",
    "high": "upper end",
    "validation": "share of validation images that it has right; it was chosen by this",
    "best": (
        "mean accuracy of the best five points of a grid on the test images, as the papers report:"
        " a little optimistic; empty for probes that are trained until they have converged"
    ),
    "std": "standard deviation of these five (n − 1)",
    "lr": "base learning rate of the chosen point; of a grid × minibatch / 256",
    "weight_decay": "of the chosen point",
    "min_lr": "learning rate at the end of its cosine",
    "warmup": "its epochs of warm-up",
    "epochs": "its epochs; of a converged probe those with the lowest validation loss",
    "penalty": "λ of a logistic regression, on features of variance 1; empty for other probes",
    "certificate": (
        "of a logistic regression: its loss lies at most this part of itself above its minimum"
    ),
    "points": "points of the grid, or penalties",
    "diverged": "points whose values overflowed; they are never chosen",
    "converged": "whether the training went on until the validation loss had stopped falling",
    "inside": "whether the chosen point or penalty lies inside those that were tried",
    "why": "where the probe has not converged, or its point is at the grid's edge: which; or empty",
    "images": "test images",
}


@dataclass(frozen=True, eq=False)
class Outcome:
    """The result of one head over the grid.

    Attributes:
        head: the head.
        point: the chosen row of the grid, which has the most validation images right; of equal rows
            the first.
        validation: the chosen point's share of validation images right.
        accuracy, low, high: the chosen point's share of test images right, with its 95 % Wilson
            interval.
        best, std: the mean and standard deviation (n − 1) of the test accuracies of the five points
            that are best on the test images, as the papers report.
        diverged: the number of points that overflowed.
        converged: whether the training went on until the validation loss had stopped falling; True
            for a grid of fixed lengths, of which that is not asked.
        inside: whether the chosen point has neither the lowest or highest learning rate nor the
            highest weight decay that was tried.
        why: what keeps the number from being settled, as a clause; empty if nothing does.
        setting: the chosen point where each head has a grid of its own; None where `point` is a row
            of a grid that all heads share.
        points: the number of points of the head's own grid, or of penalties.
        penalty: λ of a logistic regression; nan for other probes.
        certificate: the largest part of its loss by which it lies above its minimum.
        right: which test images the chosen point has right, for differences between heads on the
            same images.
    """

    head: Head
    point: int
    validation: float
    accuracy: float
    low: float
    high: float
    best: float
    std: float
    diverged: int
    right: Bool[np.ndarray, " image"] = field(repr=False)
    converged: bool = True
    inside: bool = True
    why: str = ""
    setting: Point | None = None
    points: int = 0
    penalty: float = float("nan")
    certificate: float = float("nan")


def choose(
    head: Head,
    validation: Bool[np.ndarray, "point validated"],
    test: Bool[np.ndarray, "point tested"],
    diverged: Int64[np.ndarray, " point"],
    grid: Sequence[Point] = (),
) -> Outcome:
    """Choose the point with most validation images right, and measure it on the test images.

    Args:
        head: the head.
        validation: which validation images each point has right.
        test: which test images each point has right.
        diverged: the epoch in which each point overflowed, −1 where it did not. Points that
            overflowed are not chosen.
        grid: the points; the outcome then says whether the chosen one lies inside them.

    Raises:
        InputError: every point diverged.

    >>> rows = np.array([[1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]], bool)
    >>> found = choose(Head((("norm", "cls"),)), rows, rows[[0, 0, 2]], np.array([-1, -1, 3]))
    >>> found.point, found.validation, found.accuracy, found.best, found.diverged
    (1, 0.75, 0.25, 0.25, 1)
    """
    kept = np.flatnonzero(diverged == -1)
    if not len(kept):
        raise InputError(
            f"All {len(diverged)} points of the grid diverged for {head.name}: give lower learning"
            " rates."
        )
    point = int(kept[validation[kept].mean(1).argmax()])
    right = test[point]
    low, high = wilson(int(right.sum()), len(right))
    top = np.sort(test[kept].mean(1))[::-1][:BEST]
    std = float(top.std(ddof=1)) if len(top) > 1 else float("nan")
    validated = float(validation[point].mean())
    why = explain_edges(grid, grid[point]) if grid else ""
    return Outcome(
        head,
        point,
        validated,
        float(right.mean()),
        low,
        high,
        float(top.mean()),
        std,
        len(diverged) - len(kept),
        right,
        inside=not why,
        why=why,
    )


def table(outcomes: Sequence[Outcome], grid: Sequence[Point] = ()) -> "Table":
    """Return the outcomes as a table with a row for each head.

    Args:
        outcomes: one a head.
        grid: the points that all heads share; none if each outcome has its own `setting`.
    """
    import pandas as pd

    from sslens.table import Table

    return Table(
        pd.DataFrame([_row(outcome, grid) for outcome in outcomes], columns=list(UNITS)), UNITS
    )


def _row(outcome: Outcome, grid: Sequence[Point]) -> Mapping[str, Any]:
    taps, poolings = zip(*outcome.head.columns, strict=True)
    point = outcome.setting or (grid[outcome.point] if grid else None)
    return {
        "tap": " + ".join(taps),
        "pooling": " + ".join(dict.fromkeys(poolings)),
        "layers": outcome.head.layers,
        **{
            name: getattr(outcome, name)
            for name in ("accuracy", "low", "high", "validation", "best", "std", "diverged")
        },
        **{
            name: getattr(outcome, name)
            for name in ("converged", "inside", "why", "penalty", "certificate")
        },
        **{
            name: getattr(point, name, float("nan"))
            for name in ("lr", "weight_decay", "min_lr", "warmup", "epochs")
        },
        "points": outcome.points or len(grid),
        "images": len(outcome.right),
    }
