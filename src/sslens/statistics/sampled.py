"""Values with and without each part of the data; intervals of their means and differences.

A part is a minibatch for CKA, and an image or a group of images for the agreement of predictions.
Two values of the same parts can be subtracted: the difference without a part is the difference of
both values without it. Variation that both share, such as an easy minibatch, cancels. The module
`jackknife` says how intervals are computed, and `runs/coverage.py` how often they hold the truth.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64
from torch import Tensor

from sslens.errors import InputError
from sslens.statistics.jackknife import (
    compute_ends,
    compute_ends_at_once,
    compute_errors,
    compute_freedom,
    compute_p,
    compute_share_ends,
    require_level,
)


@runtime_checkable
class Ratios(Protocol):
    """Numerators and denominators of ratios such as CKA, minibatch by minibatch.

    A cell (i, j) is a tap i of model a and a tap j of model b. Its ratio is
    Σ cross[i, j] / √(Σ own_a[i] · Σ own_b[j]), where the sums are over minibatches. `defined` is
    False for cells with a denominator of 0. `seen` identifies the images and minibatches, or is
    None if these are not known.
    """

    @property
    def cross(self) -> Float64[Tensor, "tap_a tap_b batch"]: ...
    @property
    def own_a(self) -> Float64[Tensor, "tap_a batch"]: ...
    @property
    def own_b(self) -> Float64[Tensor, "tap_b batch"]: ...
    @property
    def defined(self) -> Bool[Tensor, "tap_a tap_b"]: ...
    @property
    def seen(self) -> tuple[Any, ...] | None: ...


class Inference(NamedTuple):
    """Values with their intervals and p-values, one for each cell; nan where a cell is undefined.

    Attributes:
        value: the value of each cell.
        low: the lower end of each interval.
        high: the upper end of each interval.
        p: the two-sided p-value of the hypothesis that the true value is 0.
    """

    value: Float64[np.ndarray, "*cell"]
    low: Float64[np.ndarray, "*cell"]
    high: Float64[np.ndarray, "*cell"]
    p: Float64[np.ndarray, "*cell"]


@dataclass(frozen=True, eq=False)
class Sampled:
    """CKAs, or their means and differences, with the same values without each part of the data.

    Attributes:
        value: the value of each cell; nan where it is undefined.
        left_out: each value without each part; nan where the value is undefined.
        share: the weight of each part in each value, 1 together: of a ratio of sums the part's
            share in the denominator.
        drawn: identifies the images and their parts; None if they are not known. Two values can be
            subtracted only if these agree.
        reach: the largest magnitude that a value can have; intervals end there.

    >>> left_out, share = np.array([[0.4, 0.6], [np.nan, np.nan]]), np.full((2, 2), 0.5)
    >>> one = Sampled(np.array([0.5, np.nan]), left_out, share)
    >>> float(one.mean().value), float((one - one).mean().value)
    (0.5, 0.0)
    """

    value: Float64[np.ndarray, "*cell"]
    left_out: Float64[np.ndarray, "*cell part"]
    share: Float64[np.ndarray, "*cell part"]
    drawn: tuple[Any, ...] | None = None
    reach: float = np.inf

    @property
    def batches(self) -> int:
        """Number of parts: minibatches, or images or groups of images."""
        return self.left_out.shape[-1]

    @classmethod
    def of(cls, compared: Ratios, cells: Sequence[tuple[int, int]] | None = None) -> "Sampled":
        """Compute the ratios of two models' taps, with all minibatches and without each of them.

        Args:
            compared: numerators and denominators of the ratios, by minibatch.
            cells: pairs (tap of model a, tap of model b) as indices; all pairs unless given.

        Returns:
            Values of shape [cell] if `cells` is given, else of shape [tap_a, tap_b].
        """
        batches, shape = compared.cross.shape[-1], tuple(compared.defined.shape)
        chosen = (
            np.arange(shape[0] * shape[1])
            if cells is None
            else np.array([i * shape[1] + j for i, j in cells], int)
        )
        rows, columns = np.divmod(chosen, max(1, shape[1]))
        cross = compared.cross.flatten(0, 1).numpy()[chosen]
        own_a, own_b = compared.own_a.numpy()[rows], compared.own_b.numpy()[columns]
        sums = [part.sum(-1) for part in (cross, own_a, own_b)]
        undefined = ~compared.defined.flatten().numpy()[chosen]
        with np.errstate(divide="ignore", invalid="ignore"):
            value = sums[0] / np.sqrt(sums[1] * sums[2])
            rest = [
                total[:, None] - part
                for total, part in zip(sums, (cross, own_a, own_b), strict=True)
            ]
            left_out = rest[0] / np.sqrt(rest[1] * rest[2])
            share = (own_a / sums[1][:, None] + own_b / sums[2][:, None]) / 2
        value[undefined], left_out[undefined], share[undefined] = np.nan, np.nan, np.nan
        if cells is None:
            value, left_out = value.reshape(shape), left_out.reshape(*shape, batches)
            share = share.reshape(*shape, batches)
        drawn = None if compared.seen is None else (compared.seen, batches)
        return cls(value, left_out, share, drawn, 1.0)

    def __sub__(self, other: "Sampled") -> "Sampled":
        """The paired difference, cell by cell.

        Raises:
            InputError: the two are not of the same minibatches.
        """
        together = require_paired((self, other))
        return Sampled(
            np.asarray(self.value - other.value),
            self.left_out - other.left_out,
            (self.share + other.share) / 2,
            together,
            self.reach + other.reach,
        )

    def __getitem__(self, cells: np.ndarray | int) -> "Sampled":
        """Select cells along the first axis, by index or by mask."""
        return Sampled(
            np.asarray(self.value[cells]),
            self.left_out[cells],
            self.share[cells],
            self.drawn,
            self.reach,
        )

    def where(self, fine: Bool[np.ndarray, "*cell"]) -> "Sampled":
        """Keep the cells of a mask; the others become undefined."""
        return Sampled(
            np.where(fine, self.value, np.nan),
            np.where(fine[..., None], self.left_out, np.nan),
            np.where(fine[..., None], self.share, np.nan),
            self.drawn,
            self.reach,
        )

    @classmethod
    def stack(cls, parts: Sequence["Sampled"]) -> "Sampled":
        """Stack values of equal shape along a new first axis.

        Raises:
            InputError: the values are not of the same minibatches.
        """
        together = require_paired(parts)
        value, left_out, share = (
            np.stack([getattr(part, name) for part in parts])
            for name in ("value", "left_out", "share")
        )
        return cls(value, left_out, share, together, max(part.reach for part in parts))

    def mean(self) -> "Sampled":
        """The mean over the cells that are defined; nan if none is."""
        fine = np.isfinite(self.value)
        if not fine.any():
            nothing = np.full(self.batches, np.nan)
            return Sampled(np.array(np.nan), nothing, nothing, self.drawn, self.reach)
        return Sampled(
            np.array(self.value[fine].mean()),
            self.left_out[fine].mean(0),
            self.share[fine].mean(0),
            self.drawn,
            self.reach,
        )

    def errors(self) -> Float64[np.ndarray, "*cell"]:
        """The standard error of each value (`jackknife.compute_errors`)."""
        return compute_errors(self.left_out)

    def biases(self) -> Float64[np.ndarray, "*cell"]:
        """The jackknife's estimate of the bias of each value, (n − 1)(θ̄ − θ̂)."""
        return np.asarray((self.batches - 1) * (self.left_out.mean(-1) - self.value))

    def interval(
        self, level: float = 0.95
    ) -> tuple[Float64[np.ndarray, "*cell"], Float64[np.ndarray, "*cell"]]:
        """Compute the lower and the upper end of each value's interval; nan with one minibatch.

        The intervals are the jackknife's: see `jackknife`.

        Raises:
            InputError: the level is not between 0 and 1.
        """
        ends = compute_ends(self.value, self.errors(), compute_freedom(self.share), level)
        return self._within_reach(*ends)

    def share_interval(
        self, level: float = 0.95
    ) -> tuple[Float64[np.ndarray, "*cell"], Float64[np.ndarray, "*cell"]]:
        """Compute the ends of the interval of each value that is a share, which lie between 0 and
        1; nan for a share of 0 or 1 (`jackknife.compute_share_ends`).

        Raises:
            InputError: the level is not between 0 and 1.
        """
        return compute_share_ends(self.value, self.errors(), compute_freedom(self.share), level)

    def p(self) -> Float64[np.ndarray, "*cell"]:
        """Compute the two-sided p-value of the hypothesis that the true value is 0, cell by cell.

        p is nan with one minibatch, and where the standard error is 0.

        >>> left_out, share = np.array([[0.1, 0.3, 0.2]]), np.full((1, 3), 1 / 3)
        >>> # the standard error is √(2/3 · 0.02) = 0.1155: t = 1.732 of two degrees
        >>> Sampled(np.array([0.2]), left_out, share).p().round(4).tolist()
        [0.2254]
        """
        return compute_p(self.value, self.errors(), compute_freedom(self.share))

    def estimate(self, level: float = 0.95) -> Inference:
        """Values, the ends of their intervals, and p-values.

        Raises:
            InputError: the level is not between 0 and 1.
        """
        return Inference(self.value, *self.interval(level), self.p())

    def simultaneous_interval(
        self, level: float = 0.95
    ) -> tuple[Float64[np.ndarray, "*cell"], Float64[np.ndarray, "*cell"]]:
        """Compute simultaneous intervals: all cells lie in theirs at once with probability `level`.

        See `jackknife.compute_ends_at_once`.

        Returns:
            Lower and upper ends; nan for undefined cells, and everywhere with one minibatch.
        """
        require_level(level)
        fine = np.isfinite(self.value) & np.isfinite(self.errors())
        low = np.full_like(self.value, np.nan)
        high = low.copy()
        if fine.any():
            freedom = compute_freedom(self.share[fine])
            low[fine], high[fine] = compute_ends_at_once(
                self.value[fine], self.left_out[fine], freedom, level
            )
        return self._within_reach(low, high)

    def _within_reach(
        self, low: Float64[np.ndarray, "*cell"], high: Float64[np.ndarray, "*cell"]
    ) -> tuple[Float64[np.ndarray, "*cell"], Float64[np.ndarray, "*cell"]]:
        """Ends no further out than a value can be; rounding may not leave the value out."""
        return (
            np.asarray(np.minimum(np.maximum(low, -self.reach), self.value)),
            np.asarray(np.maximum(np.minimum(high, self.reach), self.value)),
        )


