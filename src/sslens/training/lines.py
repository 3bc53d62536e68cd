"""The lines of a run's log, and who hears of them."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import final

from sslens.training.folder import Line
from sslens.training.signs import Signs


@final
class Lines:
    """Writes a line every so many steps with the mean loss since the last one, or since the run
    went on, and what is noted.

    Args:
        write: keeps a line; None in processes that write nothing.
        per_epoch: steps of an epoch.
        steps: of the run.
        every: steps between lines.
        signs: judges every line; what it finds is said and written as a line with a `warning`.
        tell: called with every line besides.
        say: called with a warning for a person.
    """

    def __init__(
        self,
        write: Callable[[Line], None] | None,
        *,
        per_epoch: int,
        steps: int,
        every: int,
        signs: Signs | None = None,
        tell: Sequence[Callable[[Line], None]] = (),
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.write, self.per_epoch, self.steps, self.every = write, per_epoch, steps, every
        self.signs, self.tell, self.say = signs, tell, say
        self._losses: list[float] = []

    def step(self, step: int, loss: float, lr: float, rate: float) -> None:
        """What a step came to: its loss and learning rate, and images a second."""
        self._losses.append(loss)
        if step % self.every == 0 or step == self.steps:
            mean = sum(self._losses) / len(self._losses)
            self.note(step, {"loss": mean, "lr": lr, "images_per_second": round(rate, 1)})
            self._losses.clear()

    def note(self, step: int, what: Mapping[str, int | float | str]) -> None:
        """A line of its own."""
        if self.write is None or not what:
            return
        line: Line = {
            "step": step,
            "epoch": round(step / self.per_epoch, 4),
            **what,
            "time": round(time.time(), 1),
        }
        self.write(line)
        for tell in self.tell:
            tell(line)
        for text in self.signs.see(line) if self.signs else ():
            self.say(f"note      {text}")
            self.note(step, {"warning": text})
