"""The quality of generated images, whatever they show: precision and recall by nearest neighbours,
and the Fréchet distance, on features of a model."""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Bool, Float64

from sslens.errors import InputError

#: neighbours that make an image's surroundings, as in Kynkäänniemi et al.
K = 3
#: rows of a block of distances
ROWS = 1024


@final
@dataclass(frozen=True, eq=False)
class Realism:
    """Which images lie where the other set has images.

    Attributes:
        precise: of each generated image, whether it lies in the surroundings of a real image.
        recalled: of each real image, whether it lies in the surroundings of a generated image.
    """

    precise: Bool[np.ndarray, " generated"]
    recalled: Bool[np.ndarray, " real"]


def compare_sets(
    generated: Float64[np.ndarray, "generated dim"],
    real: Float64[np.ndarray, "real _"],
    k: int = K,
) -> Realism:
    """Compute improved precision and recall (Kynkäänniemi et al., 2019, arXiv:1904.06991).

    The surroundings of an image are the ball that reaches to its k-th nearest neighbour in its own
    set. Precision is the mean of `precise`, how many generated images look real; recall that of
    `recalled`, how many real images could have been generated. Distances are Euclidean.

    Args:
        generated: features of the generated images.
        real: features of the real images, as many for a fair comparison.
        k: the neighbour that ends the surroundings.

    Raises:
        InputError: a set has no more than k images, features are not finite, or widths differ.

    >>> real = np.array([[0.0], [1.0], [2.0]])
    >>> found = compare_sets(np.array([[0.5], [9.0], [9.5]]), real, k=1)
    >>> found.precise.tolist(), found.recalled.tolist()
    ([True, False, False], [True, True, True])
    """
    _require(generated, real, k + 1)
    return Realism(
        _find_covered(generated, real, _find_radii(real, k)),
        _find_covered(real, generated, _find_radii(generated, k)),
    )


def measure_frechet_distance(
    generated: Float64[np.ndarray, "generated dim"], real: Float64[np.ndarray, "real _"]
) -> float:
    """Compute the Fréchet distance of two sets of features, taken as normal distributions.

    With means μ and covariances Σ (of n − 1), |μ − μ'|² + tr(Σ + Σ' − 2 (Σ Σ')^(1/2)) (Heusel et
    al., 2017, arXiv:1706.08500). It is biased upwards for few images: hold it against the distance
    of two sets of real images of the same sizes.

    Raises:
        InputError: a set has fewer than two images, features are not finite, or widths differ.

    >>> one = np.array([[-1.0], [1.0]])  # variance 2
    >>> measure_frechet_distance(one, 2 * one + 3)  # 3² + (√2 − √8)²
    11.0
    """
    _require(generated, real, 2)
    means = generated.mean(0) - real.mean(0)
    one, other = (np.atleast_2d(np.cov(rows, rowvar=False)) for rows in (generated, real))
    values, vectors = np.linalg.eigh(one)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    inner = np.linalg.eigvalsh(root @ other @ root)
    common = np.sqrt(np.maximum(inner, 0)).sum()
    distance = float(means @ means + np.trace(one) + np.trace(other) - 2 * common)
    return round(max(0.0, distance), 12)


def _find_radii(rows: Float64[np.ndarray, "image dim"], k: int) -> Float64[np.ndarray, " image"]:
    """The squared distance of each image to its k-th nearest neighbour in the set."""
    radii = np.empty(len(rows))
    for start in range(0, len(rows), ROWS):
        distances = _measure_distances(rows[start : start + ROWS], rows)
        place = np.arange(start, min(start + ROWS, len(rows)))
        distances[place - start, place] = np.inf
        radii[place] = np.partition(distances, k - 1, axis=1)[:, k - 1]
    return radii


def _find_covered(
    rows: Float64[np.ndarray, "image dim"],
    centres: Float64[np.ndarray, "centre dim"],
    radii: Float64[np.ndarray, " centre"],
) -> Bool[np.ndarray, " image"]:
    """Whether each image lies in the surroundings of one of the centres."""
    covered = np.empty(len(rows), bool)
    for start in range(0, len(rows), ROWS):
        part = slice(start, start + ROWS)
        covered[part] = (_measure_distances(rows[part], centres) <= radii).any(1)
    return covered


def _measure_distances(
    rows: Float64[np.ndarray, "row dim"], others: Float64[np.ndarray, "other dim"]
) -> Float64[np.ndarray, "row other"]:
    """Squared Euclidean distances; features are centred first, so that rounding stays small."""
    origin = others.mean(0)
    one, other = rows - origin, others - origin
    squares = np.square(one).sum(1)[:, None] + np.square(other).sum(1)
    distances: Float64[np.ndarray, "row other"] = np.maximum(squares - 2 * one @ other.T, 0)
    return distances


def _require(
    generated: Float64[np.ndarray, "generated dim"],
    real: Float64[np.ndarray, "real _"],
    fewest: int,
) -> None:
    if min(len(generated), len(real)) < fewest:
        raise InputError(
            f"{len(generated)} generated and {len(real)} real images are too few: give {fewest} or"
            " more of each."
        )
    if generated.shape[1] != real.shape[1]:
        raise InputError(
            f"Features of {generated.shape[1]} and of {real.shape[1]} dimensions cannot be"
            " compared: give features of one model and layer."
        )
    if not (np.isfinite(generated).all() and np.isfinite(real).all()):
        raise InputError(
            "Features hold values that are not finite: the model or its input is broken."
        )
