"""Representation-conditioned diffusion: a generator learns to make images from noise and from the
features that a frozen model has of them (RCDM: Bordes et al., 2022, arXiv:2112.09164).

What varies among images that are generated from one representation is what the representation does
not hold. The features are made once and never dropped. Several models may condition one generator:
each image of a step is then shown with the features of one of them, in turn.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from sslens.data.decoded import Decoded
from sslens.data.streams import stream
from sslens.data.transform import EvalTransform
from sslens.diffusion.adapters import Adapters
from sslens.diffusion.process import Process
from sslens.errors import InputError
from sslens.methods import Batch, Moment, Rows
from sslens.methods.job import TrainingJob
from sslens.methods.parameters import follow
from sslens.methods.schedules import cosine
from sslens.methods.settings import require_optimisable
from sslens.models.about import About
from sslens.models.dit import DiT
from sslens.models.sketching import sketch_networks
from sslens.tasks.diffusion_settings import Settings, describe_shape
from sslens.tasks.representations import Represented

#: of the task, for people and in `config.yaml`
LEARNER = "rcdm"
#: key of the random stream of noise and times in training
DRAWS = 6
#: the name of the entry of a file's shape by which a generator is known
SHAPE = "generator"
#: the name, in a minibatch, of the conditions by all models, from which a decoder paints
PAINTED = "painted"
#: names of what a process draws begin so in a minibatch
DRAWN = "draw."


def see_images(size: int) -> EvalTransform:
    """Return how images are prepared for a generator: a central square of so many pixels, with
    values in [−1, 1].

    >>> float(see_images(32)(Image.new("RGB", (40, 32), (255, 0, 0))).min())
    -1.0
    """
    half = (0.5, 0.5, 0.5)
    return EvalTransform(resize=size, crop=size, mean=half, std=half)


@final
@dataclass(frozen=True, eq=False)
class GeneratorStart:
    """What makes the minibatches of a generator, sent to data workers.

    Attributes:
        represented: the images with their features.
        pictures: the images as the generator sees them, each decoded once.
        adapters: how features become the network's condition.
        process: draws noise and times.
    """

    represented: Represented
    pictures: Decoded
    adapters: Adapters
    process: Process

    @classmethod
    def of(
        cls, represented: Represented, adapters: Adapters, settings: Settings
    ) -> "GeneratorStart":
        """Prepare images and features for a generator with these settings."""
        pictures = Decoded(represented.images, see_images(settings.size))
        return cls(represented, pictures, adapters, settings.make_process())

    def view(self, numbers: Sequence[int]) -> Float[Tensor, "image 3 size size"]:
        """Return images by their rows, as the generator sees them."""
        return self.pictures.transform.normalise(self.pictures.pixels(list(numbers)))

    def condition(
        self, numbers: Sequence[int], models: Sequence[int]
    ) -> Float[Tensor, "image width"]:
        """Return the conditions of images by their rows, each by the features of one model, of
        which the number is given."""
        rows, chosen = np.asarray(numbers, np.int64), np.asarray(models)
        condition = torch.zeros(len(rows), self.adapters.width)
        for number, name in enumerate(self.represented.models):
            here = np.flatnonzero(chosen == number)
            if len(here):
                features = self.represented.read(number, rows[here])
                condition[torch.from_numpy(here)] = self.adapters.place(name, features)
        return condition

    def draw(self, seed: int, step: int, count: int) -> dict[str, Tensor]:
        """Draw noise and times for so many images of a step."""
        side = self.pictures.transform.crop
        return self.process.draw(stream(seed, step, DRAWS), count, (3, side, side))


def batch(
    images: Sequence[Image.Image], settings: Settings, start: GeneratorStart, rows: Rows
) -> dict[str, Tensor]:
    """Make a part of a step's minibatch.

    Args:
        images: not looked at; `start` has the images.
        settings: of the task.
        start: images, features and process.
        rows: which images of which step.

    Returns:
        "view" [image 3 size size] in [−1, 1], "condition" [image width], and with names that begin
            with "draw." what the process draws, [image ...]. Row i of step n has the features of
            model (i + n) mod M. Where the network has a decoder, also "painted" [image model
            width], the conditions by all models.
    """
    assert rows.numbers is not None
    places = np.arange(rows.total)[rows.rows]
    models = (places + rows.step) % len(start.represented.models)
    drawn = start.draw(rows.seed, rows.step, rows.total)
    painted = {}
    if settings.paints:
        count = len(start.represented.models)
        repeated = np.repeat(rows.numbers, count).tolist()
        conditions = start.condition(repeated, list(range(count)) * len(places))
        painted = {PAINTED: conditions.unflatten(0, (-1, count))}
    return {
        **painted,
        "view": start.view(rows.numbers),
        "condition": start.condition(rows.numbers, models.tolist()),
        **{f"{DRAWN}{name}": values[rows.rows] for name, values in drawn.items()},
    }


@final
class Diffusion(nn.Module):
    """The method: a network that is trained, and a moving average of it (`average`), which is
    evaluated and kept.

    Args:
        settings: of the task.
        width: of what the network gets of a representation.
    """

    whole_batch: ClassVar[bool] = False
    divisible: ClassVar[bool] = True

    def __init__(self, settings: Settings, width: int) -> None:
        super().__init__()
        self.settings = settings
        self.process = settings.make_process()
        self.network = settings.shape(width).build()
        self.average = copy.deepcopy(self.network).requires_grad_(False)

    @property
    def encoder(self) -> nn.Module:
        """The network that is kept: the average."""
        return self.average

    def forward(self, batch: Batch) -> Float[Tensor, ""]:
        """Compute the mean loss of a minibatch. A decoder adds the squared error of what it paints
        from each model's features of the images."""
        loss = self.losses(self.network, batch)["loss"].float().mean()
        if PAINTED not in batch:
            return loss
        assert isinstance(self.network, DiT)
        painted = self.network.paint(batch[PAINTED].flatten(0, 1)).float()
        painted = painted.unflatten(0, batch[PAINTED].shape[:2])
        return loss + (painted - batch["view"][:, None]).square().mean()

    def losses(self, network: nn.Module, batch: Batch) -> dict[str, Float[Tensor, " image"]]:
        """Compute the loss terms of each image with one of the two networks; "loss" is trained."""
        drawn = {
            name.removeprefix(DRAWN): values
            for name, values in batch.items()
            if name.startswith(DRAWN)
        }
        return self.process.loss(network, batch["view"], batch["condition"], drawn)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """One group: all parameters are decayed alike, as in guided diffusion."""
        return [{"params": list(self.network.parameters())}]

    def rates(self, at: Moment, peak: float) -> tuple[float, float]:
        """Return a learning rate that rises linearly from 0 and then falls by half a cosine to a
        share of the highest, and a constant weight decay."""
        s = self.settings
        if at.progress < s.warmup:
            return peak * at.progress / s.warmup, s.weight_decay
        left = (at.progress - s.warmup) / max(1 - s.warmup, 1e-9)
        return cosine(left, peak, peak * s.end_lr), s.weight_decay

    @torch.no_grad()
    def after_update(self, at: Moment) -> None:
        """Move the average."""
        momentum, done = self.settings.ema, at.step + 1
        if self.settings.ema_ramp:
            momentum = min(momentum, (1 + done) / (10 + done))
        follow(self.average, self.network, momentum)


