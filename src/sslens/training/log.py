"""The log of a run: its lines are written to a file, judged, and sent to listeners."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import final

from sslens.training.kept import LogLine
from sslens.training.signs import Signs


@final
class RunLog:
    """Writes a line every so many steps, and one line for every other note.

    A line has the mean loss since the line before it.

    Args:
        write: writes a line to the log; None in processes that write nothing.
        per_epoch: the number of steps in an epoch.
        steps: the number of steps in the run.
        every: the number of steps between lines.
        signs: judges every line; each sign that it finds is given to `say` and is written as a line
            with a `warning`.
        tell: listeners; each is also called with every line.
        say: called with each warning, for a person.
        losses: the losses since the last line, of a run that goes on.
    """

    def __init__(
        self,
        write: Callable[[LogLine], None] | None,
        *,
        per_epoch: int,
        steps: int,
        every: int,
        signs: Signs | None = None,
        tell: Sequence[Callable[[LogLine], None]] = (),
        say: Callable[[str], None] = lambda _: None,
        losses: Sequence[float] = (),
    ) -> None:
        self.write, self.per_epoch, self.steps, self.every = write, per_epoch, steps, every
        self.signs, self.tell, self.say = signs, tell, say
        self._losses = list(losses)

    @property
    def losses(self) -> tuple[float, ...]:
        """The losses since the last line, which the next line will have the mean of."""
        return tuple(self._losses)

    def step(self, step: int, loss: float, lr: float, rate: float) -> None:
        """Take the loss, the learning rate and the speed (`rate`, in images per second) of a
        step."""
        self._losses.append(loss)
        if step % self.every == 0 or step == self.steps:
            mean = sum(self._losses) / len(self._losses)
            self.note(step, {"loss": mean, "lr": lr, "images_per_second": round(rate, 1)})
            self._losses.clear()

    def note(self, step: int, values: Mapping[str, int | float | str]) -> None:
        """Write a line with the values, and nothing where there are no values."""
        if self.write is None or not values:
            return
        line: LogLine = {
            "step": step,
            "epoch": round(step / self.per_epoch, 4),
            **values,
            "time": round(time.time(), 1),
        }
        self.write(line)
        for tell in self.tell:
            tell(line)
        for text in self.signs.judge(line) if self.signs else ():
            self.say(f"note      {text}")
            self.note(step, {"warning": text})
