"""The cost of a training step, measured by taking it."""

import time
from typing import Any

import torch
from torch import nn

from sslens.methods import Batch
from sslens.training.optim import make_optimiser


def take_step(
    method: nn.Module, batch: Batch, settings: Any, precision: str = "float32"
) -> tuple[float, int]:
    """Take two training steps with a minibatch, and measure the second one.

    Args:
        method: a method on the device that its minibatch is on; its weights change.
        batch: the minibatch.
        settings: of the method, as the optimiser reads them.
        precision: "float32", or "bfloat16" (under autocast, as in a training).

    Returns:
        The seconds that the step took (on a CPU of processor time, which what else runs there does
            not change), and the bytes of what was kept for the backward pass, the method's trained
            weights left out.
    """
    groups: Any = method.parameter_groups
    optimizer = make_optimiser(groups(), settings)
    trained = [value for value in method.parameters() if value.requires_grad]
    weights = sum(value.numel() * value.element_size() for value in trained)
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    seconds = 0.0
    kind = next(iter(batch.values())).device.type
    clock = time.process_time if kind == "cpu" else time.monotonic
    for _ in range(2):
        kept.clear()
        began = clock()
        with (
            torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
            torch.autocast(kind, torch.bfloat16, enabled=precision == "bfloat16"),
        ):
            loss = method(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if loss.device.type == "cuda":
            torch.cuda.synchronize(loss.device)
        seconds = clock() - began
    return seconds, max(0, sum(kept.values()) - weights)
