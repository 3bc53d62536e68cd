"""What is due to chance in minibatch CKA: a null by permutation of the images, and intervals of
means and differences.

The null: the images of one model are permuted within each minibatch, the same way at all of its
taps, so that both models keep their own geometry and lose the images that they share. Of each
permutation the largest CKA over all pairs of taps counts, so that what passes the threshold
anywhere is wrong in at most 5 % of comparisons, however many taps there are (Westfall & Young,
1993).

The intervals: all replicates of one seed and number of minibatches draw the same minibatches. A
difference of two CKAs on the same images is therefore paired: what makes both high on an easy
minibatch cancels. What a 95 % interval is, and how often it is wrong, `_bootstrap` says.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int
from torch import Tensor

from sslens.capture import Artefact
from sslens.errors import InputError
from sslens.measures._bootstrap import attained, bootstrap_counts, interval, widened
from sslens.measures._grams import require_same_images
from sslens.measures.cka import Comparison, defined, minibatch_cka, packed

PERMUTATIONS, REPLICATES = 200, 1000
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
    a: Artefact, b: Artefact, *, permutations: int = PERMUTATIONS, seed: int = 0
) -> Null:
    """The corrected p-value of each cell and the threshold, by the largest cell over permutations
    of b's images.

    Undefined cells take no part. Operands are permuted and multiplied in float32.

    Raises:
        InputError: the Grams are of other images or other minibatches, or under 19 permutations, of
            which no p reaches 0.05.

    >>> from sslens.measures._grams import from_features
    >>> x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    >>> one, other = (from_features([x @ turn for turn in torch.linalg.qr(torch.randn(2, 8, 8)).Q]) for _ in "ab")
    >>> permutation_null(one, other, permutations=99).p.tolist()  # a rotation each: CKA 1, which no permutation reaches
    [[0.01, 0.01], [0.01, 0.01]]
    """
    return permutation_nulls((a, b), permutations=permutations, seed=seed)[0, 1]


def permutation_nulls(
    models: Sequence[Artefact], *, permutations: int = PERMUTATIONS, seed: int = 0
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
    sizes = np.array(models[0].tensors["sizes"].tolist())
    rng = np.random.default_rng(seed)
    top = np.full((len(models), len(models), permutations), np.nan)
    step = max(1, TAPS // max(1, *lengths))
    for first in range(0, permutations, step):
        some = range(first, min(first + step, permutations))
        entries = torch.stack([permuted(sizes, rng) for _ in some], 1)
        for j in range(1, len(models)):
            if lengths[j] and ends[j]:
                turned = moving[j].index_select(0, entries.flatten()).view(len(entries), -1)
                reached = (turned.T @ stacked[: ends[j]].T).view(len(some), lengths[j], -1).amax(1)
                for i, part in enumerate(reached.split(lengths[:j], 1)):
                    if lengths[i]:
                        top[i, j, some] = part.amax(1).numpy()
    pairs = itertools.combinations(range(len(models)), 2)
    return {(i, j): _held(minibatch_cka(models[i], models[j]), top[i, j], beaten) for i, j in pairs}


def _unit(model: Artefact) -> Float32[Tensor, "tap entry"]:
    """The packed operands of the taps that are defined, minibatches end to end, with norm 1."""
    rows = packed(model)[defined(model)].flatten(1)
    return (rows / rows.norm(dim=1, keepdim=True)).float()


def _held(
    value: Float64[np.ndarray, "tap_a tap_b"], top: Float64[np.ndarray, " permutation"], beaten: int
) -> Null:
    """CKA held against the largest cells, of which as many may reach a cell as p ≤ 0.05 allows."""
    if np.isnan(top).any():  # no cell is defined
        return Null(np.full_like(value, np.nan), float("nan"))
    reached = (top[:, None, None] >= value - TIE).sum(0)
    p = np.where(np.isnan(value), np.nan, (1 + reached) / (1 + len(top)))
    return Null(p, float(np.sort(top)[-beaten]) + TIE)


def permuted(sizes: Int[np.ndarray, " batch"], rng: np.random.Generator) -> Int[Tensor, " entry"]:
    """Where each entry of the packed operands, minibatch by minibatch, comes from when images are
    permuted within minibatches.

    >>> permuted(np.array([4, 2]), np.random.default_rng(0)).tolist()[6:]  # of the second minibatch only one pair is there
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


class Estimate(NamedTuple):
    """Values with the ends of their interval and the two-sided p-value of their being 0; nan where
    undefined."""

    value: Float64[np.ndarray, "*cell"]
    low: Float64[np.ndarray, "*cell"]
    high: Float64[np.ndarray, "*cell"]
    p: Float64[np.ndarray, "*cell"]


