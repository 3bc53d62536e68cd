"""Tables of a network that are not among its weights, such as indices of relative positions and
wavelengths: computed where the network was built without memory."""

import torch
from torch import nn


def fill_tables(network: nn.Module) -> nn.Module:
    """Compute in place the buffers that a state dict does not have, on the CPU; returns the
    network.

    >>> with torch.device("meta"):
    ...     from timm.layers import RotaryEmbeddingDinoV3
    ...     rope = RotaryEmbeddingDinoV3(8)
    >>> fill_tables(rope).periods.tolist()
    [1.0, 10.0]
    """
    for module in network.modules():
        lacking = [
            name
            for name in module._non_persistent_buffers_set
            if (buffer := module._buffers.get(name)) is not None and buffer.is_meta
        ]
        for name in lacking:
            empty = torch.empty_like(getattr(module, name), device="cpu")
            module.register_buffer(name, empty, persistent=False)
        if lacking:
            getattr(module, "init_non_persistent_buffers")()  # noqa: B009 (modules declare tensors only)
    return network
