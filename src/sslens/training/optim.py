"""Optimisers, and the scaling of the learning rate to the minibatch."""

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor, nn


def scale_lr(base_lr: float, batch_size: int) -> float:
    """Scale a learning rate to the minibatch: base_lr · batch / 256 (Goyal et al., 2017).

    Args:
        base_lr: the learning rate for 256 images.
        batch_size: all images of a step, over all processes.

    >>> scale_lr(1.5e-4, 4096)
    0.0024
    """
    return base_lr * batch_size / 256


def make_adamw(
    groups: list[dict[str, Any]], *, weight_decay: float, betas: tuple[float, float]
) -> torch.optim.AdamW:
    """Make an AdamW optimiser with decoupled weight decay; one fused kernel updates all parameters.

    A group that has its own `weight_decay` keeps it; `set_rates` changes the decay of the other
    groups.
    """
    groups = [{"own_weight_decay": "weight_decay" in group} | group for group in groups]
    return torch.optim.AdamW(groups, lr=0.0, weight_decay=weight_decay, betas=betas, fused=True)


def make_optimiser(groups: list[dict[str, Any]], settings: Any) -> torch.optim.Optimizer:
    """Make the optimiser that the settings name, or AdamW where they name none.

    SGD and LARS take betas[0] as their momentum. A group that has its own `weight_decay` keeps it;
    `set_rates` changes the decay of the other groups.
    """
    kind, decay = getattr(settings, "optimiser", "adamw"), settings.weight_decay
    if kind == "adamw":
        return make_adamw(groups, weight_decay=decay, betas=settings.betas)
    groups = [{"own_weight_decay": "weight_decay" in group} | group for group in groups]
    if kind == "lars":
        return LARS(groups, weight_decay=decay, momentum=settings.betas[0])
    return torch.optim.SGD(groups, lr=0.0, weight_decay=decay, momentum=settings.betas[0])


@final
class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rates (You et al., 2017, arXiv:1708.03888), as MoCo-v3's and DINO's
    released code has it.

    For a matrix w with gradient g, u = g + λw and u ← u · η|w| / |u| (unless |w| or |u| is 0), η =
    0.001; for a vector (biases, norms) u = g, without decay. Then m ← μm + u and w ← w − lr · m.

    >>> weight = nn.Parameter(torch.tensor([[3.0, 4.0]]))  # |w| = 5
    >>> weight.grad = torch.tensor([[0.0, 2.0]])
    >>> optimizer = LARS([{"params": [weight]}], weight_decay=0.0, momentum=0.9)
    >>> optimizer.param_groups[0]["lr"] = 10.0
    >>> optimizer.step()  # u = (0, 2) · 0.001 · 5 / 2, and 4 − 10 · 0.005 = 3.95
    >>> [round(value, 4) for value in weight[0].tolist()]
    [3.0, 3.95]
    """

    def __init__(
        self, groups: list[dict[str, Any]], *, weight_decay: float, momentum: float
    ) -> None:
        super().__init__(
            groups, {"lr": 0.0, "weight_decay": weight_decay, "momentum": momentum, "trust": 0.001}
        )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                update = parameter.grad
                if update is None:
                    continue
                if parameter.ndim > 1:
                    update = update.add(parameter, alpha=group["weight_decay"])
                    norms = parameter.norm(), update.norm()
                    trust = group["trust"] * norms[0] / norms[1]
                    update = update * torch.where((norms[0] > 0) & (norms[1] > 0), trust, 1.0)
                state = self.state[parameter]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                state["momentum_buffer"].mul_(group["momentum"]).add_(update)
                parameter.sub_(state["momentum_buffer"], alpha=group["lr"])


def name_state(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """Return an optimiser's state as tensors named PARAMETER/QUANTITY, so that it can be saved
    without a pickle."""
    state = {}
    for name, parameter in module.named_parameters():
        for quantity, value in optimizer.state.get(parameter, {}).items():
            state[f"{name}/{quantity}"] = value
    return state


def load_named_state(
    optimizer: torch.optim.Optimizer, module: nn.Module, state: Mapping[str, Tensor]
) -> None:
    """Load into an optimiser the state that `name_state` returned."""
    parameters = dict(module.named_parameters())
    for key, value in state.items():
        name, _, quantity = key.rpartition("/")
        parameter = parameters[name]
        # the fused kernel wants its count of steps on the parameter's device; a copy, since the
        # file may be mapped
        optimizer.state[parameter][quantity] = value.to(parameter.device, copy=True)


def set_rates(optimizer: torch.optim.Optimizer, lr: float, weight_decay: float) -> None:
    """Set the learning rate and the weight decay of all groups.

    A group's learning rate is `lr` times its `lr_scale`; a group that was made with its own weight
    decay keeps it.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)
        if not group["own_weight_decay"]:
            group["weight_decay"] = weight_decay
