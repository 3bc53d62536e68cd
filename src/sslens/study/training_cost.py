"""What a training will cost, from steps of it that are taken on this machine and forgotten."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast, final

import torch
from torch import nn

from sslens.methods import Moment, call_hook
from sslens.processes import Processes, best_precision
from sslens.study.costing import Clock, Cost, measure_memory
from sslens.training.gradients import backward
from sslens.training.optim import make_optimiser
from sslens.training.parts import Feed, Parts

if TYPE_CHECKING:
    from sslens.data.images import ImageSet
    from sslens.methods import Method
    from sslens.methods.job import TrainingJob
    from sslens.tasks import TaskEvaluation
    from sslens.tasks.accuracy import Accuracy
    from sslens.tasks.classification import FineTuning
    from sslens.training.schedule import Schedule, Training

#: images of the steps that are measured, at most, and steps after the first
IMAGES, STEPS = 16, 2
#: images that are evaluated to measure an evaluation
JUDGED = 16
#: bytes of a weight in the state: itself, and two moments; and of one in a file of the model
STATE_BYTES, FILE_BYTES = 12, 4
#: processor time of the report at the end, in seconds (0.9 to 1.6 were measured)
REPORT = 1.2


@final
@dataclass(frozen=True)
class Looks:
    """What is measured while a training goes on.

    Attributes:
        evaluation: of the task, after each epoch; None where there is none.
        watched: images that each look of the encoder watch sees.
        count: the number of these looks.
    """

    evaluation: "TaskEvaluation | None" = None
    watched: int = 0
    count: int = 0


def estimate_training(
    job: "TrainingJob",
    images: "ImageSet",
    training: "Training",
    schedule: "Schedule",
    looks: Looks | None = None,
) -> Cost:
    """Estimate the cost of a training: a few of its steps are taken, with fewer images where the
    minibatch is large, by a method that is thrown away.

    Args:
        job: what is trained.
        images: what it is trained on.
        training: the length of the run, and on what it runs.
        schedule: its steps.
        looks: what is measured while it goes on.
    """
    looks = looks or Looks()
    before = time.process_time()
    where = Processes(0, 1, training.device)
    torch.manual_seed(training.seed)
    method = cast(nn.Module, job.build()).to(where.device).train()
    per_image = _time_steps(job, cast("Method", method), images, training, where)
    seen = schedule.steps * training.batch_size
    seconds = {"start": before, "steps": seen * per_image, "report": REPORT}
    if looks.evaluation is not None:
        judged = schedule.epochs * len(_require_accuracy(looks).images)
        seconds["evaluation"] = judged * _time_evaluation(looks, method, where, training)
    if looks.count:
        seconds["looks"] = looks.count * looks.watched * _time_look(job, method, images, where)
    weights = sum(value.numel() for value in method.parameters())
    disk = float(weights) * (STATE_BYTES + FILE_BYTES * (2 if looks.evaluation else 1))
    memory = measure_memory()
    growth = max(0, training.batch_size // training.accumulate - min(IMAGES, training.batch_size))
    return Cost(seconds, memory + growth * _measure_kept(weights, job), disk)


def _measure_kept(weights: int, job: "TrainingJob") -> float:
    """Bytes that an image of a step keeps for the backward pass: about 12 floats for every value of
    its tokens in every block of a transformer; as many as a tenth of the weights elsewhere."""
    shape = job.shape
    if {"dim", "blocks", "patch_size", "image_size"} <= set(shape):
        tokens = (shape["image_size"] // shape["patch_size"]) ** 2 + 1
        return float(48 * shape["dim"] * shape["blocks"] * tokens)
    return 0.4 * weights


def _time_steps(
    job: "TrainingJob",
    method: "Method",
    images: "ImageSet",
    training: "Training",
    where: Processes,
) -> float:
    """Take a step, and two more that are measured; returns the processor time of an image."""
    count = min(IMAGES, training.batch_size, len(images))
    few = replace(training, batch_size=count, accumulate=1, workers=0)
    optimizer = make_optimiser(method.parameter_groups(), job.settings)
    feed = Feed(Parts(job, images, few, where), range(1 + STEPS), where.device)
    precision = best_precision(training.precision, where.device)
    kind = torch.device(where.device).type
    clock = Clock()
    for step in range(1 + STEPS):
        at, running = Moment(step, 1 + STEPS, 1 + STEPS), clock if step else Clock()
        with running.running():
            call_hook(method, "before_step", at)
            autocast = torch.autocast(kind, torch.bfloat16, enabled=precision == "bfloat16")
            backward(cast(nn.Module, method), feed.take(1), 1, autocast)
            call_hook(method, "before_update", at)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            call_hook(method, "after_update", at)
    return clock.seconds / (STEPS * count)


def _time_evaluation(
    looks: Looks, method: nn.Module, where: Processes, training: "Training"
) -> float:
    """Evaluate a few images; returns the processor time of one."""
    few = _take_few(_require_accuracy(looks))
    clock, precision = Clock(), best_precision(training.precision, where.device)
    method.eval()
    with clock.running():
        few.measure(cast("FineTuning", method), where, precision, 0)
    method.train()
    return clock.seconds / JUDGED


def _require_accuracy(looks: Looks) -> "Accuracy":
    """The evaluation of a classifier."""
    from sslens.tasks.accuracy import Accuracy

    assert isinstance(looks.evaluation, Accuracy)
    return looks.evaluation


def _take_few(evaluation: "Accuracy") -> "Accuracy":
    """The same evaluation of a few images."""
    rows: Sequence[int] = [row % len(evaluation.images) for row in range(JUDGED)]
    return replace(evaluation, images=evaluation.images.take(sorted(set(rows))))


def _time_look(
    job: "TrainingJob", method: nn.Module, images: "ImageSet", where: Processes
) -> float:
    """Show the encoder a few images; returns the processor time of one."""
    from sslens.capture import FeatureReducer, collect
    from sslens.plan import Plan
    from sslens.training.reading import copy_encoder

    few = images.take(range(min(IMAGES, len(images))))
    clock = Clock()
    with clock.running():
        model = copy_encoder(cast("Method", method).encoder, job.transform)
        collect(model, few, [FeatureReducer()], plan=Plan.in_order(few.ids), device=where.device)
    return clock.seconds / len(few)
