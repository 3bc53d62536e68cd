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
        means, squares = self.moments
        step = alive.new_tensor(self._steps)
        rates = (self.lr / self.slower * alive).tolist()
        for row, (rate, decay) in enumerate(zip(rates, self.decay.tolist(), strict=True)):
            for own_decay, names in _group_by_decay(parameters, decay).items():
                # One pass over memory: a third of the time of operations on whole tensors.
                torch.ops.aten._fused_adamw_(
                    *(
                        [values[name][row] for name in names]
                        for values in (parameters, gradients, means, squares)
                    ),
                    [],
                    [step] * len(names),
                    lr=rate,
                    beta1=BETAS[0],
                    beta2=BETAS[1],
                    weight_decay=own_decay,
                    eps=EPS,
                    amsgrad=False,
                    maximize=False,
                )
        finite = torch.ones_like(alive, dtype=torch.bool)
        for square in squares.values():
            finite &= torch.isfinite(square.flatten(1).sum(1))
        return finite


def _group_by_decay(parameters: Mapping[str, Tensor], decay: float) -> dict[float, list[str]]:
    """The names of the parameters by their weight decay: that of their head, or none of vectors."""
    groups: dict[float, list[str]] = {}
    for name, value in parameters.items():  # the first axis is the head
        groups.setdefault(decay if value.ndim > 2 else 0.0, []).append(name)
    return groups
