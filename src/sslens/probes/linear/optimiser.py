"""What the optimisers of many heads at once share: tensors with a row for each head."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sslens.probes.linear.grid import Point


class HeadOptimiser(ABC):
    """Makes a step of every head of a pack, each head with the rate and weight decay of its point.

    Args:
        points: the point of each head.
        parameters: the heads' parameters, by name, with the head as their first axis.
        moments: how many tensors the optimiser remembers for each parameter; they begin as zeros,
            and the first of them is the momentum.
    """

    def __init__(
        self, points: Sequence[Point], parameters: Mapping[str, Tensor], moments: int
    ) -> None:
        first = next(iter(parameters.values()))
        self.points = tuple(points)
        self.moments = tuple(
            {name: torch.zeros_like(value) for name, value in parameters.items()}
            for _ in range(moments)
        )
        self.lr = first.new_tensor([point.lr for point in points])
        self.decay = first.new_tensor([point.weight_decay for point in points])
        #: what the learning rate of each head is divided by
        self.slower = torch.ones_like(self.decay)

    @abstractmethod
    def update(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        at: float,
        alive: Float[Tensor, " head"],
    ) -> Bool[Tensor, " head"]:
        """Update all parameters in place, and return whether all of a head's values are finite.

        Args:
            parameters: the heads' parameters, by name.
            gradients: the gradient of each; they are overwritten.
            at: the time in epochs since the start.
            alive: 1 for heads that are trained, 0 for those that overflowed.
        """

    def states(self) -> list[Tensor]:
        """Return the tensors that have a row for each head."""
        return [value for moment in self.moments for value in moment.values()]

    def slow(self, rows: Int64[Tensor, " slowed"]) -> None:
        """Go on with a tenth of the learning rate in some heads, and without their momentum."""
        self.slower[rows] *= 10
        for momentum in self.moments[0].values():
            momentum[rows] = 0

    def keep(self, rows: Int64[Tensor, " kept"]) -> None:
        """Go on with some of the heads only."""
        self.points = tuple(self.points[row] for row in rows.tolist())
        self.moments = tuple(
            {name: value[rows] for name, value in moment.items()} for moment in self.moments
        )
        self.lr, self.decay, self.slower = self.lr[rows], self.decay[rows], self.slower[rows]
