"""The sharing of a pass by several processes, as torchrun starts them; in one process each function
returns its argument."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch.distributed as dist
from torch import Tensor


def this_process() -> tuple[int, int]:
    """Return the number of this process, and the number of processes."""
    return (
        (dist.get_rank(), dist.get_world_size())
        if dist.is_available() and dist.is_initialized()
        else (0, 1)
    )


def wait_for_all() -> None:
    """Wait until all processes have called this."""
    if this_process()[1] > 1:
        dist.barrier()


def gather(value: Any) -> list[Any]:
    """Return the values of all processes, in order of rank, in every process."""
    count = this_process()[1]
    if count == 1:
        return [value]
    values: list[Any] = [None] * count
    dist.all_gather_object(values, value)
    return values


def choose_share(numbers: Sequence[int], together: int) -> list[int]:
    """Return those of the minibatches that this process computes.

    Groups of `together` consecutive minibatches go to one process, and the groups go to the
    processes in turn.

    >>> choose_share([0, 1, 2, 3], together=2)
    [0, 1, 2, 3]
    """
    rank, size = this_process()
    groups = {group: place for place, group in enumerate(sorted({n // together for n in numbers}))}
    return [number for number in numbers if groups[number // together] % size == rank]


def sum_over_processes(part: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the sums over processes of tensors that are zero where a process saw nothing."""
    parts = gather(dict(part))
    if len(parts) == 1:
        return dict(part)
    names = dict.fromkeys(name for tensors in parts for name in tensors)
    return {name: sum(tensors[name] for tensors in parts if name in tensors) for name in names}
