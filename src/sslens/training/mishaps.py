"""Failures of the machine while a run goes on: memory, data workers, other processes."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
import torch.distributed as dist

from sslens.errors import Mishap
from sslens.processes import Processes
from sslens.training.run_files import STATE
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
class Circumstances:
    """The facts about a run on which the advice after a failure depends.

    Attributes:
        out: the run's folder.
        training: the length of the run, and on what it runs.
        where: the processes of the run, with the number of this one.
        precision: of the run's arithmetic, "float32" or "bfloat16".
        divisible: whether the run's steps can be computed in parts.
        exact: whether steps in parts are the same but for rounding; a detector's are not, whose
            losses are means over the regions of a part.
    """

    out: Path
    training: Training
    where: Processes
    precision: str
    divisible: bool
    exact: bool = True

    @property
    def resumable(self) -> bool:
        """Whether the folder has a state file from which the run can go on."""
        return (self.out / STATE).exists()

    @property
    def state(self) -> str:
        """A sentence, without its full stop, that says whether a state was kept."""
        return f"The last state is kept in {self.out}" if self.resumable else "Nothing was kept yet"

    @property
    def restart(self) -> str:
        """The first words of the advice: "go on with" or "start again with"."""
        return "go on with" if self.resumable else "start again with"


def explain(error: Exception, run: Circumstances) -> Mishap | None:
    """Explain an error that the machine caused, and say what to do; None for any other error.

    >>> training, here = Training(batch_size=64), Processes(0, 1, "cpu")
    >>> run = Circumstances(Path("nowhere"), training, here, "bfloat16", divisible=True)
    >>> error = RuntimeError("can't allocate memory: you tried to allocate 2048 bytes.")
    >>> print(explain(error, run))
    Memory ran out on cpu (2048 bytes were asked for). Nothing was kept yet: start again with
    accumulate=2 or recompute=True, which leave the numbers as they are, or with a smaller
    batch_size.
    >>> explain(RuntimeError("mat1 and mat2 shapes cannot be multiplied"), run) is None
    True
    """
    text = str(error)
    if any(sign in text for sign in _WORKER):
        return _lost_worker(text, run)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        sign in text for sign in _NO_MEMORY
    ):
        return _no_memory(text, run)
    if run.where.size > 1 and (
        isinstance(error, dist.DistError) or any(sign in text for sign in _CONNECTION)
    ):
        return _lost_process(text, run)
    return None


def _lost_worker(text: str, run: Circumstances) -> Mishap:
    resume = " and {resume=True}" if run.resumable else ""
    return Mishap(
        "A data worker was lost, as when memory or shared memory (/dev/shm) runs out and the"
        f" system ends a process ({_first_line(text)}). {run.state}",
        mend=f"{run.restart} fewer {{workers}} than {run.training.workers} (0 decodes in the"
        f" training process){resume}",
    )


def _lost_process(text: str, run: Circumstances) -> Mishap:
    resume = " and {resume=True}" if run.resumable else ""
    return Mishap(
        f"Process {run.where.rank} of {run.where.size} lost its connection to another, which"
        f" was ended or hangs; what that one said comes first ({_first_line(text)}). {run.state}",
        mend=f"{run.restart} the same command{resume}",
    )


def _no_memory(text: str, run: Circumstances) -> Mishap:
    """What takes less memory: first what leaves the numbers as they are."""
    size = _SIZE.search(text)
    asked = f" ({size[1]} were asked for)" if size else ""
    what = f"Memory ran out on {run.where.device}{asked}."
    parts = _more_parts(run)
    in_parts = [f"{{accumulate={parts}}}"] if parts else []
    same = [
        *(in_parts if run.exact else []),
        *([] if run.training.recompute else ["{recompute=True}"]),
    ]
    other = [
        *([] if run.exact else in_parts),
        "a smaller {batch_size}",
        *([] if run.precision == "bfloat16" else ["{precision=bfloat16}"]),
    ]
    if not same and run.resumable:
        return Mishap(what, mend=f"start again in another {{out}} with {' or '.join(other)}")
    if not same:
        return Mishap(f"{what} {run.state}", mend=f"start again with {' or '.join(other)}")
    resume = "{resume=True} and " if run.resumable else ""
    leave = "leave" if len(same) > 1 or run.exact else "leaves"
    elsewhere = "start again in another {out} " if run.resumable else ""
    return Mishap(
        f"{what} {run.state}",
        mend=f"{run.restart} {resume}{' or '.join(same)}, which {leave} the numbers as they are, or"
        f" {elsewhere}with {' or '.join(other)}",
    )


def _more_parts(run: Circumstances) -> int | None:
    """The next number of parts that a process' share of a step can be computed in."""
    if not run.divisible:
        return None
    share = run.training.batch_size // run.where.size
    numbers = range(run.training.accumulate + 1, share + 1)
    return next((number for number in numbers if share % number == 0), None)


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines or [""])[0][:200].rstrip(".: ")
