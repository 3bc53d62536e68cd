"""Adam with decoupled weight decay for many heads at once: each with its own rate and decay."""

from collections.abc import Mapping, Sequence
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sslens.probes.linear.grid import Point
from sslens.probes.linear.optimiser import HeadOptimiser

BETAS, EPS = (0.9, 0.999), 1e-8


@final
class AdamW(HeadOptimiser):
    """AdamW (Loshchilov & Hutter, 2019, arXiv:1711.05101) for the heads of a pack, at a constant
    learning rate.

    In step t, with gradient g, m ← 0.9 m + 0.1 g and v ← 0.999 v + 0.001 g²; then
    w ← (1 − η λ) w − η (m / (1 − 0.9ᵗ)) / (√(v / (1 − 0.999ᵗ)) + 1e-8). Each head has its own η and
    λ; vectors (biases, a norm's scale) do not decay.

    Args:
        points: the point of each head, of which `lr` is η and `weight_decay` λ.
        parameters: the heads' parameters, by name.

    >>> parameters = {"w": torch.tensor([[[2.0]], [[2.0]]])}
    >>> adam = AdamW([Point(0.1), Point(0.1, weight_decay=1.0)], parameters)
    >>> gradients = {"w": torch.tensor([[[5.0]], [[5.0]]])}
    >>> adam.update(parameters, gradients, 0.0, torch.ones(2)).tolist()
    [True, True]
    >>> parameters["w"].flatten().tolist()  # a first step of η, and (1 − 0.1) · 2 before it
    [1.8999..., 1.6999...]
    """

    def __init__(self, points: Sequence[Point], parameters: Mapping[str, Tensor]) -> None:
        super().__init__(points, parameters, moments=2)
        self._steps = 0

    def update(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        at: float,
        alive: Float[Tensor, " head"],
    ) -> Bool[Tensor, " head"]:
        """Make a step; see `HeadOptimiser.update`. The time `at` does not matter here."""
        self._steps += 1
        mean_share, square_share = (1 - beta**self._steps for beta in BETAS)
        means, squares = self.moments
        lr = self.lr / self.slower * alive
        finite = torch.ones_like(alive, dtype=torch.bool)
        for name, gradient in gradients.items():
            value, mean, square = parameters[name], means[name], squares[name]
            shape = (-1,) + (1,) * (value.ndim - 1)
            mean.lerp_(gradient, 1 - BETAS[0])
            square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            finite &= torch.isfinite(square.flatten(1).sum(1))
            if value.ndim > 2:  # the first axis is the head
                value.mul_((1 - lr * self.decay).view(shape))
            below = torch.sqrt(square, out=gradient).div_(square_share**0.5).add_(EPS)
            step = torch.div(mean, below, out=below)
            value.addcmul_(step, -(lr / mean_share).view(shape))
        return finite
