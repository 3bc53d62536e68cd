"""Pieces of work that are independent, one core each."""

import functools
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from threadpoolctl import ThreadpoolController

Room, Item, Found = TypeVar("Room"), TypeVar("Item"), TypeVar("Found")


def one_each(
    work: Callable[[Room, Item], Found],
    items: Iterable[Item],
    room: Callable[[], Room],
    threads: int | None = None,
) -> list[Found]:
    """What `work(room, item)` returns for each item, in order, on `threads` threads; as many as
    torch would use unless given.

    Within a piece torch and NumPy's BLAS use one thread: threads that share a small operation wait
    for one another, and those of two libraries for the cores. `room()` is what a thread keeps from
    item to item, such as memory to write into.

    >>> one_each(lambda room, n: float(room.fill_(n).sum()), [1, 2, 3], lambda: torch.empty(2))
    [2.0, 4.0, 6.0]
    """
    local = threading.local()

    def of(item: Item) -> Found:
        if not hasattr(local, "room"):
            local.room = room()
        return work(local.room, item)

    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with (
            _libraries().limit(limits=1, user_api="blas"),
            ThreadPoolExecutor(threads or usual, "core") as pool,
        ):
            return list(pool.map(of, items))
    finally:
        torch.set_num_threads(usual)


@functools.cache
def _libraries() -> ThreadpoolController:
    """Those of this process, which takes milliseconds to find out."""
    return ThreadpoolController()
