"""LARS for many heads at once: each with its own trust ratio, learning rate and weight decay."""

from collections.abc import Mapping, Sequence
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sslens.probes.linear.grid import Point, rates
from sslens.probes.linear.optimiser import HeadOptimiser

MOMENTUM, TRUST = 0.9, 0.001


@final
class Lars(HeadOptimiser):
    """LARS for the heads of a pack, each with the rates and the weight decay of its point.

    Args:
        points: the point of each head.
        parameters: the heads' parameters, by name.
        batch: the number of images in a step, with which learning rates are scaled.
    """

    def __init__(
        self, points: Sequence[Point], parameters: Mapping[str, Tensor], batch: int
    ) -> None:
        super().__init__(points, parameters, moments=1)
        self._batch = batch
        self._schedule = rates(self.points, batch)
        self._scheduled = self.points

    def update(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        at: float,
        alive: Float[Tensor, " head"],
    ) -> Bool[Tensor, " head"]:
        """Make a step; see `HeadOptimiser.update`."""
        (momenta,) = self.moments
        if self._scheduled is not self.points:  # some heads were left out
            self._scheduled, self._schedule = self.points, rates(self.points, self._batch)
        lr = torch.from_numpy(self._schedule(at)).to(alive) * alive / self.slower
        finite = torch.ones_like(alive, dtype=torch.bool)
        for name, gradient in gradients.items():
            finite &= lars_(parameters[name], gradient, momenta[name], lr, self.decay)
        return finite


def lars_(
    weight: Float[Tensor, "head ..."],
    gradient: Float[Tensor, "head ..."],
    momentum: Float[Tensor, "head ..."],
    lr: Float[Tensor, " head"],
    decay: Float[Tensor, " head"],
) -> Bool[Tensor, " head"]:
    """Update one parameter of every head in place (`gradient` is overwritten too), and return
    whether all of a head's values are finite.

    This is LARS (You et al., 2017, arXiv:1708.03888) as in MAE's linear probe. For a matrix w with
    gradient g, u = g + λw, then u ← u · 0.001 |w| / |u|, unless |w| or |u| is 0; for a vector (a
    bias, a norm's scale) u = g, without decay. Then m ← 0.9 m + u and w ← w − η m. Norms, λ and η
    are each head's own.

    >>> weight = torch.tensor([[[3.0, 4.0]], [[3.0, 4.0]]])  # two heads of one row, |w| = 5
    >>> gradient = torch.tensor([[[0.0, 2.0]], [[0.0, 2.0]]])
    >>> rate, decay = torch.tensor([10.0, 100.0]), torch.zeros(2)
    >>> lars_(weight, gradient, torch.zeros_like(weight), rate, decay).tolist()
    [True, True]
    >>> weight[:, 0].tolist()  # u = (0, 2) · 0.001 · 5 / 2: 4 − 10 · 0.005, and 4 − 100 · 0.005
    [[3.0, 3.950000047683716], [3.0, 3.5]]
    """
    shape = (-1,) + (1,) * (weight.ndim - 1)
    finite = gradient
    momentum.mul_(MOMENTUM)
    if weight.ndim > 2:  # the first axis is the head
        gradient.addcmul_(weight, decay.view(shape))
        over = tuple(range(1, weight.ndim))
        own, step = (torch.linalg.vector_norm(x, dim=over) for x in (weight, gradient))
        trust = torch.where((own > 0) & (step > 0), TRUST * own / step, 1.0)
        momentum.addcmul_(gradient, trust.view(shape))
        finite = (own + step)[:, None]
    else:
        momentum.add_(gradient)
    weight.addcmul_(momentum, -lr.view(shape))
    return torch.isfinite(finite).all(1)