def combine(function: Callable[..., np.ndarray], *parts: Sampled, reach: float = np.inf) -> Sampled:
    """Compute a function of several values, with all parts of the data and without each of them.

    Args:
        function: computes the new values from arrays of the old ones. Arrays of values without a
            part have this part as a further, last axis, which the function keeps.
        parts: the values. Shapes of cells may broadcast, and the function may sum over cells.
        reach: the largest magnitude that a new value can have.

    Returns:
        The new values; a cell is undefined where the function of the values is nan.

    Raises:
        InputError: the values are not of the same minibatches.

    >>> one = Sampled(np.array([0.5]), np.array([[0.4, 0.6]]), np.full((1, 2), 0.5))
    >>> combine(np.multiply, one, one).value.tolist()
    [0.25]
    """
    together = require_paired(parts)
    value = np.asarray(function(*(part.value for part in parts)))
    left_out = np.asarray(function(*(part.left_out for part in parts)))
    left_out = np.where(np.isnan(value)[..., None], np.nan, left_out)
    shape = (*value.shape, parts[0].batches)
    shares = [
        part.share
        if part.share.ndim == len(shape)
        else np.nanmean(part.share.reshape(-1, part.batches), axis=0)  # summed over cells
        for part in parts
    ]
    share = np.mean([np.broadcast_to(one, shape) for one in shares], axis=0)
    return Sampled(value, left_out, share, together, reach)


