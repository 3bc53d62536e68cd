"""The grid of learning rates and weight decays of converged probes: which of its points is chosen,
and how it is widened where the chosen one lies at its edge."""

import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from sslens.probes.linear.grid import Point

#: learning rates and weight decays that are tried first, and the factors by which they widen
RATES, DECAYS = (10**-3.5, 10**-3.0, 10**-2.5), (0.0, 1.0)
WIDER_RATE, WIDER_DECAY = 10**0.5, 10.0
#: share of the lowest validation loss, and a loss, within which a point inside the grid is taken to
#: be as good as the point at its edge that has it; where classes are separable the loss tends to 0
AS_GOOD = (1e-2, 2e-3)


def make_points(
    cap: int, rates: Sequence[float] | None = None, decays: Sequence[float] | None = None
) -> tuple[Point, ...]:
    """Return the points of a grid, each trained for `cap` epochs at most; of the first grid unless
    rates and decays are given.

    >>> len(make_points(200)), make_points(200)[0].epochs
    (6, 200)
    """
    pairs = itertools.product(
        RATES if rates is None else rates, DECAYS if decays is None else decays
    )
    return tuple(Point(rate, decay, warmup=0, epochs=cap) for rate, decay in pairs)


def choose_point(points: Sequence[Point], losses: Float64[np.ndarray, " point"]) -> int:
    """Choose the point of the lowest loss, or the best of those inside the grid that are as good.

    >>> choose_point([Point(0.1), Point(1.0), Point(10.0)], np.array([1.0, 1.009, 2.0]))
    1
    """
    share, least = AS_GOOD
    good = np.flatnonzero(losses <= losses.min() * (1 + share) + least).tolist()
    inside = [place for place in good if not find_edges(points, points[place])]
    return int(min(inside or good, key=lambda place: float(losses[place])))


def widen(
    points: Sequence[Point], losses: Float64[np.ndarray, " point"], cap: int
) -> tuple[Point, ...]:
    """Return the points by which a grid is widened on the sides at which the chosen point lies;
    none if it lies inside.

    >>> grid = make_points(200, rates=[0.1, 1.0], decays=[0.0])
    >>> [round(point.lr, 3) for point in widen(grid, np.array([1.0, 0.5]), 200)]
    [3.162]
    """
    edges = find_edges(points, points[choose_point(points, losses)])
    rates = sorted({point.lr for point in points})
    decays = sorted({point.weight_decay for point in points})
    if "lower rate" in edges:
        rates.insert(0, rates[0] / WIDER_RATE)
    if "higher rate" in edges:
        rates.append(rates[-1] * WIDER_RATE)
    if "higher decay" in edges:
        decays.append(decays[-1] * WIDER_DECAY)
    return tuple(point for point in make_points(cap, rates, decays) if point not in points)


def find_edges(points: Sequence[Point], point: Point) -> tuple[str, ...]:
    """Find the sides on which a point lies at the edge of a grid: "lower rate", "higher rate",
    "higher decay". A decay of 0 is no edge, for there is nothing below.

    >>> grid = tuple(Point(rate, decay) for rate in (0.1, 1.0, 10.0) for decay in (0.0, 0.1))
    >>> find_edges(grid, Point(1.0, 0.0)), find_edges(grid, Point(0.1, 0.1))
    ((), ('lower rate', 'higher decay'))
    """
    rates, decays = ([getattr(one, name) for one in points] for name in ("lr", "weight_decay"))
    edges = {
        "lower rate": point.lr == min(rates),
        "higher rate": point.lr == max(rates),
        "higher decay": point.weight_decay == max(decays) and point.weight_decay > 0,
    }
    return tuple(name for name, holds in edges.items() if holds)


def explain_edges(points: Sequence[Point], point: Point) -> str:
    """Say that a point lies at the edge of the grid, as a clause; empty if it does not.

    >>> explain_edges([Point(0.1), Point(1.0), Point(10.0)], Point(10.0))
    'the chosen learning rate, 10, is the highest that was tried'
    """
    values = {
        "lower rate": f"learning rate, {point.lr:g}, is the lowest",
        "higher rate": f"learning rate, {point.lr:g}, is the highest",
        "higher decay": f"weight decay, {point.weight_decay:g}, is the highest",
    }
    edges = find_edges(points, point)
    return "; ".join(f"the chosen {values[edge]} that was tried" for edge in edges)
