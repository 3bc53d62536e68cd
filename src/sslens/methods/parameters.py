"""What methods do to parameters besides the optimiser: groups by weight decay, moving averages,
clipping."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


def group_by_decay(parameters: Iterable[nn.Parameter]) -> list[dict[str, Any]]:
    """Group parameters for the optimiser: matrices and tokens are decayed, vectors (biases, norms)
    are not.

    >>> decayed, free = group_by_decay(nn.Linear(3, 2).parameters())
    >>> [tuple(p.shape) for p in decayed["params"]], [tuple(p.shape) for p in free["params"]]
    ([(2, 3)], [(2,)])
    >>> free["weight_decay"]
    0.0
    """
    trained = [p for p in parameters if p.requires_grad]
    vectors = [p for p in trained if p.ndim <= 1]
    return [
        {"params": [p for p in trained if p.ndim > 1]},
        {"params": vectors, "weight_decay": 0.0},
    ]


@torch.no_grad()
def follow(average: nn.Module, module: nn.Module, momentum: float) -> None:
    """Move an average of a module: θ_average ← mθ_average + (1 − m)θ, in place.

    Only parameters are averaged; each network keeps its own buffers.

    >>> average, module = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.constant_(average.weight, 1.0), nn.init.constant_(module.weight, 3.0)
    >>> follow(average, module, momentum=0.75)
    >>> average.weight.item()
    1.5
    """
    followers: list[Tensor] = list(average.parameters())
    leaders: list[Tensor] = list(module.parameters())
    if len(followers) != len(leaders):
        raise ValueError(f"{len(followers)} parameters cannot follow {len(leaders)}")
    torch._foreach_mul_(followers, momentum)
    torch._foreach_add_(followers, leaders, alpha=1 - momentum)


@torch.no_grad()
def clip_each(parameters: Iterable[nn.Parameter], norm: float) -> None:
    """Scale each gradient by itself, in place, so that its Euclidean norm is `norm` at most; 0
    changes nothing.

    DINO's released code clips in this way, by parameter: g ← g · min(1, norm / (|g| + 1e-6)).

    >>> weight = nn.Parameter(torch.zeros(2))
    >>> weight.grad = torch.tensor([3.0, 4.0])
    >>> clip_each([weight], 2.5)
    >>> [round(v, 4) for v in weight.grad.tolist()]
    [1.5, 2.0]
    """
    for parameter in parameters:
        if norm and parameter.grad is not None:
            parameter.grad.mul_((norm / (parameter.grad.norm() + 1e-6)).clamp(max=1.0))
