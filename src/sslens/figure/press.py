"""Figures for paper, drawn by a second process while this one goes on: matplotlib takes seconds for
a figure of many panels.

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
    """Draws figures one after another in a process of its own; where none can be had, in a thread
    of this one.

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
        """As `figure.save`, later: what that raises is raised when the press closes."""
        self._jobs.append(self._thread.submit(self._print, figure, paths))

    def wait(self) -> None:
        """Until all that is asked for is written; raises the first error."""
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
        """Wait for what is asked for, or after an error for what is begun."""
        self._thread.shutdown(cancel_futures=error is not None)
        if self._helper is not None:
            self._helper.communicate()
        if error is None:
            self.wait()

    def _print(self, figure: Figure, paths: tuple[Path, ...]) -> None:
        try:
            said = self._told(figure, paths)
        except (OSError, EOFError):  # it could not be started, or was killed
            save(figure, *paths)
        else:
            if said is not None:
                raise said

    def _told(self, figure: Figure, paths: tuple[Path, ...]) -> Exception | None:
        """What the helper says of a figure: nothing when it is drawn, else its error."""
        if self._helper is None:
            command = [sys.executable, "-c", f"from {__name__} import _serve; _serve()"]
            self._helper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        asked, answers = self._helper.stdin, self._helper.stdout
        assert asked is not None
        assert answers is not None
        pickle.dump((figure, paths), asked)
        asked.flush()
        said: Exception | None = pickle.load(answers)
        return said


def _serve() -> None:
    """Draw what comes on standard input until it ends; an interrupt is its parent's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = sys.stdout.buffer
    sys.stdout = sys.stderr  # whatever a library prints is no answer
    while True:
        try:
            figure, paths = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        said: Exception | None = None
        try:
            save(figure, *paths)
        except InputError as error:
            said = InputError(str(error))
        except Exception as error:
            said = RuntimeError(f"{figure.name} was not drawn: {type(error).__name__}: {error}")
        pickle.dump(said, answers)
        answers.flush()
