"""A pass that several processes share, as torchrun starts them; alone, each function is its
identity."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch.distributed as dist
from torch import Tensor


def this_process() -> tuple[int, int]:
    """This process's number, and how many there are."""
    return (
        (dist.get_rank(), dist.get_world_size())
        if dist.is_available() and dist.is_initialized()
        else (0, 1)
    )


def wait_for_all() -> None:
    """Wait until all processes have come here."""
    if this_process()[1] > 1:
        dist.barrier()


def gather(value: Any) -> list[Any]:
    """The value of each process, in all of them."""
    count = this_process()[1]
    if count == 1:
        return [value]
    values: list[Any] = [None] * count
    dist.all_gather_object(values, value)
    return values


def share(numbers: Sequence[int], together: int) -> list[int]:
    """The minibatches of these numbers that this process takes, of which so many consecutive ones
    stay with one process.

    >>> share([0, 1, 2, 3], together=2)
    [0, 1, 2, 3]
    """
    rank, size = this_process()
    groups = {group: place for place, group in enumerate(sorted({n // together for n in numbers}))}
    return [number for number in numbers if groups[number // together] % size == rank]


def sum_over_processes(part: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The sum over processes of tensors that are zero where a process saw nothing."""
    parts = gather(dict(part))
    if len(parts) == 1:
        return dict(part)
    names = dict.fromkeys(name for tensors in parts for name in tensors)
    return {name: sum(tensors[name] for tensors in parts if name in tensors) for name in names}
