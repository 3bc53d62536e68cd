"""The log of a run, and who hears of its lines."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import final

from sslens.training.folder import LogLine
from sslens.training.signs import Signs


@final
class RunLog:
    """Writes a line every so many steps, and a line for all else that is noted.

    A line has the mean loss since the last line, or since the run went on.

    Args:
        write: keeps a line; None in processes that write nothing.
        per_epoch: steps of an epoch.
        steps: of the run.
        every: steps between lines.
        signs: judges every line; what it finds is said and written as a line with a `warning`.
        tell: each is called with every line besides.
        say: called with a warning for a person.
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
    ) -> None:
        self.write, self.per_epoch, self.steps, self.every = write, per_epoch, steps, every
        self.signs, self.tell, self.say = signs, tell, say
        self._losses: list[float] = []

    def step(self, step: int, loss: float, lr: float, rate: float) -> None:
        """Take the loss and the learning rate of a step, and images a second."""
        self._losses.append(loss)
        if step % self.every == 0 or step == self.steps:
            mean = sum(self._losses) / len(self._losses)
            self.note(step, {"loss": mean, "lr": lr, "images_per_second": round(rate, 1)})
            self._losses.clear()

    def note(self, step: int, values: Mapping[str, int | float | str]) -> None:
        """Write a line with values; none where there are no values."""
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
