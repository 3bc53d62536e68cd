"""One pass of a network in which every module is watched: what ran, in which order, from which
tensor to which."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor, nn

from sslens.models.outputs import Part, find_part, take_part


@final
@dataclass(frozen=True, eq=False)
class Call:
    """The first run of a module.

    Attributes:
        name: the module's path in the network.
        module: the module.
        order: the number of runs of modules that ended before.
        given: the first tensor that the module was given; None without one.
        output: the tensor of features that it put out; None without one.
        part: where this tensor is in its output.
        changes: how often this tensor had been changed in place when the module ended.
        times: how often the module ran.
    """

    name: str
    module: nn.Module
    order: int
    given: Tensor | None
    output: Tensor | None
    part: Part
    changes: int
    times: int = 1

    @property
    def is_readable(self) -> bool:
        """Whether the module ran once and put out a tensor with a row for each image."""
        return self.times == 1 and self.output is not None

    @property
    def shape(self) -> tuple[int, ...]:
        """The output's shape for one image."""
        return () if self.output is None else tuple(self.output.shape[1:])


def trace(network: nn.Module, images: Tensor) -> dict[str, Call]:
    """Run a network on images, and return the first run of each module by its name, in the order in
    which the runs end.

    Tensors are kept until the result is let go, so that two runs have read the same tensor only if
    it is the same object.

    Raises:
        Exception: whatever the network raises.

    >>> network = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    >>> [(call.name, call.shape) for call in trace(network, torch.zeros(2, 3)).values()]
    [('0', (4,)), ('1', (4,)), ('', (4,))]
    """
    calls: dict[str, Call] = {}
    times: dict[str, int] = {}
    names = {module: name for name, module in network.named_modules()}
    modes = {module: module.training for module in names}
    handles = []

    def watch(module: nn.Module, args: Any, kwargs: Mapping[str, Any], output: Any) -> None:
        name = names[module]
        times[name] = times.get(name, 0) + 1
        if name in calls:
            return
        given = next(
            (value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None
        )
        part = find_part(output, len(images))
        tensor = None if part is None else take_part(output, part)
        changes = 0 if tensor is None else tensor._version
        calls[name] = Call(name, module, len(calls), given, tensor, part or (), changes)

    try:
        for module in names:
            handles.append(module.register_forward_hook(watch, with_kwargs=True))
        network.eval()
        with torch.no_grad():  # in inference mode tensors do not count their changes
            run(network, images)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    return {name: replace(call, times=times[name]) for name, call in calls.items()}


def run(network: nn.Module, images: Tensor) -> Any:
    """Run a network up to its features: `forward_features` where it has one, without its head."""
    forward = getattr(network, "forward_features", None)
    return network(images) if forward is None else forward(images)


def trace_shapes(network: nn.Module, side: int) -> dict[str, Call]:
    """Trace a network on two images of a side in pixels without computing anything; where a network
    cannot be run that way, it is computed.

    Raises:
        Exception: whatever the network raises when it is computed.

    >>> calls = trace_shapes(nn.Conv2d(3, 8, 2, stride=2), side=6)
    >>> calls[""].shape, calls[""].output.device.type
    ((8, 3, 3), 'meta')
    """
    place = next(iter((*network.parameters(), *network.buffers())), torch.empty(0)).device
    try:
        return trace(copy_empty(network), torch.zeros(2, 3, side, side, device="meta"))
    except Exception:  # an operation that needs values, or a tensor that is no weight
        if place.type == "meta":
            raise
        return trace(network, torch.zeros(2, 3, side, side, device=place))


def copy_empty(network: nn.Module) -> nn.Module:
    """Copy a network with weights that have shapes and no values.

    A copy, and not `torch.func.functional_call`, which leaves such weights in a network with
    modules that stand in two places, as CoaT has (torch 2.15).

    >>> shared = nn.Linear(2, 2)
    >>> network = nn.ModuleList([shared, nn.Sequential(shared)])
    >>> empty = copy_empty(network)
    >>> empty[0].weight.device.type, empty[0] is empty[1][0], shared.weight.device.type
    ('meta', True, 'cpu')
    """
    weights: dict[int, Any] = {
        id(value): nn.Parameter(value.detach().to("meta"), requires_grad=False)
        for value in network.parameters()
    }
    weights |= {id(value): value.to("meta") for value in network.buffers()}
    return copy.deepcopy(network, weights)