def job(start: GeneratorStart, settings: Settings) -> TrainingJob:
    """Describe, for the loop, the training of a generator.

    Raises:
        InputError: fewer than two images, or settings that the optimiser cannot follow.
    """
    require_optimisable(settings)
    represented, adapters = start.represented, start.adapters
    if len(represented) < 2:
        raise InputError(
            f"{len(represented)} image is too few to train a generator on",
            mend="give two or more {images}",
        )
    with sketch_networks():
        sketch = Diffusion(settings, adapters.width)
    described = [dict(condition.to_json()) for condition in represented.conditions]
    shape = {SHAPE: describe_generator(start, settings)}

    def weights(method: Diffusion) -> dict[str, Tensor]:
        kept = {f"network.{name}": value for name, value in method.average.state_dict().items()}
        return kept | {f"adapters.{name}": each for name, each in adapters.tensors().items()}

    return TrainingJob(
        verb="training",
        name=f"a generator from {', '.join(represented.models)}",
        learner=LEARNER,
        network=settings.network,
        settings=settings,
        start=start,
        batch=batch,
        build=lambda: Diffusion(settings, adapters.width),
        sketch=sketch,
        config={"objective": LEARNER, "arch": settings.network, "conditions": described},
        shape=shape,
        about=About(objective=LEARNER, arch=settings.network),
        transform=start.pictures.transform,
        weights=weights,
    )


def describe_generator(start: GeneratorStart, settings: Settings) -> Mapping[str, Any]:
    """Describe a generator as JSON values, of which `sslens.tasks.generator` makes it again."""
    return {
        "network": describe_shape(settings.shape(start.adapters.width)),
        "process": start.process.describe(),
        "preparation": settings.conditions,
        "conditions": [dict(each.to_json()) for each in start.represented.conditions],
    }