def require_paired(parts: Sequence[Sampled]) -> tuple[Any, ...] | None:
    """Raise unless all values are of the same minibatches.

    Returns:
        `Sampled.drawn` of the first value that has it; None if no value has it.

    Raises:
        InputError: the minibatches or the images differ.
    """
    first = parts[0]
    for other in parts[1:]:
        known = first.drawn is not None and other.drawn is not None
        if first.batches != other.batches or (known and first.drawn != other.drawn):
            raise InputError(
                "A paired difference needs CKAs of the same images in the same minibatches, and"
                f" these are of {first.batches} and {other.batches} minibatches that are not the"
                " same. Compute all of them over one set of images with one seed."
            )
    return next((part.drawn for part in parts if part.drawn is not None), None)


def average(parts: Sequence[Sampled]) -> Sampled:
    """Average several values of equal shape, cell by cell, over the values that are defined.

    Raises:
        InputError: the values are not of the same minibatches.

    >>> half = np.full((2, 2), 0.5)
    >>> one = Sampled(np.array([0.5, np.nan]), np.array([[0.4, 0.6], [np.nan, np.nan]]), half)
    >>> two = Sampled(np.array([0.25, 0.75]), np.array([[0.25, 0.25], [0.7, 0.8]]), half)
    >>> average([one, two]).value.tolist()
    [0.375, 0.75]
    """
    side = Sampled.stack(parts)
    fine = np.isfinite(side.value)
    count = fine.sum(0)

    def mean(values: np.ndarray) -> np.ndarray:
        axes = (1,) * (values.ndim - fine.ndim)
        mask, number = (np.reshape(part, (*part.shape, *axes)) for part in (fine, count))
        total = np.where(mask, values, 0).sum(0)
        return np.asarray(np.where(number, total / np.maximum(number, 1), np.nan))

    return Sampled(mean(side.value), mean(side.left_out), mean(side.share), side.drawn, side.reach)