@dataclass(frozen=True, eq=False)
class Sampled:
    """CKAs, or what was made of them, with their bootstrap replicates; an undefined value is nan,
    and so are its replicates.

    Attributes:
        batches: minibatches drawn from.
        drawn: which minibatches of which images were drawn; None for values that came from
            elsewhere.

    >>> one = Sampled(np.array([0.5, np.nan]), np.array([[0.4, 0.6], [np.nan, np.nan]]), batches=8)
    >>> float(one.mean().value), float((one - one).mean().value)
    (0.5, 0.0)
    """

    value: Float64[np.ndarray, "*cell"]
    draws: Float64[np.ndarray, "*cell replicate"]
    batches: int
    drawn: tuple[Any, ...] | None = None

    @classmethod
    def of(
        cls,
        compared: Comparison,
        cells: Sequence[tuple[int, int]] | None = None,
        seed: int = 0,
        replicates: int = REPLICATES,
    ) -> "Sampled":
        """Cells of a comparison, by tap of each model; all of them, [tap_a, tap_b], unless
        given."""
        batches, shape = compared.cross.shape[-1], tuple(compared.defined.shape)
        chosen = (
            np.arange(shape[0] * shape[1])
            if cells is None
            else np.array([i * shape[1] + j for i, j in cells], int)
        )
        rows, columns = np.divmod(chosen, max(1, shape[1]))
        cross = (
            compared.cross.flatten(0, 1)[chosen]
            if cells is not None
            else compared.cross.flatten(0, 1)
        )
        undefined = ~compared.defined.flatten()[chosen]

        found = []
        for weights in (
            torch.ones(batches, 1, dtype=torch.float64),
            bootstrap_counts(batches, replicates, seed),
        ):
            root_a, root_b = (compared.own_a @ weights).sqrt(), (compared.own_b @ weights).sqrt()
            ratio = (cross @ weights).div_(root_a[rows]).div_(root_b[columns])
            ratio[undefined] = torch.nan
            found.append(ratio.numpy())
        value, draws = found[0][:, 0], found[1]
        if cells is None:
            value, draws = value.reshape(shape), draws.reshape(*shape, replicates)
        drawn = None if compared.seen is None else (compared.seen, batches, seed, replicates)
        return cls(value, draws, batches, drawn)

    def __sub__(self, other: "Sampled") -> "Sampled":
        """The paired difference, cell by cell.

        Raises:
            InputError: the two are not of the same minibatches and the same draws.
        """
        together = require_paired((self, other))
        return Sampled(
            np.asarray(self.value - other.value), self.draws - other.draws, self.batches, together
        )

    def __getitem__(self, cells: np.ndarray | int) -> "Sampled":
        """Chosen cells, by number or mask, of the first axis."""
        return Sampled(np.asarray(self.value[cells]), self.draws[cells], self.batches, self.drawn)

    @classmethod
    def stack(cls, parts: Sequence["Sampled"]) -> "Sampled":
        """Values of one shape, side by side along a new first axis.

        Raises:
            InputError: they are not of the same minibatches and the same draws.
        """
        value, draws = (
            np.stack([part.value for part in parts]),
            np.stack([part.draws for part in parts]),
        )
        return cls(value, draws, parts[0].batches, require_paired(parts))

    def mean(self) -> "Sampled":
        """The mean over the cells that are defined; nan if none is."""
        fine = np.isfinite(self.value)
        if not fine.any():
            return Sampled(
                np.array(np.nan), np.full(self.draws.shape[-1], np.nan), self.batches, self.drawn
            )
        return Sampled(
            np.array(self.value[fine].mean()), self.draws[fine].mean(0), self.batches, self.drawn
        )

    def interval(
        self, level: float = 0.95
    ) -> tuple[Float64[np.ndarray, "*cell"], Float64[np.ndarray, "*cell"]]:
        """Ends of the interval of each value, percentiles expanded for few minibatches; nan with a
        single one.

        Raises:
            InputError: the level is not between 0 and 1.
        """
        return interval(self.draws, self.batches, level)

    def p(self) -> Float64[np.ndarray, "*cell"]:
        """Two-sided p-value of each value being 0: one less the level of the interval that ends
        there; nan with a single minibatch.

        Of the replicates at or beyond 0 on one side the smaller share counts, the estimate being
        one replicate more as in a permutation test, so that p is never 0.

        >>> draws = np.array([[0.1, 0.3, -0.1, 0.2, 0.2, 0.2, 0.3, 0.1, 0.2]])  # a share of (1 + 1) / (9 + 1), at -0.842 errors
        >>> Sampled(np.array([0.2]), draws, batches=8).p().round(5).tolist()  # twice t of 7 degrees below -0.842 · √(7/8)
        [0.45695]
        """
        below, above = (
            (1 + side.sum(-1)) / (1 + self.draws.shape[-1])
            for side in (self.draws <= 0, self.draws >= 0)
        )
        share = np.asarray(np.minimum(below, above))
        return np.where(np.isfinite(self.value), attained(share, self.batches), np.nan)

    def estimate(self, level: float = 0.95) -> Estimate:
        """Values, ends of their interval, and p."""
        return Estimate(self.value, *self.interval(level), self.p())

    def together(
        self, level: float = 0.95
    ) -> tuple[Float64[np.ndarray, "*cell"], Float64[np.ndarray, "*cell"]]:
        """Ends of intervals that hold for all cells at once: value ± c · its standard error over
        replicates; nan of one minibatch.

        c is the quantile, over replicates, of the largest |replicate − value| / standard error of
        all cells, widened for few minibatches: of six differences that are 0 in the limit, some 0
        is left out in 6, 6 and 6 % of cases with 6, 10 and 32 minibatches (of 4,000 each), without
        that in 34, 22 and 10 %.
        """
        fine = np.isfinite(self.value)
        low = np.full_like(self.value, np.nan)
        high = low.copy()
        if self.batches < 2 or not fine.any():
            return low, high
        value, draws = self.value[fine], self.draws[fine]
        error = draws.std(-1, ddof=1)
        sure = error > 1e-12  # a difference of a thing with itself is 0 in every replicate
        far = np.abs(draws[sure] - value[sure, None]) / error[sure, None]
        c = widened(float(np.quantile(far.max(0), level)), self.batches) if sure.any() else 0.0
        low[fine], high[fine] = value - c * error, value + c * error
        return low, high


