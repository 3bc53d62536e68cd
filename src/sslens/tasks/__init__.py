"""Tasks: what is trained on top of a backbone, and how it is judged.

A task is a file such as `tasks/classification.py`, and what it shares with others lies next door.
It has

- `Settings`, a frozen dataclass: the task's numbers, with what every optimiser reads
  (`sslens.objectives`);
- `batch(images, settings, start, rows) -> Batch`: the views and targets of some images of a step, a
  pure function. What a task knows of each image besides its class (boxes, masks) is found by
  `rows.numbers`; targets of different lengths are padded, since the first axis of each tensor is
  the image;
- `job(model, images, settings) -> TrainingJob`: all that the loop is given;
- a `TaskEvaluation`, which says how well the trained method does on held-out images.

The loop (`sslens.training.loop`) knows none of these metrics: an observer keeps the model that is
best by the first metric of the evaluation.
"""

from dataclasses import dataclass
from typing import Any, Protocol, final, runtime_checkable

from sslens.processes import Processes


@final
@dataclass(frozen=True)
class Metric:
    """A number by which a trained method is judged.

    Attributes:
        name: its key in the log and in the header of the kept file.
        label: for figures and sentences.
        unit: what it measures and in what, a clause.
        higher_is_better: which way is better.

    >>> Metric("fid", "FID", "Fréchet distance", higher_is_better=False).is_better(3.0, than=4.0)
    True
    """

    name: str
    label: str
    unit: str
    higher_is_better: bool = True

    def is_better(self, value: float, than: float | None) -> bool:
        """Whether a value is better than another, or than none; a number that is not finite never
        is."""
        if value != value:
            return False
        return than is None or (value > than if self.higher_is_better else value < than)


@runtime_checkable
class TaskEvaluation(Protocol):
    """Judges a method while it is trained."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What is measured; the first metric decides which model is the best."""
        ...

    def measure(
        self, method: Any, where: Processes, precision: str, workers: int
    ) -> dict[str, float]:
        """Measure a method that is in evaluation mode.

        Args:
            method: as the loop trains it.
            where: the processes, all of which call this and share the images.
            precision: of the arithmetic, "float32" or "bfloat16".
            workers: processes that decode images.

        Returns:
            A number for each metric, by its name.
        """
        ...
