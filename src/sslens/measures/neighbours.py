"""Mutual k-nearest neighbours: the share of an image's nearest neighbours in one model that are its
nearest neighbours in the other model too.

    value = mean_i mean_j |N_k(j; K_i) ∩ N_k(j; L_i)| / k

over images j of minibatch i. N_k(j) are the k images nearest to j in Euclidean distance, without j
itself (Huh et al., 2024, who use one large batch and cosine similarity). k is 10, or a quarter of
the minibatch where that is less. Two distances that differ by less than 4e-6 of the largest, the
rounding of float32, are a tie: the image that comes first in the minibatch then counts as nearer.
"""

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from sslens.capture import Grams
from sslens.capture.grams import (
    GramsCache,
    distances,
    join_vectors,
    mask_undefined,
    mean_product,
    require_same_images,
    split_by_size,
    vary_within_minibatches,
)

TITLE = "mutual nearest neighbours"
INVARIANCES = ("orthogonal", "isotropic scaling", "translation", "monotone in distance")
RANGE = (0.0, 1.0)
#: neighbours, where a minibatch has 40 images or more
K = 10
WHY = "A quarter of {n} images is no neighbour"
_NEAR: GramsCache[Tensor] = GramsCache()


def compute(a: Grams, b: Grams) -> Float64[np.ndarray, "tap_a tap_b"]:
    """Compute the mutual neighbours of all pairs of taps; nan where a tap is the same for all
    images of a minibatch.

    The value of unrelated features is not 0 but `chance`.

    Raises:
        InputError: the Grams are of other images or other minibatches, or a minibatch has under 4
            images.

    >>> x, y = torch.tensor([[0.0], [1], [4], [6]]), torch.tensor([[0.0], [1], [2.5], [7]])
    >>> a, b = Grams.of_features([x]), Grams.of_features([y])
    >>> compute(a, b).tolist()  # nearest are 1 0 3 2 and 1 0 1 2
    [[0.75]]
    """
    require_same_images(a, b)
    return mask_undefined(
        mean_product(_find_neighbours(a), _find_neighbours(b)),
        vary_within_minibatches(a).all(1),
        vary_within_minibatches(b).all(1),
    )


def neighbours(n: int) -> int:
    """Return k, the number of neighbours that count among n images.

    >>> neighbours(32), neighbours(1024)
    (8, 10)
    """
    return min(K, n // 4)


def chance(n: int) -> float:
    """Return the expected value for unrelated features of n images, k / (n − 1).

    Each model draws k of the n − 1 other images; k²/(n − 1) of them are expected in both draws, a
    share of k / (n − 1).

    >>> chance(33)
    0.25
    """
    return neighbours(n) / (n - 1)


def _find_neighbours(grams: Grams) -> Float64[Tensor, "tap batch square"]:
    near = _NEAR.find(grams)
    if near is None:
        parts = [(these, _mark_nearest(blocks)) for these, blocks in split_by_size(grams, 4, WHY)]
        near = _NEAR.keep(grams, join_vectors(grams, parts))
    return near


def _mark_nearest(blocks: Float64[Tensor, "tap batch n n"]) -> Float64[Tensor, "tap batch square"]:
    """Which images are near which, scaled so that a minibatch has a norm of 1."""
    n, k = blocks.shape[-1], neighbours(blocks.shape[-1])
    apart = distances(blocks)
    apart.diagonal(dim1=-2, dim2=-1).fill_(torch.inf)
    nearest = apart.argsort(dim=-1, stable=True)[..., :k]
    return torch.zeros_like(apart).scatter_(-1, nearest, (n * k) ** -0.5).flatten(2)
