"""CKA of two models' blocks against their distance: in relative depth, or in numbers of blocks."""

import itertools

import numpy as np
from jaxtyping import Float64

from sslens.comparisons.pairs import Pair
from sslens.statistics.sampled import Sampled, combine

#: the readings of the distance of two layers, which the papers leave open, with the width of a step
DEPTH, LAYERS = "depth", "layers"
STEPS = {DEPTH: 0.1, LAYERS: 1.0}


def measure_distances(pair: Pair, unit: str) -> Float64[np.ndarray, " cell"]:
    """Compute the distance of the two blocks of each cell.

    Args:
        pair: two models.
        unit: "depth" for the difference of relative depths, 0 to 1, or "layers" for the
            difference of the blocks' numbers, each counted in its own model.
    """
    places = [
        [tap.depth for tap in taps] if unit == DEPTH else list(range(len(taps)))
        for taps in pair.taps
    ]
    return np.array([abs(a - b) for a, b in itertools.product(*places)], dtype=np.float64)


def average_by_distance(pair: Pair, unit: str = DEPTH) -> dict[int, tuple[Sampled, int]]:
    """Average the CKA of two models' blocks over pairs of blocks at a similar distance.

    Returns:
        The mean CKA and the number of pairs of blocks, by step; step i stands for a distance of
        about i · `STEPS`[unit].
    """
    steps: dict[int, list[int]] = {}
    for cell, distance in enumerate(measure_distances(pair, unit).tolist()):
        # a distance of 0.25 counts as 0.2 on every machine
        steps.setdefault(int(np.floor(distance / STEPS[unit] + 0.5 - 1e-9)), []).append(cell)
    return {
        step: (pair.cells[np.array(cells)].mean(), len(cells))
        for step, cells in sorted(steps.items())
    }


def fit_slope(pair: Pair, unit: str = DEPTH) -> Sampled:
    """Fit a line to the CKA of all pairs of blocks against their distance d, by least squares:

        slope = Σ (d − mean d) CKA / Σ (d − mean d)²

    over the pairs of blocks with a defined CKA; nan where these have fewer than two distances.

    Args:
        pair: two models.
        unit: the unit of the distance, as `measure_distances` has it.
    """
    fine = np.isfinite(pair.cells.value)
    distances = measure_distances(pair, unit)[fine]
    if len(np.unique(distances)) < 2:
        return pair.cells[np.zeros(len(fine), dtype=bool)].mean()
    weights = distances - distances.mean()
    weights /= weights @ weights
    return combine(lambda values: np.tensordot(weights, values, (0, 0)), pair.cells[fine])
