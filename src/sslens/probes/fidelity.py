"""Fidelity of generated images to their source, by features: the rank of the source among other
images, and the cosine of centred, whitened features."""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from sslens.counts import spell_count
from sslens.errors import InputError

#: numbers of a block of cosines: samples × images × 8 bytes stay under 64 MB
BLOCK = 2**23


@final
@dataclass(frozen=True, eq=False)
class Whitening:
    """The linear map that makes features of images uncorrelated, of mean 0 and variance 1.

    With the mean μ of the features and Σ their covariance, shrunk towards a multiple of the
    identity by Ledoit and Wolf (2004, J. Multivariate Anal. 88:365),

        z = Σ^(−1/2) (x − μ)

    Cosines of features as they are say nothing where all images share a large mean: the nearest
    other scene has 0.999 by DINO. Shrinkage keeps directions that hardly vary from being blown up.

    Attributes:
        mean: μ.
        matrix: Σ^(−1/2), symmetric.
        shrinkage: the weight of the identity in Σ, 0 to 1.

    >>> rows = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]]) + 5
    >>> whitening = Whitening.fit(rows, shrinkage=0.0)  # variances 2 and 1/2
    >>> (whitening.apply(rows) ** 2).mean(0).round(9).tolist()
    [1.0, 1.0]
    """

    mean: Float64[np.ndarray, " dim"]
    matrix: Float64[np.ndarray, "dim dim"]
    shrinkage: float

    @classmethod
    def fit(
        cls, rows: Float64[np.ndarray, "image dim"], shrinkage: float | None = None
    ) -> "Whitening":
        """Compute the map from the features of some images.

        Args:
            rows: the features.
            shrinkage: the weight of the identity; Ledoit and Wolf's estimate unless given.

        Raises:
            InputError: there are fewer than two images, features are not finite, or none varies.
        """
        count = len(rows)
        if count < 2 or not np.isfinite(rows).all():
            raise InputError(
                f"Features of {count} images cannot be whitened: give finite ones of two or more."
            )
        mean = rows.mean(0)
        centred = rows - mean
        covariance = centred.T @ centred / count
        scale = float(np.trace(covariance)) / len(covariance)
        if scale <= 0:
            raise InputError("The features do not vary over the images: nothing can be whitened.")
        delta = _choose_shrinkage(centred, covariance) if shrinkage is None else shrinkage
        shrunk = (1 - delta) * covariance + delta * scale * np.eye(len(covariance))
        values, vectors = np.linalg.eigh(shrunk)
        roots = np.where(values > 1e-12 * values[-1], values, np.inf) ** -0.5
        return cls(mean, (vectors * roots) @ vectors.T, float(delta))

    def apply(self, rows: Float64[np.ndarray, "*row dim"]) -> Float64[np.ndarray, "*row dim"]:
        """Whiten features.

        Raises:
            InputError: they have another width.
        """
        if rows.shape[-1] != len(self.mean):
            raise InputError(
                f"Features of {rows.shape[-1]} dimensions are whitened by those of"
                f" {len(self.mean)}: give features of one model and layer."
            )
        whitened: Float64[np.ndarray, "*row dim"] = (rows - self.mean) @ self.matrix
        return whitened


def _choose_shrinkage(
    centred: Float64[np.ndarray, "image dim"], covariance: Float64[np.ndarray, "dim dim"]
) -> float:
    """Ledoit and Wolf's weight: the mean squared error of Σ over its distance from the identity."""
    count, dim = centred.shape
    scale = np.trace(covariance) / dim
    distance = np.square(covariance - scale * np.eye(dim)).sum()
    squares = np.square(centred)
    error = (squares.sum(1) ** 2).sum() / count - np.square(covariance).sum()
    return float(min(1.0, max(0.0, error / count / distance))) if distance > 0 else 1.0


def rank_sources(
    samples: Float64[np.ndarray, "source draw dim"],
    images: Float64[np.ndarray, "image _"],
    sources: Int64[np.ndarray, " source"],
) -> Int64[np.ndarray, "source draw"]:
    """Rank the source of each sample among all images, by the cosine to the sample.

    The rank is 1 plus the number of other images of which the cosine to the sample is as large as
    the source's or larger, so that a representation that tells nothing apart has the last rank.

    Args:
        samples: features of the samples of each source, whitened.
        images: features of the images, the sources among them, whitened by the same map.
        sources: the row of each source in `images`.

    Raises:
        InputError: a source is not among the images, or widths differ.

    >>> images = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    >>> rank_sources(np.array([[[3.0, 1.0], [1.0, 3.0]]]), images, np.array([0])).tolist()
    [[1, 2]]
    """
    _require_sources(samples, images, sources)
    unit = _normalise(images)
    flat = _normalise(samples.reshape(-1, samples.shape[-1]))
    own = np.repeat(sources, samples.shape[1])
    ranks = np.empty(len(flat), np.int64)
    step = max(1, BLOCK // max(1, len(images)))
    for start in range(0, len(flat), step):
        part = slice(start, start + step)
        cosines = flat[part] @ unit.T
        reached = np.take_along_axis(cosines, own[part, None], 1)
        ranks[part] = (cosines >= reached).sum(1)
    return ranks.reshape(samples.shape[:2])


def measure_cosines(
    samples: Float64[np.ndarray, "source draw dim"],
    images: Float64[np.ndarray, "image _"],
    sources: Int64[np.ndarray, " source"],
) -> Float64[np.ndarray, "source draw"]:
    """Compute the cosine of each sample's features and its source's, all whitened by one map.

    >>> images = np.array([[1.0, 0.0], [0.0, 2.0]])
    >>> samples = np.array([[[3.0, 4.0], [1.0, 0.0]]])
    >>> measure_cosines(samples, images, np.array([0])).tolist()
    [[0.6, 1.0]]
    """
    _require_sources(samples, images, sources)
    cosines: Float64[np.ndarray, "source draw"] = np.einsum(
        "sdk,sk->sd", _normalise(samples), _normalise(images[sources])
    )
    return cosines


def shift_right(images: UInt8[np.ndarray, "image h w 3"]) -> UInt8[np.ndarray, "image h w 3"]:
    """Shift images by one pixel to the right; the first column stays.

    Its fidelity is what a copy of an image reaches that nobody tells from the image.

    >>> shift_right(np.arange(9, dtype=np.uint8).reshape(1, 1, 3, 3))[0, 0, :, 0].tolist()
    [0, 0, 3]
    """
    return np.concatenate([images[:, :, :1], images[:, :, :-1]], 2)


def _normalise(rows: Float64[np.ndarray, "*row dim"]) -> Float64[np.ndarray, "*row dim"]:
    """Rows of length 1; a row of zeros stays."""
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    scaled: Float64[np.ndarray, "*row dim"] = rows / np.where(lengths > 0, lengths, 1.0)
    return scaled


def _require_sources(
    samples: Float64[np.ndarray, "source draw dim"],
    images: Float64[np.ndarray, "image _"],
    sources: Int64[np.ndarray, " source"],
) -> None:
    if samples.shape[0] != len(sources) or samples.shape[2] != images.shape[1]:
        raise InputError(
            f"Samples {list(samples.shape)} of {spell_count(len(sources), 'source')} and images"
            f" {list(images.shape)} do not fit: give features of one width, and the row of each"
            " source."
        )
    if len(sources) and not 0 <= sources.min() <= sources.max() < len(images):
        raise InputError(
            f"A source is row {sources.max()} of {spell_count(len(images), 'image')}: each source"
            " must be among the images."
        )
