"""What befalls a run through no setting's fault: memory that runs out, a data worker or a process
that is lost."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
import torch.distributed as dist

from sslens.errors import Mishap
from sslens.processes import Processes
from sslens.training.folder import STATE
from sslens.training.schedule import Training

_SIZE = re.compile(r"[Tt]ried to allocate ([\d.]+ (?:bytes|[KMGT]iB))")
_NO_MEMORY = ("can't allocate memory", "out of memory", "not enough memory")
_WORKER = ("DataLoader worker (pid", "shared memory", "torch_shm")
_CONNECTION = (
    "gloo",
    "NCCL",
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Timed out waiting",
)


@final
@dataclass(frozen=True)
class Run:
    """What advice depends on.

    Attributes:
        out: the run's folder.
        precision: of its arithmetic.
        divisible: whether its steps can be computed in parts.
    """

    out: Path
    training: Training
    where: Processes
    precision: str
    divisible: bool


def mishap(error: Exception, run: Run) -> Mishap | None:
    """What an error means in which nobody was at fault, and what to do, or None for an error that
    is something else.

    >>> run = Run(Path("nowhere"), Training(batch_size=64), Processes(0, 1, "cpu"), "bfloat16", divisible=True)
    >>> print(mishap(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 2048 bytes."), run))
    Memory ran out on cpu (2048 bytes were asked for). Nothing was kept yet: start again with --accumulate 2 or --recompute, which
    leave the numbers as they are, or with a smaller --batch-size.
    >>> mishap(RuntimeError("mat1 and mat2 shapes cannot be multiplied"), run) is None
    True
    """
    text = str(error)
    if any(sign in text for sign in _WORKER):
        fewer = f"fewer --workers than {run.training.workers} (0 decodes in the training process)"
        return Mishap(
            "A data worker was lost, as when memory or shared memory (/dev/shm) runs out and the"
            f" system ends a process ({_first(text)}). {_start(run)} {fewer}{_same(run)}."
        )
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        sign in text for sign in _NO_MEMORY
    ):
        size = _SIZE.search(text)
        asked = f" ({size[1]} were asked for)" if size else ""
        return Mishap(f"Memory ran out on {run.where.device}{asked}. {_memory(run)}.")
    if run.where.size > 1 and (
        isinstance(error, dist.DistError) or any(sign in text for sign in _CONNECTION)
    ):
        return Mishap(
            f"Process {run.where.rank} of {run.where.size} lost its connection to another, which"
            f" was ended or hangs; what that one said comes first ({_first(text)}). {_start(run)}"
            f" the same command{_same(run)}."
        )
    return None


def _kept(run: Run) -> bool:
    return (run.out / STATE).exists()


def _start(run: Run) -> str:
    return (
        f"The last state is kept in {run.out}: go on with"
        if _kept(run)
        else "Nothing was kept yet: start again with"
    )


def _same(run: Run) -> str:
    return " and --resume" if _kept(run) else ""


def _memory(run: Run) -> str:
    t = run.training
    share = t.batch_size // run.where.size
    parts = (
        next((n for n in range(t.accumulate + 1, share + 1) if share % n == 0), None)
        if run.divisible
        else None
    )
    free = [
        *([f"--accumulate {parts}"] if parts else []),
        *([] if t.recompute else ["--recompute"]),
    ]
    other = [
        "a smaller --batch-size",
        *([] if run.precision == "bfloat16" else ["--precision bfloat16"]),
    ]
    if not free:
        return (
            f"{'Start again in another --out' if _kept(run) else _start(run).removesuffix(' with')}"
            f" with {' or '.join(other)}"
        )
    resume, elsewhere = (
        ("--resume and ", "start again in another --out ") if _kept(run) else ("", "")
    )
    same = f"{_start(run)} {resume}{' or '.join(free)}, which leave the numbers as they are"
    return f"{same}, or {elsewhere}with {' or '.join(other)}"


def _first(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines or [""])[0][:200].rstrip(".: ")
