"""Tasks: what is trained on top of a backbone, and how it is judged.

A task is a file such as `tasks/classification.py`; code that tasks share is in the other files of
this folder. A task has

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
    """A number that says how good a trained method is.

    Attributes:
        name: the key in the log and in the header of the file that is kept.
        label: the name in figures and sentences.
        unit: a clause that says what is measured, and its unit.
        higher_is_better: whether a higher value is the better one.

    >>> Metric("fid", "FID", "Fréchet distance", higher_is_better=False).is_better(3.0, than=4.0)
    True
    """

    name: str
    label: str
    unit: str
    higher_is_better: bool = True

    def is_better(self, value: float, than: float | None) -> bool:
        """Whether a value is better than another; any value is better than None, and nan is never
        better."""
        if value != value:
            return False
        return than is None or (value > than if self.higher_is_better else value < than)


@runtime_checkable
class TaskEvaluation(Protocol):
    """Measures how good a method is while it is trained."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics; the first one decides which model is the best."""
        ...

    def measure(
        self, method: Any, where: Processes, precision: str, workers: int
    ) -> dict[str, float]:
        """Measure a method that is in evaluation mode.

        Args:
            method: the method that the loop trains.
            where: the processes, all of which call this and share the images.
            precision: of the arithmetic, "float32" or "bfloat16".
            workers: processes that decode images.

        Returns:
            A number for each metric, by its name.
        """
        ...