def require_paired(parts: Sequence[Sampled]) -> tuple[Any, ...] | None:
    """Refuse values that were not sampled from the same minibatches by the same draws; returns
    which these are.

    Raises:
        InputError: what differs.
    """
    first = parts[0]
    for other in parts[1:]:
        known = first.drawn is not None and other.drawn is not None
        if first.batches != other.batches or (known and first.drawn[0] != other.drawn[0]):  # type: ignore[index]
            raise InputError(
                "A paired difference needs CKAs of the same images in the same minibatches, and"
                f" these are of {first.batches} and {other.batches} minibatches that are not the"
                " same. Compute all of them over one set of images with one seed."
            )
        if first.draws.shape[-1] != other.draws.shape[-1] or (known and first.drawn != other.drawn):
            raise InputError(
                "A paired difference needs CKAs of the same draws of minibatches. Give all of them"
                " one seed and one number of replicates."
            )
    return next((part.drawn for part in parts if part.drawn is not None), None)


def average(parts: Sequence[Sampled]) -> Sampled:
    """The mean of several, cell by cell, over those that are defined there.

    Raises:
        InputError: they are not of the same minibatches and the same draws.

    >>> one = Sampled(np.array([0.5, np.nan]), np.array([[0.4, 0.6], [np.nan, np.nan]]), batches=8)
    >>> two = Sampled(np.array([0.25, 0.75]), np.array([[0.25, 0.25], [0.7, 0.8]]), batches=8)
    >>> average([one, two]).value.tolist()
    [0.375, 0.75]
    """
    side = Sampled.stack(parts)
    count = np.isfinite(side.value).sum(0)
    with np.errstate(invalid="ignore"):  # 0/0 where none is defined
        mean = np.where(count, np.nan_to_num(side.value).sum(0) / count, np.nan)
        means = np.where(
            count[..., None], np.nan_to_num(side.draws).sum(0) / count[..., None], np.nan
        )
    return Sampled(mean, means, side.batches, side.drawn)


def same_depth(a: Artefact, b: Artefact) -> list[tuple[int, int]]:
    """Each tap of the longer model with the tap of the other that is nearest in relative depth, the
    first of equally near ones."""
    if len(b.taps) > len(a.taps):
        return [(i, j) for j, i in same_depth(b, a)]
    depths = np.array([tap.depth for tap in b.taps])
    return [(i, int(np.abs(depths - tap.depth).argmin())) for i, tap in enumerate(a.taps)]


def same_depth_mean(
    a: Artefact, b: Artefact, *, seed: int = 0, replicates: int = REPLICATES
) -> Sampled:
    """The mean CKA of two models over pairs of taps at the same relative depth, those that are
    defined.

    Its difference to that of two other models on the same images is paired: `(one -
    other).estimate()`.

    >>> from sslens.measures._grams import from_features
    >>> x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    >>> grams = from_features([x, x**2], sizes=np.full(4, 16))
    >>> [round(float(end), 9) for end in same_depth_mean(grams, grams).estimate()[:3]]
    [1.0, 1.0, 1.0]
    """
    require_same_images(a, b)
    return Sampled.of(Comparison.of(a, b), same_depth(a, b), seed, replicates).mean()
