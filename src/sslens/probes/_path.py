"""The path of penalties of logistic regressions that are fitted together, and the choice of one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, final, runtime_checkable

import torch
from jaxtyping import Float64, Int64
from torch import Tensor
from torch.nn.functional import pad

from sslens.probes._axes import Axes
from sslens.probes._newton import Problem, Regressions
from sslens.probes._targets import Targets
from sslens.processes import fast_products

#: the path goes on by this factor while the choice lies at its end, up to these penalties
FACTOR, STRONGEST, WEAKEST = 10.0, 1e4, 1e-8
#: the largest part of the loss by which it may lie above its minimum
GAP = 1e-3
#: what is sought is less, so that predictions are those of the optimum; it is least where a strong
#: penalty leaves little of the features in the loss (`_seek`)
SOUGHT = (1e-6, 1e-4)


@final
@dataclass(frozen=True, eq=False)
class Trial:
    """A regression at one penalty.

    Attributes:
        penalty: λ.
        loss: cross-entropy, mean over training images, plus λ/2 ‖W‖².
        gap: the certificate: the loss lies at most this part of itself above its minimum.
        products: products with the Hessian, each as costly as a gradient.
        validation: share of validation images right.
        cross_entropy: mean over validation images of classes that were trained.
        predicted: class of each validation image.
    """

    penalty: float
    loss: float
    gap: float
    products: int
    validation: float
    cross_entropy: float
    predicted: Int64[Tensor, " validation"] = field(repr=False)


@runtime_checkable
class Judge(Protocol):
    """What regressions are trained towards, and how each is judged on held-out images."""

    @property
    def targets(self) -> Targets:
        """The targets of the training images."""

    def score(
        self, logits: Float64[Tensor, "head class validated"]
    ) -> tuple[Float64[Tensor, " head"], Float64[Tensor, " head"], Int64[Tensor, "head validated"]]:
        """What is sought to be large, the cross-entropy, and the classes predicted."""


class Choice(NamedTuple):
    """The regression that was chosen of a path, for features as they come.

    Attributes:
        weights: of the features.
        intercept: of each class.
        path: all regressions, from the strongest penalty.
        chosen: the row of the path that was chosen.
        varies: whether any feature varies.
    """

    weights: Float64[Tensor, "dim class"]
    intercept: Float64[Tensor, " class"]
    path: tuple[Trial, ...]
    chosen: int
    varies: bool


@final
class Walk:
    """The path of penalties of heads that are fitted together.

    Args:
        heads: the features of each.
        judge: what they are trained towards and judged by.
    """

    def __init__(self, heads: Sequence[Axes], judge: Judge) -> None:
        width = max(head.values.shape[1] for head in heads)

        def stack(values: Sequence[Tensor]) -> Tensor:
            if len(values) == 1:  # a view: the features of a head may fill the memory
                return values[0][None]
            return torch.stack([pad(x, (0, width - x.shape[1])) for x in values])

        self.heads, self.judge = heads, judge
        self.problem = Problem(stack([head.values for head in heads]), judge.targets)
        self.asked = stack([head.asked for head in heads])
        self.trials: list[list[Trial]] = [[] for _ in heads]
        #: of each head the trials with most validation images right, with weights and intercept
        self.best: list[list[tuple[Trial, Tensor, Tensor]]] = [[] for _ in heads]

    @fast_products()
    def choose(self, penalties: Sequence[float], *, widen: bool) -> list[Choice]:
        """Try the penalties, from the strongest, and go on where the choice is at an end."""
        penalties = sorted(set(penalties), reverse=True)
        everyone = torch.arange(len(self.heads), device=self.asked.device)
        begin = penalties[0], self.problem.evaluate(*self.problem.start(), penalties[0])
        trail = [begin]
        for penalty in penalties:
            trail = self._try(everyone, trail, penalty)
        weaker = self._list_wider(penalties[-1], 1 / FACTOR) if widen else []
        for penalty in weaker:
            at_end = self._at(penalty * FACTOR)
            if not len(at_end):
                break
            part = self._try(at_end, [(at, one.take(at_end)) for at, one in trail], penalty)
            for (_, whole), (_, some) in zip(trail, part, strict=True):
                whole.put(at_end, some)
            trail = [(at, whole) for (at, _), (_, whole) in zip(part, trail, strict=True)]
        for penalty in self._list_wider(penalties[0], FACTOR) if widen else []:
            at_end = self._at(penalty / FACTOR)
            if not len(at_end):
                break
            self._try(at_end, [(begin[0], begin[1].take(at_end))], penalty)
        return [self._finish(number) for number in range(len(self.heads))]

    def _list_wider(self, end: float, factor: float) -> list[float]:
        """The penalties beyond an end of the path, up to the limit."""
        wider = []
        while WEAKEST * 0.99 <= (end := end * factor) <= STRONGEST * 1.01:
            wider.append(end)
        return wider

    def _at(self, penalty: float) -> Int64[Tensor, " some"]:
        """The heads whose choice is a penalty."""
        numbers = [
            number
            for number, head in enumerate(self.heads)
            if head.varies and abs(self._choose(number)[0].penalty / penalty - 1) < 1e-6
        ]
        return torch.tensor(numbers, dtype=torch.int64, device=self.asked.device)

    def _try(
        self,
        numbers: Int64[Tensor, " some"],
        trail: Sequence[tuple[float, Regressions]],
        penalty: float,
    ) -> list[tuple[float, Regressions]]:
        """Fit some heads at a penalty, from where the last penalties lead to.

        Args:
            numbers: the heads.
            trail: the last penalty with the regressions at it, and before it the one before.
            penalty: λ.

        Returns:
            The last two of the trail.
        """
        problem = self.problem.take(numbers)
        at, last = trail[-1]
        start = last.take(torch.arange(len(numbers))).move(at, penalty)
        if len(trail) > 1:
            before = trail[-2][1]
            guess = problem.evaluate(
                2 * last.weights - before.weights, 2 * last.intercept - before.intercept, penalty
            )
            better = guess.loss < start.loss
            start.put(better, guess.take(better))
        fitted, products = problem.minimise(start, penalty, _seek(penalty))
        self._record(numbers, fitted, products, penalty)
        return [trail[-1], (penalty, fitted)]

    def _record(
        self,
        numbers: Int64[Tensor, " some"],
        fitted: Regressions,
        products: Int64[Tensor, " some"],
        penalty: float,
    ) -> None:
        """Keep what came out at a penalty, and the weights where they are the best yet."""
        logits = torch.baddbmm(fitted.intercept, fitted.weights, self.asked[numbers].mT)
        right, entropy, predicted = self.judge.score(logits)
        gap = fitted.gap(penalty)
        for row, number in enumerate(numbers.tolist()):
            numbers_of = (fitted.loss[row], gap[row], products[row], right[row], entropy[row])
            loss, own, count, share, cross = (float(value) for value in numbers_of)
            trial = Trial(penalty, loss, own, int(count), share, cross, predicted[row])
            self.trials[number].append(trial)
            best = self.best[number]
            if best and share > best[0][0].validation:
                best.clear()
            if not best or share == best[0][0].validation:
                weights, intercept = fitted.weights[row], fitted.intercept[row, :, 0]
                best.append((trial, weights.clone(), intercept.clone()))

    def _choose(self, number: int) -> tuple[Trial, Tensor, Tensor]:
        """The trial with most validation images right; of equal ones one inside the path, with the
        least cross-entropy."""
        tried = [trial.penalty for trial in self.trials[number]]
        ends = min(tried), max(tried)
        return min(
            self.best[number], key=lambda one: (one[0].penalty in ends, one[0].cross_entropy)
        )

    def _finish(self, number: int) -> Choice:
        """The choice of a head, for features as they come."""
        head = self.heads[number]
        trial, coordinates, intercept = self._choose(number)
        weights = head.turn @ coordinates[:, : head.turn.shape[1]].T
        intercept = intercept - head.mean @ weights
        path = sorted(self.trials[number], key=lambda one: -one.penalty)
        return Choice(weights.cpu(), intercept.cpu(), tuple(path), path.index(trial), head.varies)


def _seek(penalty: float) -> float:
    """The gap at which a fit ends.

    >>> [_seek(penalty) for penalty in (1.0, 1e-2, 1e-6)]
    [1e-06, 1e-05, 0.0001]
    """
    return min(max(round(1e-7 / penalty, 12), SOUGHT[0]), SOUGHT[1])
