"""Bures similarity: how well the best rotation lays the features of one model on those of another.

    F(K, L) = tr((K^½ L K^½)^½) = ‖XᵀY‖_*,    value = mean_i F(K_i, L_i) / √(tr K_i · tr L_i)

for K = XXᵀ, L = YYᵀ of centred features, with the nuclear norm ‖·‖_* (the sum of singular values).
F is the fidelity, and tr(XᵀYQ) of the rotation Q that solves the orthogonal Procrustes problem, so
that min_Q ‖X − YQᵀ‖² = tr K + tr L − 2F(K, L) (Schönemann, 1966; Williams et al., 2021; Harvey et
al., 2024). Unlike CKA it does not square: directions of little variance count more. It is biased:
unrelated features of many dimensions are far above 0, so that only values of one size of minibatch
compare.
"""

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from sslens.capture import Grams
from sslens.capture.grams import (
    GramsCache,
    join_vectors,
    mask_undefined,
    require_same_images,
    split_by_size,
    vary_within_minibatches,
)
from sslens.errors import InputError

TITLE = "Bures similarity"
INVARIANCES = ("orthogonal", "isotropic scaling", "translation")
RANGE = (0.0, 1.0)
#: a Gram has no eigenvalue below 0; by rounding, of float16 at the coarsest, it may be below by
#: this share of the largest
NEGATIVE = 1e-2
WHY = "The features of {n} images about their mean are nothing"
_ROOTS: GramsCache[Tensor] = GramsCache()


def compute(a: Grams, b: Grams) -> Float64[np.ndarray, "tap_a tap_b"]:
    """Compute the Bures similarity of all pairs of taps; nan where a tap is the same for all images
    of a minibatch.

    It finds the singular values of every pair and minibatch: a thousand times the work of CKA.

    Raises:
        InputError: the Grams are of other images or other minibatches, a minibatch has under 2
            images, or a matrix is no Gram.

    >>> x = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    >>> a, b = Grams.of_features([x]), Grams.of_features([x[:, :1]])
    >>> compute(a, b).round(9).tolist()  # XᵀY = (2, 0): 2 / √(4 · 2)
    [[0.707106781]]
    """
    require_same_images(a, b)
    n = a.blocks.shape[-1]
    left, right = (_compute_roots(side).unflatten(-1, (n, n)) for side in (a, b))
    value = torch.stack([torch.linalg.svdvals(tap.mT @ right).sum(-1) for tap in left])
    return mask_undefined(
        value.mean(-1).numpy(), vary_within_minibatches(a).all(1), vary_within_minibatches(b).all(1)
    )


def fidelity(
    k: Float[Tensor, "*batch n n"],
    l: Float[Tensor, "*batch n n"],  # noqa: E741
) -> Float64[Tensor, "*batch"]:
    """Compute the fidelity F(K, L), the nuclear norm of XᵀY.

    >>> k, l = torch.diag(torch.tensor([4.0, 9.0])), torch.diag(torch.tensor([1.0, 4.0]))
    >>> fidelity(k, l).item()  # 2 · 1 + 3 · 2
    8.0
    """
    return torch.linalg.svdvals(root(k.double()).mT @ root(l.double())).sum(-1)


def procrustes_distance(
    k: Float[Tensor, "*batch n n"],
    l: Float[Tensor, "*batch n n"],  # noqa: E741
) -> Float64[Tensor, "*batch"]:
    """Compute the distance that is left after the best rotation, min_Q ‖X − YQ‖ = √(tr K + tr L −
    2F(K, L)), in the units of the features.

    >>> k, l = torch.diag(torch.tensor([4.0, 9.0])), torch.diag(torch.tensor([1.0, 4.0]))
    >>> round(procrustes_distance(k, l).item(), 12)  # √(13 + 5 − 16)
    1.414213562373
    """
    own = k.double().diagonal(dim1=-2, dim2=-1).sum(-1) + l.double().diagonal(dim1=-2, dim2=-1).sum(
        -1
    )
    return (own - 2 * fidelity(k, l)).clamp(min=0).sqrt()  # below 0 by rounding where K = L


def angle(similarity: Float64[np.ndarray, "*cell"]) -> Float64[np.ndarray, "*cell"]:
    """Convert a Bures similarity into the angular Procrustes distance arccos(F/√(tr K · tr L)), in
    radians.

    For a single minibatch it is a metric (Williams et al., 2021).

    >>> angle(np.array([1.0, 0.5, 0.0])).round(6).tolist()  # 0, π/3, π/2
    [0.0, 1.047198, 1.570796]
    """
    return np.arccos(np.minimum(similarity, 1))  # above 1 by rounding where K = L


def root(gram: Float64[Tensor, "*batch n n"]) -> Float64[Tensor, "*batch n n"]:
    """Compute X with K = XXᵀ from the eigenvectors of K, setting eigenvalues that are rounding to
    0.

    A Gram has no eigenvalue below 0. Rounding spreads its zero eigenvalues evenly to both sides of
    0, so every eigenvalue that is at most twice as large as the lowest one is negative counts as 0.
    Without this, the square roots of such eigenvalues would not be small.

    Raises:
        InputError: an eigenvalue is below 0 by more than rounding, so that the matrix is no Gram.

    >>> x = root(torch.tensor([[2.0, 1.0], [1.0, 2.0]]).double())
    >>> (x @ x.mT).round(decimals=9).tolist()
    [[2.0, 1.0], [1.0, 2.0]]
    """
    values, vectors = torch.linalg.eigh(gram)
    lowest, largest = values[..., :1], values[..., -1:]
    if (lowest < -NEGATIVE * largest.abs()).any():
        raise InputError(
            "A matrix with an eigenvalue below 0 is no Gram: give products XXᵀ of features."
        )
    above = torch.where(values > -2 * lowest.clamp(max=0), values, 0)
    return vectors * above.sqrt()[..., None, :]


def _compute_roots(grams: Grams) -> Float64[Tensor, "tap batch square"]:
    """Compute the roots of all Grams with norm 1 (0 of a zero Gram); a short minibatch gets rows of
    zeros, which add no singular value."""
    roots = _ROOTS.find(grams)
    if roots is None:
        n = grams.blocks.shape[-1]
        parts = [(these, _unit_root(blocks, n)) for these, blocks in split_by_size(grams, 2, WHY)]
        roots = _ROOTS.keep(grams, join_vectors(grams, parts))
    return roots


def _unit_root(
    blocks: Float64[Tensor, "tap batch m m"], n: int
) -> Float64[Tensor, "tap batch square"]:
    left, x = n - blocks.shape[-1], root(blocks)
    norm = x.norm(dim=(-2, -1), keepdim=True)
    unit = torch.where(norm > 0, x / norm, 0)
    return torch.nn.functional.pad(unit, (0, left, 0, left)).flatten(2)
