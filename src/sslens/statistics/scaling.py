"""Multidimensional scaling: places in the plane for things of which the dissimilarities are known.

The places minimise the raw stress Σ w_ij (δ_ij − d_ij)² over pairs i < j, where δ_ij is the
dissimilarity, d_ij the distance in the plane, and w_ij is 1 where δ_ij is known and else 0. SMACOF
lowers it at each step by the Guttman transform X ← V⁺ B(X) X (de Leeuw, 1977; Borg & Groenen, 2005,
*Modern Multidimensional Scaling*, ch. 8). It starts from classical scaling (Torgerson, 1952), so
that nothing is drawn at random.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64

#: steps of SMACOF at most, and the relative fall of the stress under which it ends
STEPS, LEAST = 2000, 1e-12
#: a coordinate, or a difference of the two widths, is 0 if it is a smaller part of the picture
NOTHING = 1e-6


@final
@dataclass(frozen=True, eq=False)
class Placement:
    """Places in the plane.

    Attributes:
        places: of each thing its place, centred on 0.
        stress: Kruskal's stress-1 of these places (`measure_stress`).
    """

    places: Float64[np.ndarray, "thing 2"]
    stress: float


def place(dissimilarities: Float64[np.ndarray, "thing thing"], *, leftmost: int = 0) -> Placement:
    """Place things in the plane, so that distances are as near to the dissimilarities as possible.

    The widest direction lies level, the thing `leftmost` lies left of the middle, and of the others
    the first that is not level with the middle lies above it: the same dissimilarities give the
    same picture.

    Args:
        dissimilarities: symmetric, 0 or more; nan where a pair is not known.
        leftmost: the number of the thing that is turned to the left.

    Raises:
        ValueError: a pair has two dissimilarities, or one under 0.

    >>> line = np.abs(np.subtract.outer([0.0, 1.0, 3.0], [0.0, 1.0, 3.0]))
    >>> placed = place(line)
    >>> np.abs(placed.places.round(6)).tolist(), round(placed.stress, 6)  # middle: 4/3
    ([[1.333333, 0.0], [0.333333, 0.0], [1.666667, 0.0]], 0.0)
    """
    known = np.isfinite(dissimilarities)
    delta = np.where(known, dissimilarities, 0.0)
    if (delta < 0).any() or np.abs(delta - delta.T).max(initial=0) > 1e-9:
        raise ValueError("dissimilarities are symmetric, and 0 or more")
    np.fill_diagonal(known, False)
    weights = known.astype(float)
    places = place_classically(np.where(known, delta, delta.max(initial=0)))
    inverse = np.linalg.pinv(np.diag(weights.sum(1)) - weights)
    stress = _sum_squares(delta, places, weights)
    for _ in range(STEPS):
        places = inverse @ _transform(delta, places, weights)
        before, stress = stress, _sum_squares(delta, places, weights)
        if before - stress <= LEAST * before:
            break
    turned = _turn(places - places.mean(0), leftmost)
    return Placement(turned, measure_stress(dissimilarities, turned))


def place_classically(
    dissimilarities: Float64[np.ndarray, "thing thing"],
) -> Float64[np.ndarray, "thing 2"]:
    """Place things by classical scaling: by the two largest eigenvectors of −J D² J / 2, where D²
    holds the squared dissimilarities and J subtracts the mean.

    >>> line = np.abs(np.subtract.outer([0.0, 1.0, 3.0], [0.0, 1.0, 3.0]))
    >>> np.abs(place_classically(line)[:, 0]).round(6).tolist()
    [1.333333, 0.333333, 1.666667]
    """
    squared = dissimilarities**2
    np.fill_diagonal(squared, 0.0)
    middle = squared - squared.mean(0) - squared.mean(1)[:, None] + squared.mean()
    values, vectors = np.linalg.eigh(-middle / 2)
    count = min(2, len(values))
    chosen = vectors[:, ::-1][:, :count] * np.sqrt(np.clip(values[::-1][:count], 0, None))
    return np.pad(chosen, ((0, 0), (0, 2 - count)))


def measure_stress(
    dissimilarities: Float64[np.ndarray, "thing thing"], places: Float64[np.ndarray, "thing 2"]
) -> float:
    """Compute Kruskal's stress-1, √(Σ (δ_ij − d_ij)² / Σ d_ij²) over the known pairs; 0 where there
    is none. Under 0.05 a picture is good, over 0.2 poor (Kruskal, 1964).

    >>> measure_stress(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[0.0, 0.0], [2.0, 0.0]]))
    0.5
    """
    first, second = np.triu_indices(len(places), 1)
    delta = dissimilarities[first, second]
    distance = np.linalg.norm(places[first] - places[second], axis=1)
    known = np.isfinite(delta)
    whole = float((distance[known] ** 2).sum())
    return float(np.sqrt(((delta - distance)[known] ** 2).sum() / whole)) if whole else 0.0


def _transform(
    delta: Float64[np.ndarray, "thing thing"],
    places: Float64[np.ndarray, "thing 2"],
    weights: Float64[np.ndarray, "thing thing"],
) -> Float64[np.ndarray, "thing 2"]:
    """B(X) X, where b_ij = −w_ij δ_ij / d_ij off the diagonal, and rows sum to 0."""
    distance = _measure_distances(places)
    ratio = np.divide(weights * delta, distance, out=np.zeros_like(delta), where=distance > 0)
    moved: Float64[np.ndarray, "thing 2"] = ratio.sum(1)[:, None] * places - ratio @ places
    return moved


def _sum_squares(
    delta: Float64[np.ndarray, "thing thing"],
    places: Float64[np.ndarray, "thing 2"],
    weights: Float64[np.ndarray, "thing thing"],
) -> float:
    return float((weights * (delta - _measure_distances(places)) ** 2).sum() / 2)


def _measure_distances(
    places: Float64[np.ndarray, "thing 2"],
) -> Float64[np.ndarray, "thing thing"]:
    apart: Float64[np.ndarray, "thing thing"] = np.linalg.norm(places[:, None] - places, axis=-1)
    return apart


def _turn(places: Float64[np.ndarray, "thing 2"], leftmost: int) -> Float64[np.ndarray, "thing 2"]:
    """Turn the picture: its widest direction level, or where it is as wide as high the direction of
    `leftmost`; and mirror it so that `leftmost` is left and the first other thing above."""
    _, widths, axes = np.linalg.svd(places, full_matrices=False)
    if len(places) < 2 or widths[0] == 0:
        return places
    if widths[0] - widths[-1] <= NOTHING * widths[0] and np.any(places[leftmost]):
        level = places[leftmost] / np.linalg.norm(places[leftmost])
        axes = np.array([level, [-level[1], level[0]]])
    turned = places @ axes.T
    least = NOTHING * np.abs(turned).max()
    turned[np.abs(turned) <= least] = 0.0
    for axis, first, sign in ((0, leftmost, -1.0), (1, None, 1.0)):
        off = np.flatnonzero(turned[:, axis])
        if len(off):
            reference = first if first is not None and turned[first, axis] else off[0]
            turned[:, axis] *= sign * np.sign(turned[reference, axis])
    return turned
