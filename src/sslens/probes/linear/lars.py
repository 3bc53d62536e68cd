"""LARS for many heads at once: each with its own trust ratio, learning rate and weight decay."""

from collections.abc import Mapping, Sequence
from typing import final

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sslens.probes.linear.grid import Point, rates

MOMENTUM, TRUST = 0.9, 0.001


@final
class Lars:
    """LARS for the heads of a pack, each with the rates and the weight decay of its point.

    Args:
        points: the point of each head.
        parameters: the heads' parameters, by name.
        batch: the number of images in a step, with which learning rates are scaled.
    """

    def __init__(
        self, points: Sequence[Point], parameters: Mapping[str, Tensor], batch: int
    ) -> None:
        first = next(iter(parameters.values()))
        self._points, self._batch = tuple(points), batch
        self._rates = rates(points, batch)
        self._momenta = {name: torch.zeros_like(value) for name, value in parameters.items()}
        self._decay = first.new_tensor([point.weight_decay for point in points])
        self._share = torch.ones_like(self._decay)

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
        lr = torch.from_numpy(self._rates(at)).to(alive) * alive * self._share
        finite = torch.ones_like(alive, dtype=torch.bool)
        for name, gradient in gradients.items():
            finite &= lars_(parameters[name], gradient, self._momenta[name], lr, self._decay)
        return finite

    def states(self) -> list[Tensor]:
        """The tensors that have a row for each head."""
        return list(self._momenta.values())

    def slow(self, rows: Int64[Tensor, " slowed"]) -> None:
        """Go on with a tenth of the learning rate in some heads."""
        self._share[rows] /= 10

    def keep(self, rows: Int64[Tensor, " kept"]) -> None:
        """Go on with some of the heads only."""
        self._points = tuple(self._points[row] for row in rows.tolist())
        self._rates = rates(self._points, self._batch)
        self._momenta = {name: value[rows] for name, value in self._momenta.items()}
        self._decay, self._share = self._decay[rows], self._share[rows]


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
