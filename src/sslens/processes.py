"""The processes of a run: one, or those that torchrun started."""

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
    """This process among all: rank 0 alone writes files and speaks."""

    rank: int
    size: int
    device: str

    @property
    def first(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0


def best_device(asked: str) -> str:
    """The device that "auto" means: a CUDA GPU where there is one, else the CPU.

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
    """What "auto" means: bfloat16 on a GPU and on CPUs that are twice as fast with it, float32
    elsewhere.

    Such CPUs have matrix instructions for it (AMX), or are AMD's with AVX-512 ones (Zen 4 and
    later: a small ViT trained 2.3 times as fast); Intel's with AVX-512 ones alone had products of
    half the speed of float32 (LOG.md, 2026-11-21).

    Raises:
        InputError: it is none of auto, float32, bfloat16 and float16.

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
    """Whether a CPU multiplies faster in bfloat16 than in float32, by what torch says that it can.

    >>> [_fast_bfloat16(cpu) for cpu in ({"amx_bf16": True}, {"avx512_bf16": True}, {"avx512_bf16": True, "sse4a": True})]
    [True, False, True]
    """
    amd = cpu.get("sse4a", False)  # instructions that Intel never took over
    return bool(cpu.get("amx_bf16", False) or (amd and cpu.get("avx512_bf16", False)))


@contextlib.contextmanager
def processes(device: str) -> Iterator[Processes]:
    """Join the processes that torchrun started (gloo on CPUs, NCCL on GPUs), or be the only one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Processes(0, 1, device)
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if torch.device(device).type == "cuda":
        device = best_device(f"cuda:{local}")
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Processes(dist.get_rank(), size, device)
    finally:
        dist.destroy_process_group()
