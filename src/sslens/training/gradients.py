"""The gradient of a minibatch that is computed in parts."""

import contextlib
from collections.abc import Iterable
from contextlib import AbstractContextManager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sslens.methods import Batch, WholeBatch


def backward(
    model: nn.Module, parts: Iterable[Batch], count: int, autocast: AbstractContextManager[object]
) -> Tensor:
    """Add up the gradients of the mean of the parts' losses, and return this mean.

    Processes exchange their gradients in the last part only.
    """
    total = torch.zeros(())
    for number, part in enumerate(parts, start=1):
        alone = number < count and isinstance(model, DistributedDataParallel)
        with model.no_sync() if alone else contextlib.nullcontext(), autocast:  # type: ignore[operator]
            loss = model(part) / count
            loss.backward()
        total = total.to(loss.device) + loss.detach()
    return total


def backward_whole(
    method: WholeBatch, parts: Iterable[Batch], autocast: AbstractContextManager[object]
) -> Tensor:
    """Add up the gradients of the loss of all parts together, which contrasts the images of one
    part with the images of the others; returns that loss.

    Three passes (GradCache: Gao et al., 2021, arXiv:2101.06983): features of each part without a
    graph; the loss of all features, with its heads and their batch norms, and its gradient ∂L/∂f;
    each part's features again, now with a graph, through which ∂L/∂f goes back. Nothing in
    `features` mixes images or is random, so that the result is the gradient of the whole minibatch,
    up to rounding. It costs one more forward pass of the trunk. Gradients are averaged over
    processes.
    """
    parts = list(parts)
    with torch.no_grad(), autocast:
        shown = [method.features(part) for part in parts]
        targets = _join([method.targets(part) for part in parts])
    features = {name: value.requires_grad_() for name, value in _join(shown).items()}
    with autocast:
        loss = method.loss(features, targets)
        loss.backward()
    start = 0
    for part, length in zip(
        parts, [len(next(iter(tensors.values()))) for tensors in shown], strict=True
    ):
        with autocast:
            again = method.features(part)
        gradients = [features[name].grad[start : start + length] for name in again]  # type: ignore[index]
        torch.autograd.backward(list(again.values()), gradients)
        start += length
    assert isinstance(method, nn.Module)
    _average_gradients(method)
    return loss.detach()


def _join(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _average_gradients(module: nn.Module) -> None:
    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return
    for parameter in module.parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad /= dist.get_world_size()
