"""AdamW, and the learning rate scaled to the batch."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sslens.errors import InputError


def check(settings: Any) -> None:
    """Refuse an objective's settings that the optimiser or the schedule cannot follow.

    Raises:
        InputError: base_lr is not above 0, weight_decay is below 0, a beta is outside [0, 1) or warmup outside [0, 1].
    """
    wanted = {
        "base_lr": (0 < settings.base_lr < math.inf, "above 0"),
        "weight_decay": (0 <= settings.weight_decay < math.inf, "0 or more"),
        "betas": (len(settings.betas) == 2 and all(0 <= beta < 1 for beta in settings.betas), "two from 0 to below 1"),
        "warmup": (0 <= settings.warmup <= 1, "a share of the training, 0 to 1"),
    }
    for name, (holds, expected) in wanted.items():
        if not holds:
            raise InputError(f"The setting {name} is {getattr(settings, name)}: expected {expected}.")


def scaled_lr(base_lr: float, batch_size: int) -> float:
    """The linear scaling rule: base_lr · batch / 256, the batch being all images of a step (Goyal et al., 2017).

    >>> scaled_lr(1.5e-4, 4096)
    0.0024
    """
    return base_lr * batch_size / 256


def adamw(groups: list[dict[str, Any]], *, weight_decay: float, betas: tuple[float, float]) -> torch.optim.AdamW:
    """AdamW with decoupled weight decay; one fused kernel updates all parameters.

    Groups that come with their own weight decay keep it; `set_rates` moves that of the others.
    """
    groups = [{"own_weight_decay": "weight_decay" in group} | group for group in groups]
    return torch.optim.AdamW(groups, lr=0.0, weight_decay=weight_decay, betas=betas, fused=True)


def named_state(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """An optimiser's state as tensors named PARAMETER/QUANTITY, by which it can be kept without a pickle."""
    state = {}
    for name, parameter in module.named_parameters():
        for quantity, value in optimizer.state.get(parameter, {}).items():
            state[f"{name}/{quantity}"] = value
    return state


def load_named_state(optimizer: torch.optim.Optimizer, module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put back what `named_state` gave."""
    parameters = dict(module.named_parameters())
    for key, value in state.items():
        name, _, quantity = key.rpartition("/")
        parameter = parameters[name]
        # the fused kernel wants its count of steps on the parameter's device; a copy, since the file may be mapped
        optimizer.state[parameter][quantity] = value.to(parameter.device, copy=True)


def set_rates(optimizer: torch.optim.Optimizer, lr: float, weight_decay: float) -> None:
    """Set the learning rate of all groups, and the weight decay of those that have none of their own."""
    for group in optimizer.param_groups:
        group["lr"] = lr
        if not group["own_weight_decay"]:
            group["weight_decay"] = weight_decay
