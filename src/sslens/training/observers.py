"""Observers: objects that measure a training while it goes on, and do not change it.

After each step the loop asks an observer whether it is `due`; if so, it calls `look`, and writes
the numbers that this returns into the log. The encoder watch (`sslens.training.watch`), the path of
the weights and the evaluation of a task are observers; the loop knows no more of them than this
file says.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, final, runtime_checkable

import torch
from torch import Tensor, nn

from sslens.data.images import ImageSet
from sslens.errors import InputError
from sslens.methods import Method
from sslens.methods.job import TrainingJob
from sslens.own_files import OwnFiles
from sslens.paths.tracker import PathTracker
from sslens.processes import Processes
from sslens.tasks import TaskEvaluation
from sslens.training.kept import LogLine
from sslens.training.run_files import BEST, PATH
from sslens.training.schedule import Schedule, Training


@final
@dataclass(frozen=True)
class RunningTraining:
    """A training that is under way, as observers see it.

    Attributes:
        job: what is trained.
        images: what it is trained on.
        out: the run's folder.
        training: the length of the run, and on what it runs.
        schedule: the steps of the run.
        where: the processes of the run, with the number of this one.
        precision: of the arithmetic, "float32" or "bfloat16".
        method: the method, with its weights as they are now.
        optimizer: the optimiser of these weights.
        start: the steps that are done when the run begins or is resumed.
        lines: the lines that the log already has then.
        keep: writes a file that `sslens.load` reads, in the first process only; called with the
            number of steps done, the file's name and the numbers for the file's header.
    """

    job: TrainingJob
    images: ImageSet
    out: Path
    training: Training
    schedule: Schedule
    where: Processes
    precision: str
    method: Method
    optimizer: torch.optim.Optimizer
    start: int
    lines: tuple[LogLine, ...]
    keep: Callable[[int, str, Mapping[str, float]], None]


@final
@dataclass(frozen=True)
class Findings:
    """The result of one look of an observer.

    Attributes:
        numbers: the measured numbers by name; they get a line of their own in the log.
        shown: the names of those numbers that the progress bar shows too.
    """

    numbers: Mapping[str, float] = field(default_factory=dict)
    shown: tuple[str, ...] = ()


@runtime_checkable
class Observer(Protocol):
    """Measures a training from time to time. All processes ask and look after the same steps."""

    def due(self, step: int) -> bool:
        """Whether to look after a step, counted from 1."""
        ...

    def look(self, step: int) -> Findings:
        """Measure the training as it is after a step."""
        ...


@runtime_checkable
class StatefulObserver(Observer, Protocol):
    """An observer that needs tensors of its own in the state file to go on with a resumed run."""

    @property
    def key(self) -> str:
        """The prefix, before a slash, of the names of the observer's tensors in the state file."""
        ...

    def state(self) -> Mapping[str, Tensor]:
        """The tensors that the observer needs to go on."""
        ...

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from the tensors that `state` returned.

        The loop calls this before the first step of a resumed run, with an empty mapping where the
        state file has no tensors of this observer.
        """
        ...


#: makes an observer of a training once the weights are in place; None where this process needs no
#: observer
BeginObserver = Callable[[RunningTraining], Observer | None]


@final
class PathObserver:
    """Follows the weights after each step, and writes the table of their path after each epoch.

    In a fine-tuning it follows the `tuned` part of the method, otherwise the whole method.
    """

    def __init__(self, run: RunningTraining) -> None:
        self._out, self._epoch = run.out, run.schedule.epoch
        followed = getattr(run.method, "tuned", run.method)
        assert isinstance(followed, nn.Module)
        self._tracker = PathTracker(followed)
        # at once after the update: work that a GPU can do while the next minibatch is loaded
        run.optimizer.register_step_post_hook(self._tracker.step)

    @property
    def key(self) -> str:
        """The prefix of the tracker's tensors in the state file, "path"."""
        return "path"

    def due(self, step: int) -> bool:
        """True after the last step of each epoch."""
        return step % self._epoch == 0

    def look(self, step: int) -> Findings:
        """Write the table to `path.csv`; the log gets no numbers."""
        self._tracker.record(step // self._epoch)
        self._tracker.table().save(OwnFiles(self._out).before(self._out / PATH))
        return Findings()

    def state(self) -> Mapping[str, Tensor]:
        """The weights at the start and at the last two records, and the sums so far."""
        return self._tracker.state()

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from the tensors that `state` returned.

        Raises:
            InputError: the mapping is empty: the run did not measure its path from the first step.
        """
        if not state:
            raise InputError(
                f"The run in {self._out} was not followed from its first step",
                mend="go on with {path=False}",
            )
        self._tracker.load(state)


def follow_path(run: RunningTraining) -> PathObserver | None:
    """Begin to follow the weights in the first process; None in the others, which have the same
    weights."""
    return PathObserver(run) if run.where.first else None


@final
class BestKeeper:
    """Evaluates a task after each epoch, and keeps the best model as `best.safetensors`; of equally
    good ones it keeps the first.

    It reads the best value so far from the log, so that a resumed run keeps the same model as a run
    that was never stopped.
    """

    def __init__(self, run: RunningTraining, evaluation: TaskEvaluation) -> None:
        self._run, self._evaluation = run, evaluation
        self._metric = evaluation.metrics[0]
        self._best: float | None = None
        for line in run.lines:
            if self._metric.name in line:
                self._compare(float(line[self._metric.name]))

    def _compare(self, value: float) -> bool:
        """Whether a value is better than all before; it is then the best."""
        better = self._metric.is_better(value, self._best)
        if better:
            self._best = value
        return better

    def due(self, step: int) -> bool:
        """True after the last step of each epoch."""
        return step % self._run.schedule.epoch == 0

    def look(self, step: int) -> Findings:
        """Evaluate the method, in all processes together."""
        run, module = self._run, self._run.method
        assert isinstance(module, nn.Module)
        module.eval()
        numbers = self._evaluation.measure(
            run.method, run.where, run.precision, run.training.workers
        )
        module.train()
        if self._compare(numbers[self._metric.name]):
            run.keep(step, BEST, numbers)
        return Findings(numbers, shown=(self._metric.name,))
