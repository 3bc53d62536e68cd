"""Adam with decoupled weight decay for many heads at once: each with its own rate and decay."""

from collections.abc import Mapping, Sequence
from typing import final

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sslens.probes.linear.grid import Point

BETAS, EPS = (0.9, 0.999), 1e-8


@final
class AdamW:
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
        first = next(iter(parameters.values()))
        self._means = {name: torch.zeros_like(value) for name, value in parameters.items()}
        self._squares = {name: torch.zeros_like(value) for name, value in parameters.items()}
        self._lr = first.new_tensor([point.lr for point in points])
        self._decay = first.new_tensor([point.weight_decay for point in points])
        self._steps = 0

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
            at: the time in epochs since the start, which does not matter here.
            alive: 1 for heads that are trained, 0 for those that overflowed.
        """
        self._steps += 1
        mean_share, square_share = (1 - beta**self._steps for beta in BETAS)
        lr = self._lr * alive
        finite = torch.ones_like(alive, dtype=torch.bool)
        for name, gradient in gradients.items():
            value, mean, square = parameters[name], self._means[name], self._squares[name]
            shape = (-1,) + (1,) * (value.ndim - 1)
            mean.lerp_(gradient, 1 - BETAS[0])
            square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            finite &= torch.isfinite(square.flatten(1).sum(1))
            if value.ndim > 2:  # the first axis is the head
                value.mul_((1 - lr * self._decay).view(shape))
            below = torch.sqrt(square, out=gradient).div_(square_share**0.5).add_(EPS)
            value.addcmul_(mean / below, -(lr / mean_share).view(shape))
        return finite

    def states(self) -> list[Tensor]:
        """The tensors that have a row for each head."""
        return [*self._means.values(), *self._squares.values()]

    def slow(self, rows: Int64[Tensor, " slowed"]) -> None:
        """Go on with a tenth of the learning rate in some heads, and without their momentum."""
        self._lr[rows] /= 10
        for mean in self._means.values():
            mean[rows] = 0

    def keep(self, rows: Int64[Tensor, " kept"]) -> None:
        """Go on with some of the heads only."""
        self._means = {name: value[rows] for name, value in self._means.items()}
        self._squares = {name: value[rows] for name, value in self._squares.items()}
        self._lr, self._decay = self._lr[rows], self._decay[rows]
