"""A permutation test of minibatch CKA: how large CKA is by chance.

A permutation shuffles the images of one model within each minibatch, in the same way at all of its
taps. Both models then keep their own geometry, but their images no longer correspond. Each
permutation contributes its largest CKA over all pairs of taps. If two models are unrelated, any of
their CKAs passes the threshold in at most 5 % of comparisons, however many taps there are (Westfall
& Young, 1993).
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int
from torch import Tensor

from sslens.capture import Grams
from sslens.capture.grams import require_same_images
from sslens.comparisons.depths import find_nearest
from sslens.errors import InputError
from sslens.measures.cka import Comparison, find_defined, minibatch_cka, pack
from sslens.statistics.sampled import Sampled

PERMUTATIONS = 200
#: share of comparisons of unrelated models in which some cell passes the threshold
LEVEL = 0.05
#: two CKAs nearer than this count as the same: a permutation that leaves all as it was differs by
#: rounding of float32
TIE = 1e-6
#: permuted taps, of a few permutations, that one matrix product takes: with a dozen taps alone it
#: has half the speed
TAPS = 96


class Null(NamedTuple):
    """The result of a permutation test of all cells (pairs of taps) of two models.

    Attributes:
        p: p-value of each cell, corrected for the number of cells: (1 + r) / (1 + permutations),
            where r permutations have a largest CKA that is at least the cell's CKA; nan where CKA
            is undefined.
        threshold: a cell's CKA is above the threshold exactly if its p is ≤ 0.05; nan if no cell
            is defined.
    """

    p: Float64[np.ndarray, "tap_a tap_b"]
    threshold: float


def compute_null(a: Grams, b: Grams, *, permutations: int = PERMUTATIONS, seed: int = 0) -> Null:
    """Test the CKA of every pair of taps of two models by permutations of b's images.

    Cells with an undefined CKA take no part. The permuted CKAs are computed in float32.

    Args:
        a: Grams of the first model.
        b: Grams of the second model, of the same images in the same minibatches.
        permutations: number of permutations; at least 19, because fewer cannot give p ≤ 0.05.
        seed: seed of the permutations.

    Raises:
        InputError: the two models saw different images or minibatches, or there are fewer than 19
            permutations.

    >>> x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    >>> turns = torch.linalg.qr(torch.randn(4, 8, 8)).Q
    >>> one, other = (Grams.of_features([x @ turn for turn in two]) for two in turns.split(2))
    >>> compute_null(one, other, permutations=99).p.tolist()  # rotations: CKA 1, not reached
    [[0.01, 0.01], [0.01, 0.01]]
    """
    return compute_nulls((a, b), permutations=permutations, seed=seed)[0, 1]


def compute_nulls(
    models: Sequence[Grams], *, permutations: int = PERMUTATIONS, seed: int = 0
) -> dict[tuple[int, int], Null]:
    """Test every pair of several models, with the same results as `compute_null` pair by pair.

    It is faster than pair by pair, because each permutation of a model's Grams is computed once and
    compared with all models that come before this model.

    Returns:
        The result of models[i] and models[j] under the key (i, j), for i < j.

    Raises:
        InputError: two models saw different images or minibatches, or there are fewer than 19
            permutations.
    """
    beaten = int(LEVEL * (1 + permutations) + 1e-9)
    if beaten < 1:
        raise InputError(
            f"{permutations} permutations are too few: the smallest p would be above 0.05, so give"
            " 19 or more."
        )
    for other in models[1:]:
        require_same_images(models[0], other)
    unit = [_normalise(model) for model in models]
    lengths = [len(rows) for rows in unit]
    stacked, ends = torch.cat(unit), np.cumsum([0, *lengths]).tolist()
    moving = [
        rows.T.contiguous() for rows in unit
    ]  # an entry's taps side by side: they move together
    sizes = np.array(models[0].sizes.tolist())
    rng = np.random.default_rng(seed)
    top = np.full((len(models), len(models), permutations), np.nan)
    step = max(1, TAPS // max(1, *lengths))
    for first in range(0, permutations, step):
        some = range(first, min(first + step, permutations))
        entries = torch.stack([permute_entries(sizes, rng) for _ in some], 1)
        for j in range(1, len(models)):
            if lengths[j] and ends[j]:
                turned = moving[j].index_select(0, entries.flatten()).view(len(entries), -1)
                reached = (turned.T @ stacked[: ends[j]].T).view(len(some), lengths[j], -1).amax(1)
                for i, part in enumerate(reached.split(lengths[:j], 1)):
                    if lengths[i]:
                        top[i, j, some] = part.amax(1).numpy()
    pairs = itertools.combinations(range(len(models)), 2)
    return {
        (i, j): _compare_with_null(minibatch_cka(models[i], models[j]), top[i, j], beaten)
        for i, j in pairs
    }


def _normalise(model: Grams) -> Float32[Tensor, "tap entry"]:
    """Normalise the packed operands of the defined taps, minibatches end to end, to norm 1."""
    rows = pack(model)[find_defined(model)].flatten(1)
    return (rows / rows.norm(dim=1, keepdim=True)).float()


def _compare_with_null(
    value: Float64[np.ndarray, "tap_a tap_b"], top: Float64[np.ndarray, " permutation"], beaten: int
) -> Null:
    """The p-value of each cell, and the threshold.

    Args:
        value: CKA of each cell.
        top: the largest CKA over all cells, of each permutation.
        beaten: how many permutations may reach a cell that lies above the threshold.
    """
    if np.isnan(top).any():  # no cell is defined
        return Null(np.full_like(value, np.nan), float("nan"))
    reached = (top[:, None, None] >= value - TIE).sum(0)
    p = np.where(np.isnan(value), np.nan, (1 + reached) / (1 + len(top)))
    return Null(p, float(np.sort(top)[-beaten]) + TIE)


def permute_entries(
    sizes: Int[np.ndarray, " batch"], rng: np.random.Generator
) -> Int[Tensor, " entry"]:
    """Draw a permutation of the images within each minibatch, as indices into packed Grams.

    Packed Grams (`sslens.measures.cka.packed`) hold, minibatch after minibatch, one entry for each
    pair of different images. Minibatches smaller than the largest one are padded at the end.

    Args:
        sizes: number of images in each minibatch.
        rng: the generator that draws the permutation.

    Returns:
        For each entry of the permuted Grams, the index of the entry that moves there; padding
        stays in place.

    >>> entry = permute_entries(np.array([4, 2]), np.random.default_rng(0))
    >>> entry.tolist()[6:]  # of two images there is only one pair, and the rest is padding
    [6, 7, 8, 9, 10, 11]
    """
    pairs = max(sizes) * (max(sizes) - 1) // 2
    entry = np.arange(len(sizes) * pairs).reshape(len(sizes), pairs)
    for size in np.unique(sizes):
        these = np.flatnonzero(sizes == size)
        i, j = np.triu_indices(size, 1)
        number = np.zeros((size, size), dtype=np.int64)
        number[i, j] = number[j, i] = np.arange(len(i))
        order = rng.random((len(these), size)).argsort(1)
        entry[these, : len(i)] = number[order[:, i], order[:, j]] + pairs * these[:, None]
    return torch.from_numpy(entry.ravel())


def match_depths(a: Grams, b: Grams) -> list[tuple[int, int]]:
    """Match each tap of the model with more taps with the other model's nearest tap in depth.

    Depth is relative, from 0 to 1; of two equally near taps the first one is taken.

    Returns:
        Pairs (index of a tap of `a`, index of a tap of `b`).
    """
    if len(b.taps) > len(a.taps):
        return [(i, j) for j, i in match_depths(b, a)]
    wanted, depths = (np.array([tap.depth for tap in own.taps]) for own in (a, b))
    return list(enumerate(find_nearest(wanted, depths).tolist()))


def average_same_depth(a: Grams, b: Grams) -> Sampled:
    """Average the CKA of two models over the pairs of taps at the same relative depth.

    Pairs of taps with an undefined CKA are left out. Two such means on the same images
    can be subtracted; the difference is paired: `(one - other).estimate()`.

    Args:
        a: Grams of the first model.
        b: Grams of the second model, of the same images in the same minibatches.

    Raises:
        InputError: the two models saw different images or minibatches.

    >>> x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    >>> grams = Grams.of_features([x, x**2], sizes=np.full(4, 16))
    >>> [round(float(end), 9) for end in average_same_depth(grams, grams).estimate()[:3]]
    [1.0, 1.0, 1.0]
    """
    require_same_images(a, b)
    return Sampled.of(Comparison.of(a, b), match_depths(a, b)).mean()
