"""Observers: what looks at a training while it goes on, and leaves the training as it is.

An observer is asked after each step whether a look is `due`, and what it finds in a `look` stands
in the log. The encoder watch (`sslens.training.watch`), the path of the weights and the evaluation
of a task are observers; the loop knows no more of them than this file says.
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
from sslens.paths.tracker import PathTracker
from sslens.processes import Processes
from sslens.tasks import TaskEvaluation
from sslens.training.folder import LogLine
from sslens.training.schedule import Schedule, Training

#: the files of what did best on held-out images, and of the path
BEST, PATH = "best.safetensors", "path.csv"


@final
@dataclass(frozen=True)
class RunningTraining:
    """What an observer sees of a training.

    Attributes:
        job: what is trained.
        images: what it is trained on.
        out: the run's folder.
        training: how long, and on what.
        schedule: the steps of the run.
        where: the processes, of which this is one.
        precision: of the arithmetic, "float32" or "bfloat16".
        method: with the weights of now.
        optimizer: of these weights.
        lines: the log's until the step that the run begins with.
        keep: writes a file that `sslens.load` takes, in the first process; called with the steps
            done, the file's name and the numbers that its header shall have.
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
    lines: tuple[LogLine, ...]
    keep: Callable[[int, str, Mapping[str, float]], None]


@final
@dataclass(frozen=True)
class Findings:
    """What an observer found in a look.

    Attributes:
        numbers: for the log; a line of their own, where there are any.
        shown: those of them that the progress bar shows too.
    """

    numbers: Mapping[str, float] = field(default_factory=dict)
    shown: tuple[str, ...] = ()


@runtime_checkable
class Observer(Protocol):
    """Looks at a training. All processes ask and look in the same steps."""

    def due(self, step: int) -> bool:
        """Whether to look after a step, counted from 1."""
        ...

    def look(self, step: int) -> Findings:
        """Look at the training as it is after a step."""
        ...


@runtime_checkable
class StatefulObserver(Observer, Protocol):
    """An observer that cannot go on from the weights and the log alone."""

    @property
    def key(self) -> str:
        """What the names of its tensors begin with in the state file, before a slash."""
        ...

    def state(self) -> Mapping[str, Tensor]:
        """All that it needs to go on."""
        ...

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave; called before the first step of a run that goes on, also
        where the state file has nothing of this observer."""
        ...


#: makes an observer of a training whose weights are in place; None where this process needs none
BeginObserver = Callable[[RunningTraining], Observer | None]


@final
class PathObserver:
    """Follows the weights after each step, and writes the table of their path after each epoch.

    The path is that of a fine-tuning's `tuned` part, else of the whole method.
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
        """The path's name in the state file."""
        return "path"

    def due(self, step: int) -> bool:
        """After each epoch."""
        return step % self._epoch == 0

    def look(self, step: int) -> Findings:
        """Write the table; the log has nothing of it."""
        self._tracker.record(step // self._epoch)
        self._tracker.table().save(self._out / PATH)
        return Findings()

    def state(self) -> Mapping[str, Tensor]:
        """The weights at the start and at the last two records, and sums."""
        return self._tracker.state()

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on.

        Raises:
            InputError: the run had no path so far.
        """
        if not state:
            raise InputError(
                f"The run in {self._out} was not followed from its first step",
                mend="go on with {path=False}",
            )
        self._tracker.load(state)


def follow_path(run: RunningTraining) -> PathObserver | None:
    """Follow the weights, in the first process: those of the others are the same."""
    return PathObserver(run) if run.where.first else None


@final
class BestKeeper:
    """Evaluates a task after each epoch, and keeps the model that does best, the first of equals.

    The best value so far is read from the log, so that a run that goes on keeps what one that never
    stopped would have kept.
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
        """After each epoch."""
        return step % self._run.schedule.epoch == 0

    def look(self, step: int) -> Findings:
        """Evaluate, in all processes."""
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
