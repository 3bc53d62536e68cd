"""The processes of a run, one or as many as torchrun started, and their device and precision."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from sslens.errors import InputError, nearest

PRECISIONS = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Processes:
    """This process among the processes of the run; only rank 0 writes files and prints."""

    rank: int
    size: int
    device: str

    @property
    def first(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0


def best_device(asked: str) -> str:
    """The device that was asked for; "auto" is a CUDA GPU where there is one, and else the CPU.

    Raises:
        InputError: torch knows no such device, or this machine has none.

    >>> best_device("cpu")
    'cpu'
    """
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(asked)
    except RuntimeError as error:
        raise InputError(
            f'There is no device "{asked}": give auto, cpu, cuda or cuda:NUMBER.'
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f'There is no device "{asked}": torch sees {torch.cuda.device_count()} CUDA GPUs here.'
        )
    return asked


def best_precision(asked: str, device: str) -> str:
    """The precision that was asked for; "auto" is bfloat16 on a GPU and on a CPU that computes
    faster with it, and float32 elsewhere.

    A CPU computes faster with bfloat16 if it has matrix instructions for bfloat16 (AMX), or if it
    is one of AMD's with AVX-512 instructions for bfloat16 (Zen 4 and later: a small ViT trained 2.3
    times as fast). Intel's CPUs with AVX-512 instructions but without AMX had half the speed of
    float32 (LOG.md, 2026-11-21).

    Raises:
        InputError: the precision is none of auto, float32, bfloat16 and float16.

    >>> best_precision("float32", "cpu")
    'float32'
    """
    if asked not in PRECISIONS:
        raise InputError(f'There is no precision "{asked}": {nearest(asked, PRECISIONS)}')
    if asked != "auto":
        return asked
    if torch.device(device).type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if _fast_bfloat16(torch.cpu.get_capabilities()) else "float32"


def _fast_bfloat16(cpu: Mapping[str, Any]) -> bool:
    """Whether a CPU multiplies faster in bfloat16 than in float32, by the capabilities that torch
    reports.

    >>> amx, intel = {"amx_bf16": True}, {"avx512_bf16": True}
    >>> [_fast_bfloat16(cpu) for cpu in (amx, intel, intel | {"sse4a": True})]
    [True, False, True]
    """
    amd = cpu.get("sse4a", False)  # instructions that only AMD's CPUs have
    return bool(cpu.get("amx_bf16", False) or (amd and cpu.get("avx512_bf16", False)))


@contextlib.contextmanager
def processes(device: str) -> Iterator[Processes]:
    """Join the processes that torchrun started (gloo on CPUs, NCCL on GPUs); without torchrun this
    process is the only one. Processes that have joined already stay joined when the block ends."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Processes(0, 1, device)
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if torch.device(device).type == "cuda":
        device = best_device(f"cuda:{local}")
        torch.cuda.set_device(local)
    if dist.is_initialized():
        yield Processes(dist.get_rank(), size, device)
        return
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Processes(dist.get_rank(), size, device)
    finally:
        dist.destroy_process_group()
