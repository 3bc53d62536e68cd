"""Signals that ask a run to stop, so that it can finish its step and keep its state first."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any, final

from sslens.errors import Interrupted

#: what is written when a signal comes
TOLD = "stopping after this step, to keep the state; Ctrl-C again stops at once, without keeping it"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


@final
@dataclass
class Stop:
    """The signals that a run has received, as signal numbers; 0 for none.

    Attributes:
        asked: the first signal that this process received.
        kept: the signal after which the run kept its state. The run sets it; with several
            processes, another process may have received this signal first.
    """

    asked: int = 0
    kept: int = 0


@contextlib.contextmanager
def note_signals(*, tell: bool = False) -> Iterator[Stop]:
    """Within the block, only note Ctrl-C, SIGTERM, SIGUSR1 and SIGUSR2; a second Ctrl-C stops at
    once.

    Args:
        tell: whether a line is written to standard error when the first signal comes: the step and
            the saving of the state may take long.

    At the end of the block the earlier handlers are put back. If the run kept its state after a
    signal other than Ctrl-C, the earlier handler of that signal is called then: submitit's handler
    puts a job of SLURM back into the queue.

    Yields:
        The signals as they are noted.

    Raises:
        Interrupted: the signal came while code was compiled, and took the compiler with it.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(number: int, _frame: FrameType | None) -> None:
        if stop.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        if tell and not stop.asked:
            with contextlib.suppress(OSError):  # where standard error is closed
                os.write(2, f"\n{TOLD}\n".encode())  # print() may be in use: it is not reentrant
        # the first counts: SLURM's SIGTERM comes after the signal that a job has asked for
        stop.asked = stop.asked or number

    before: dict[int, Any] = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield stop
    except Exception as error:
        if not stop.asked or not _of_compiler(error):
            raise
        raise Interrupted(
            "Stopped while code was compiled; what was kept before stays",
            mend="go on with {resume=True}",
        ) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if stop.kept != signal.SIGINT and callable(before.get(stop.kept)):
            before[stop.kept](stop.kept, None)


def _of_compiler(error: BaseException) -> bool:
    """Whether an error is torch's, of generating and compiling code."""
    return type(error).__module__.startswith(("torch._inductor", "torch._dynamo"))
