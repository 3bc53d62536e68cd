"""Processes that run a function of a test: alone with an environment, or joined as torchrun joins
them."""

import multiprocessing
import os
import socket
from collections.abc import Callable, Sequence

import torch


def forked(
    function: Callable[[], object], environment: Sequence[dict[str, str]] = ({},)
) -> list[int]:
    """Exit codes of processes that run the function, each with its environment; a signal's number
    is negative."""
    context = multiprocessing.get_context("fork")

    def body(variables: dict[str, str]) -> None:
        torch.set_num_threads(1)
        os.environ.update(variables)
        function()

    running = [context.Process(target=body, args=(each,)) for each in environment]
    for process in running:
        process.start()
    for process in running:
        process.join(120)
    return [-1000 if process.exitcode is None else process.exitcode for process in running]


def free_port() -> str:
    """A port on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def together(function: Callable[[], object], size: int = 2) -> None:
    """Run the function in several processes that join with gloo, as under torchrun; all must end
    well."""
    base = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": str(size)}
    codes = forked(
        function, [base | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]
    )
    assert codes == [0] * size
