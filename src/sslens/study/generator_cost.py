"""The cost of training a generator, estimated before it is trained."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from sslens.report.writing.numbers import spell_count
from sslens.study.step_cost import take_step
from sslens.tasks.diffusion import DRAWN, Diffusion, job
from sslens.training.diffuse import prepare
from sslens.training.schedule import schedule_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sslens.data.images import ImageSet
    from sslens.models.backbone import Backbone
    from sslens.tasks.diffusion import GeneratorStart
    from sslens.tasks.diffusion_settings import Settings
    from sslens.training.schedule import Training

#: images of the step that is measured, and images of which features are made for a plan
IMAGES, FEW = 4, 16
#: bytes of a weight in training: itself, its gradient, two moments of the optimiser, the average
WEIGHT_BYTES = 20
#: operations of a forward pass of one image beyond which a CPU is not asked to take a step
SLOW = 2e10


@final
@dataclass(frozen=True)
class GeneratorCost:
    """The cost of a training step.

    Attributes:
        parameters: of the network.
        operations: floating-point operations of a forward pass of one image.
        seconds: of an image in a step; None where it was not measured.
        image_bytes: memory of an image that is kept for the backward pass; None as `seconds`.
    """

    parameters: int
    operations: float
    seconds: float | None
    image_bytes: float | None


def measure_step(start: "GeneratorStart", settings: "Settings", device: str) -> GeneratorCost:
    """Count the operations of a network, and take two steps with made-up images to measure the
    second one; on a CPU only of a network that is small enough."""
    width = start.adapters.width
    with FakeTensorMode(), FlopCounterMode(display=False) as counter:  # which compute nothing
        network = settings.shape(width).build()
        images = torch.zeros(1, 3, settings.size, settings.size)
        network(images, torch.zeros(1), torch.zeros(1, width))
    parameters = sum(value.numel() for value in network.parameters())
    operations = float(counter.get_total_flops())
    if torch.device(device).type == "cpu" and operations > SLOW:
        return GeneratorCost(parameters, operations, None, None)
    method = Diffusion(settings, width).train().to(device)
    drawn = start.draw(0, 0, IMAGES)
    batch = {f"{DRAWN}{name}": value.to(device) for name, value in drawn.items()} | {
        "view": torch.zeros(IMAGES, 3, settings.size, settings.size, device=device),
        "condition": torch.zeros(IMAGES, width, device=device),
    }
    seconds, own = take_step(method, batch, settings)
    return GeneratorCost(parameters, operations, seconds / IMAGES, own / IMAGES)


def describe_cost(cost: GeneratorCost, steps: int, batch_size: int) -> str:
    """Describe the time and the memory of a training, as a clause.

    >>> describe_cost(GeneratorCost(2_000_000, 5e8, 0.01, 1e6), steps=4000, batch_size=128)
    '2.0 million parameters, 0.5 GFLOP an image; about 1.42 h here, and 0.17 GB'
    """
    shown = f"{cost.parameters / 1e6:,.1f} million parameters, {cost.operations / 1e9:,.3g} GFLOP"
    if cost.seconds is None or cost.image_bytes is None:
        return (
            f"{shown} an image; too large to be measured on a CPU, and {spell_count(steps, 'step')}"
            f" of {batch_size} are {3 * cost.operations * steps * batch_size / 1e18:,.3g} EFLOP"
        )
    hours = steps * batch_size * cost.seconds / 3600
    memory = WEIGHT_BYTES * cost.parameters + batch_size * cost.image_bytes
    spelt = f"{60 * hours:.2g} min" if hours < 1 else f"{hours:.3g} h"
    return f"{shown} an image; about {spelt} here, and {memory / 1e9:.2g} GB"


def describe_training(
    models: "Sequence[Backbone]",
    images: "ImageSet",
    settings: "Settings",
    training: "Training",
    *,
    tap: str | None = None,
    tokens: str | None = None,
    world: int = 1,
) -> str:
    """Describe a training of a generator and its cost, without a pass over the images.

    Args:
        models: the models with features that condition it.
        images: the training images.
        settings: of the task.
        training: the length of the run, and on what it runs.
        tap: the tap of every model; the last one of each unless given.
        tokens: the pooling.
        world: the number of processes.

    Raises:
        InputError: a model has no such tap or pooling, or there can be no such run.
    """
    from sslens.study.generating import represent

    few = represent(models, images.take(range(min(FEW, len(images)))), tap=tap, tokens=tokens)
    start = prepare(few, settings)
    schedule = schedule_run(job(start, settings), len(images), training, world)
    cost = measure_step(start, settings, training.device)
    taken = ", ".join(
        f"{each.model} at {each.tap} ({each.pooling}, {each.dim})" for each in few.conditions
    )
    return (
        f"{taken}; {spell_count(len(images), 'image')} of {images.name} at {settings.size} px:"
        f" {spell_count(schedule.epoch, 'step')} an epoch, {schedule.steps:,} in all\n"
        f"{describe_cost(cost, schedule.steps, training.batch_size)}"
    )
