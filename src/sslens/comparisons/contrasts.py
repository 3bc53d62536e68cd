"""The mean CKA of some pairs of models less that of others, with intervals over images and
trainings."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from sslens.comparisons import trainings
from sslens.comparisons.inputs import Models
from sslens.comparisons.pairs import (
    CKA,
    DIFFERENCE,
    THERE,
    Pair,
    Pairs,
    Row,
    make_cka_columns,
    make_difference_columns,
)
from sslens.comparisons.trainings import TRAININGS, Alone, Sides
from sslens.statistics.estimate import Estimate
from sslens.statistics.sampled import Sampled, average

#: the columns of a difference, with its interval over images and then over trainings too
BETWEEN = (*CKA, *DIFFERENCE, *TRAININGS)
#: the same of a mean over depths, with the number of these, and with the difference at those depths
#: at which the deconfounded one is defined
MEAN = (*BETWEEN, "depths", *THERE)


@final
@dataclass(frozen=True, eq=False)
class PairContrast:
    """The mean CKA of some pairs of models less that of other pairs, at one or several places.

    Every pair of objectives has the same weight in a mean, however many trainings there are.

    Attributes:
        inside: mean CKA of the first pairs.
        outside: mean CKA of the other pairs; None if nothing is subtracted.
        alone: the difference with each objective represented by each of its trainings in turn.
        there: the difference over the cells alone at which deconfounded CKA is defined; None where
            it is defined at all cells, or of pairs that are deconfounded themselves.
    """

    inside: Sampled
    outside: Sampled | None
    alone: Alone
    there: Sampled | None = None

    @classmethod
    def of(
        cls,
        models: Models,
        sides: Sides,
        choose: Callable[[Sides], tuple[Sequence[Pair], Sequence[Pair]]],
        pick: Callable[[Pair], Sampled],
    ) -> "PairContrast":
        """Compare two groups of pairs.

        Args:
            models: the models of the study.
            sides: the names of the models, by family.
            choose: returns the pairs of both groups for the given names; the second may be empty.
            pick: returns the CKA of a pair at each place.
        """
        picked: dict[tuple[str, str], Sampled] = {}

        def look_up(pair: Pair) -> Sampled:
            if (pair.a, pair.b) not in picked:
                picked[pair.a, pair.b] = pick(pair)
            return picked[pair.a, pair.b]

        def average_values(group: Sequence[Pair]) -> np.ndarray:
            values = {(pair.a, pair.b): look_up(pair).value for pair in group}
            return trainings.average_over_objectives(models, values, trainings.average_arrays)

        def measure(chosen: Sides) -> np.ndarray:
            first, second = choose(chosen)
            value = average_values(first)
            return np.asarray(value - average_values(second)) if second else value

        def average_pairs(group: Sequence[Pair]) -> Sampled:
            values = {(pair.a, pair.b): look_up(pair) for pair in group}
            return trainings.average_over_objectives(models, values, average)

        def average_there(group: Sequence[Pair]) -> Sampled:
            values = {(one.a, one.b): pick(one.there) for one in group if one.there is not None}
            return trainings.average_over_objectives(models, values, average)

        first, second = choose(sides)
        there = None
        if any(map(_is_partly_defined, (*first, *second))):
            there = average_there(first) - average_there(second) if second else average_there(first)
        return cls(
            average_pairs(first),
            average_pairs(second) if second else None,
            trainings.measure_alone(models, sides, measure),
            there,
        )

    @property
    def difference(self) -> Sampled:
        """The difference at each place."""
        return self.inside if self.outside is None else self.inside - self.outside

    def means(self) -> tuple[Sampled, Sampled | None]:
        """The means of both groups over the places at which both are defined."""
        fine = np.asarray(np.isfinite(self.difference.value))
        other = None if self.outside is None else self.outside.where(fine).mean()
        return self.inside.where(fine).mean(), other

    def row(self, less: str, together: int = 1) -> Row:
        """Make the columns `MEAN` of the mean over all places at which both are defined.

        Args:
            less: the name of what is subtracted.
            together: number of intervals over trainings that hold at once.
        """
        mean = self.difference.mean()
        fine = np.isfinite(np.atleast_1d(self.difference.value))
        alone = {
            side: {
                name: _average_places(values.reshape(len(values), -1)[:, fine])
                for name, values in objectives.items()
            }
            for side, objectives in self.alone.items()
        }
        images = estimate_value(mean)
        where: Row = {"depths": int(fine.sum())} if self.difference.value.ndim else {}
        if self.there is not None and not np.array_equal(self.there.value, self.difference.value):
            where |= estimate_value(self.there.mean()).columns(THERE[0], ends=THERE[1:])
        return (
            make_cka_columns(self.means()[0])
            | where
            | make_difference_columns(less, images.value, images.low, images.high)
            | trainings.fill_trainings(images, alone, together=together)
        )

    def rows(self, less: str) -> Iterator[Row]:
        """Make the columns `BETWEEN` of each place; the intervals hold at once."""
        difference = self.difference
        low, high = difference.simultaneous_interval()
        together = int(np.isfinite(difference.value).sum())
        for k, value in enumerate(difference.value):
            row = make_cka_columns(self.inside[k]) | {"together": together}
            row |= make_difference_columns(less, float(value), float(low[k]), float(high[k]))
            images = estimate_value(difference[k])
            yield row | trainings.fill_trainings(images, self.alone, k, max(1, together))


def _is_partly_defined(pair: Pair) -> bool:
    """Whether deconfounded CKA is defined for some cells of a pair alone."""
    beside = pair.deconfounded
    return beside is not None and not np.isfinite(beside.cells.value).all()


def _average_places(values: np.ndarray) -> np.ndarray:
    """Average over places, for each training; nan if there is no place."""
    if not values.shape[1]:
        return np.full(len(values), np.nan)
    return trainings.average_arrays(list(values.T))


def estimate_value(value: Sampled) -> Estimate:
    """A single value with its interval over minibatches."""
    low, high = value.interval()
    return Estimate(float(value.value), float(low), float(high), "minibatches", value.batches)


def subtract_kind(pair: Pair, others: Pairs) -> Sampled:
    """Subtract, for the same two models, their CKA at the same depth in another kind of tap; nan
    where they were not compared in it.

    Args:
        pair: two models, compared in one kind of tap.
        others: the pairs, compared in the other kind.
    """
    other = others.find(pair.a, pair.b)
    if other is None or len(other.same.value) != len(pair.same.value):
        nothing = np.zeros(len(pair.same.value), bool)
        return pair.same[nothing].mean()
    fine = np.isfinite(pair.same.value) & np.isfinite(other.same.value)
    return pair.same[fine].mean() - other.same[fine].mean()
