"""The training of a detector, on the one loop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import final

from torch import nn

from sslens import zoo
from sslens.data.detections import DetectionSet
from sslens.errors import InputError
from sslens.models.backbone import Backbone
from sslens.tasks import TaskEvaluation, detection
from sslens.tasks.detection import Detection, Settings
from sslens.tasks.detection_maps import CachedMaps
from sslens.training.folder import RunFolder
from sslens.training.loop import RunRequest, run
from sslens.training.observers import Findings, RunningTraining
from sslens.training.run_files import STATE
from sslens.training.schedule import Training

#: the shares of a training after which a detector is evaluated: what it gains in the last quarter
#: says whether it was trained long enough
EVALUATED = (0.75, 1.0)
PREFIX = "module/"


@final
class EvaluatedAt:
    """Evaluates a task after some shares of a training.

    Args:
        run: the training.
        evaluation: measures the method.
        shares: of the steps, above 0, up to 1.
    """

    def __init__(
        self, run: RunningTraining, evaluation: TaskEvaluation, shares: Sequence[float] = EVALUATED
    ) -> None:
        self._run, self._evaluation = run, evaluation
        self._steps = {max(1, round(share * run.schedule.steps)) for share in shares}

    def due(self, step: int) -> bool:
        """True after the steps at which these shares are done."""
        return step in self._steps

    def look(self, step: int) -> Findings:
        """Evaluate the method, in all processes together."""
        run, module = self._run, self._run.method
        assert isinstance(module, nn.Module)
        module.eval()
        numbers = self._evaluation.measure(
            run.method, run.where, run.precision, run.training.workers
        )
        module.train()
        return Findings(numbers, shown=(self._evaluation.metrics[0].name,))


def train_detector(
    model: Backbone,
    images: DetectionSet,
    out: Path,
    *,
    settings: Settings | None = None,
    training: Training | None = None,
    maps: CachedMaps | None = None,
    evaluation: TaskEvaluation | None = None,
    resume: bool = False,
    name: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Train a detector on a pre-trained model; returns the path of its last file.

    Args:
        model: any model with maps; it stays as it is unless `settings.tuned`.
        images: the training images with their objects.
        out: the run's folder.
        settings: the settings of the task; ViTDet's for a ViT-B on COCO unless given.
        training: the length of the run, and on what it runs.
        maps: the maps of the images, where the model stays as it is (`make_maps`).
        evaluation: judges the detector after three quarters of the steps, and at the end.
        resume: go on from the checkpoint in `out`, or start where there is none yet.
        name: the detector's name for people; the model's unless given.
        say: called with lines for a person.

    Raises:
        InputError: as `sslens.training.pretrain.pretrain`; or the images have no objects or masks,
            or the settings do not fit the model.
    """
    job = detection.job(model, images, settings or Settings(), maps)
    observers = () if evaluation is None else (partial(EvaluatedAt, evaluation=evaluation),)
    return run(
        RunRequest(
            job=job,
            images=images.images if maps is None else detection.hide_images(images),
            out=out,
            training=training or Training(),
            name=name or model.name,
            resume=resume,
            observers=observers,
            say=say,
        )
    )


def load_detector(out: Path, method: Detection) -> Detection:
    """Fill a method with the weights that a training ended with; returns it in evaluation mode.

    Args:
        out: the run's folder.
        method: of the same shape.

    Raises:
        InputError: the folder holds no state of a training.
    """
    if not (out / STATE).is_file():
        raise InputError(f"{out} holds no state of a training: train the detector first.")
    _, tensors = zoo.read(out / STATE)
    weights = {
        name.removeprefix(PREFIX): value
        for name, value in tensors.items()
        if name.startswith(PREFIX)
    }
    method.load_state_dict(weights)
    return method.eval()


@final
@dataclass(frozen=True)
class TrainingRecord:
    """What the log of a training of a detector says.

    Attributes:
        steps: steps that were taken.
        seconds: the time that steps took, evaluations and pauses left out.
        loss: mean loss over the last quarter of the steps.
        gained: the last box AP less the box AP after three quarters of the steps; nan where it was
            not evaluated.
    """

    steps: int
    seconds: float
    loss: float
    gained: float

    @classmethod
    def of(cls, out: Path, batch_size: int) -> "TrainingRecord":
        """Read the log of a run.

        Args:
            out: the run's folder.
            batch_size: images of a step.
        """
        lines = RunFolder(out, {}).lines()
        logged = [line for line in lines if "loss" in line]
        last = int(logged[-1]["step"])
        before = [0, *(int(line["step"]) for line in logged[:-1])]
        seconds = sum(
            (int(line["step"]) - start) * batch_size / max(float(line["images_per_second"]), 1e-9)
            for start, line in zip(before, logged, strict=True)
        )
        late = [float(line["loss"]) for line in logged if int(line["step"]) > 0.75 * last]
        scores = [float(line["box_ap"]) for line in lines if "box_ap" in line]
        gained = scores[-1] - scores[-2] if len(scores) > 1 else float("nan")
        return cls(last, seconds, sum(late) / len(late), gained)
