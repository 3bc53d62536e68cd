"""How large minibatch CKA is by chance: a null by permutation of the images.

The images of one model are permuted within each minibatch, the same way at all of its
taps, so that both models keep their own geometry and lose the images that they share. Of each
permutation the largest CKA over all pairs of taps counts, so that what passes the threshold
anywhere is wrong in at most 5 % of comparisons, however many taps there are (Westfall & Young,
1993).
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
from sslens.errors import InputError
from sslens.measures.cka import Comparison, defined, minibatch_cka, packed
from sslens.statistics.sampled import REPLICATES, Sampled

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
    """CKA held against the largest CKA of permuted images.

    Attributes:
        p: of each cell (1 + permutations whose largest cell reaches it) / (1 + permutations); nan
            where CKA is undefined.
        threshold: a cell lies above it exactly where p ≤ 0.05; nan where no cell is defined.
    """

    p: Float64[np.ndarray, "tap_a tap_b"]
    threshold: float


def permutation_null(
    a: Grams, b: Grams, *, permutations: int = PERMUTATIONS, seed: int = 0
) -> Null:
    """The corrected p-value of each cell and the threshold, by the largest cell over permutations
    of b's images.

    Undefined cells take no part. Operands are permuted and multiplied in float32.

    Raises:
        InputError: the Grams are of other images or other minibatches, or under 19 permutations, of
            which no p reaches 0.05.

    >>> x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    >>> turns = torch.linalg.qr(torch.randn(4, 8, 8)).Q
    >>> one, other = (Grams.of_features([x @ turn for turn in two]) for two in turns.split(2))
    >>> permutation_null(one, other, permutations=99).p.tolist()  # rotations: CKA 1, not reached
    [[0.01, 0.01], [0.01, 0.01]]
    """
    return permutation_nulls((a, b), permutations=permutations, seed=seed)[0, 1]


def permutation_nulls(
    models: Sequence[Grams], *, permutations: int = PERMUTATIONS, seed: int = 0
) -> dict[tuple[int, int], Null]:
    """The null of each pair of many models by their numbers (i, j), i < j: the same permutations
    and values as pair by pair.

    The operand of a model is permuted once for all that come before it.

    Raises:
        InputError: as `permutation_null`.
    """
    beaten = int(LEVEL * (1 + permutations) + 1e-9)
    if beaten < 1:
        raise InputError(
            f"{permutations} permutations are too few: the smallest p would be above 0.05, so give"
            " 19 or more."
        )
    for other in models[1:]:
        require_same_images(models[0], other)
    unit = [_unit(model) for model in models]
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


def _unit(model: Grams) -> Float32[Tensor, "tap entry"]:
    """The packed operands of the defined taps, minibatches end to end, with norm 1."""
    rows = packed(model)[defined(model)].flatten(1)
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
    """The place from which each entry of the packed operands, minibatch by minibatch, comes when
    images are permuted within minibatches.

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


def same_depth(a: Grams, b: Grams) -> list[tuple[int, int]]:
    """Each tap of the longer model with the tap of the other that is nearest in relative depth, the
    first of equally near ones."""
    if len(b.taps) > len(a.taps):
        return [(i, j) for j, i in same_depth(b, a)]
    depths = np.array([tap.depth for tap in b.taps])
    return [(i, int(np.abs(depths - tap.depth).argmin())) for i, tap in enumerate(a.taps)]


def same_depth_mean(a: Grams, b: Grams, *, seed: int = 0, replicates: int = REPLICATES) -> Sampled:
    """The mean CKA of two models over pairs of taps at the same relative depth, those that are
    defined.

    Its difference to that of two other models on the same images is paired: `(one -
    other).estimate()`.

    >>> x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    >>> grams = Grams.of_features([x, x**2], sizes=np.full(4, 16))
    >>> [round(float(end), 9) for end in same_depth_mean(grams, grams).estimate()[:3]]
    [1.0, 1.0, 1.0]
    """
    require_same_images(a, b)
    return Sampled.of(Comparison.of(a, b), same_depth(a, b), seed, replicates).mean()
