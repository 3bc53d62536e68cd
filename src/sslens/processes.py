"""The processes of a run, one or as many as torchrun started, and their device and precision."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sslens.errors import InputError, nearest

#: torch's settings of oneDNN; its types lack the newer ones
ONEDNN: Any = torch.backends.mkldnn
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
def fast_products() -> Iterator[bool]:
    """Let oneDNN multiply float32 matrices while the block runs, where torch's other library leaves
    half of the processor idle; float32 stays float32.

    On AMD's Zen 5 MKL uses registers of half the width: the linear layers of a ViT took 1.6 to 2.2
    times as long as with oneDNN (LOG.md, 2026-11-30). torch has no name for this choice but the
    permission to round to bfloat16, of which oneDNN makes use only on processors with matrix
    instructions for it. So it is given where these are missing, and only if a product shows that
    nothing is rounded; the largest errors are 1.4 to 3 times MKL's. What a user has set stays.

    >>> x = torch.full((64, 256), 1 + 2**-12)  # 1 in bfloat16
    >>> with fast_products():
    ...     round(float((x @ x.mT)[0, 0]), 3)  # 256 · (1 + 2⁻¹²)²
    256.125
    """
    matmul = ONEDNN.matmul
    given = matmul.fp32_precision
    taken = given == "none" and gains_by_onednn()
    try:
        if taken:
            matmul.fp32_precision = "bf16"
        yield taken
    finally:
        if taken:
            matmul.fp32_precision = given


@functools.cache
def gains_by_onednn() -> bool:
    """Whether oneDNN multiplies float32 faster here than MKL does, and without rounding it."""
    if not ONEDNN.is_available() or not _is_zen5(torch.cpu.get_capabilities()):
        return False
    matmul = ONEDNN.matmul
    given, matmul.fp32_precision = matmul.fp32_precision, "bf16"
    try:
        return _is_exact(torch.mm)
    finally:
        matmul.fp32_precision = given


def _is_exact(multiply: Callable[[Tensor, Tensor], Tensor]) -> bool:
    """Whether a product of float32 matrices is computed in float32.

    >>> _is_exact(torch.mm), _is_exact(lambda a, b: torch.mm(a.bfloat16(), b.bfloat16()).float())
    (True, False)
    """
    x = torch.full((64, 256), 1 + 2**-12)  # 1 in bfloat16
    share = multiply(x, x.mT) / (256 * (1 + 2**-12) ** 2)
    return bool((share - 1).abs().max() < 1e-5)  # rounded it is 5e-4


def _is_zen5(cpu: Mapping[str, Any]) -> bool:
    """Whether a CPU is AMD's Zen 5 or a later one, by the capabilities that torch reports.

    >>> amd = {"sse4a": True, "avx512_f": True}  # Zen 4 too
    >>> [_is_zen5(cpu) for cpu in ({}, amd, amd | {"avx512_vp2intersect": True})]
    [False, False, True]
    """
    return all(cpu.get(name, False) for name in ("sse4a", "avx512_f", "avx512_vp2intersect"))


@contextlib.contextmanager
def processes(device: str) -> Iterator[Processes]:
    """Join the processes that torchrun started (gloo on CPUs, NCCL on GPUs); without torchrun this
    process is the only one. Processes that have joined already stay joined when the block ends;
    meanwhile products are as fast as `fast_products` makes them."""
    with fast_products(), _join(device) as joined:
        yield joined


@contextlib.contextmanager
def _join(device: str) -> Iterator[Processes]:
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
