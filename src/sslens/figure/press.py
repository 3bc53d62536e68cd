"""Figures for paper, drawn by a second process while this process goes on, because matplotlib takes
seconds for a figure of many panels.

with Press() as press:
    press.save(figure, Path("knn.svg"), Path("knn.pdf"))  # returns at once
    ...
# here all are written, or the first error was raised
"""

import pickle
import signal
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import final

from sslens.errors import InputError
from sslens.figure.panels import Figure
from sslens.figure.paper import save


@final
class Press:
    """Draws figures one after another in a process of its own, or in a thread of this process if
    none can be started.

    >>> import tempfile
    >>> from sslens.figure import Lines
    >>> figure = Figure("knn", ((Lines("", "depth", "accuracy", (), None),),))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with Press() as press:
    ...         press.save(figure, Path(folder) / "knn.svg")
    ...     (Path(folder) / "knn.svg").exists()
    True
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "press")
        self._jobs: list[Future[None]] = []
        self._helper: subprocess.Popen[bytes] | None = None

    def save(self, figure: Figure, *paths: Path) -> None:
        """Write a figure as `sslens.figure.save` does, but later; errors are raised when the press
        closes."""
        self._jobs.append(self._thread.submit(self._print, figure, paths))

    def wait(self) -> None:
        """Wait until all figures are written; raise the first error."""
        for job in self._jobs:
            job.result()

    def __enter__(self) -> "Press":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for all figures, or after an error for the figure that is being drawn."""
        self._thread.shutdown(cancel_futures=error is not None)
        if self._helper is not None:
            self._helper.communicate()
        if error is None:
            self.wait()

    def _print(self, figure: Figure, paths: tuple[Path, ...]) -> None:
        try:
            error = self._ask_helper(figure, paths)
        except (OSError, EOFError):  # the helper could not be started, or was killed
            save(figure, *paths)
        else:
            if error is not None:
                raise error

    def _ask_helper(self, figure: Figure, paths: tuple[Path, ...]) -> Exception | None:
        """Let the helper draw a figure; returns the helper's error, or None when it is drawn."""
        if self._helper is None:
            command = [sys.executable, "-c", f"from {__name__} import _serve; _serve()"]
            self._helper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        questions, answers = self._helper.stdin, self._helper.stdout
        assert questions is not None
        assert answers is not None
        pickle.dump((figure, paths), questions)
        questions.flush()
        error: Exception | None = pickle.load(answers)
        return error


def _serve() -> None:
    """Draw the figures that come on standard input until it ends; interrupts are left to the parent
    process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = sys.stdout.buffer
    sys.stdout = sys.stderr  # so that nothing that a library prints is taken for an answer
    while True:
        try:
            figure, paths = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        answer: Exception | None = None
        try:
            save(figure, *paths)
        except InputError as error:
            answer = InputError(error.message, error.mend)
        except Exception as error:
            answer = RuntimeError(f"{figure.name} was not drawn: {type(error).__name__}: {error}")
        pickle.dump(answer, answers)
        answers.flush()
