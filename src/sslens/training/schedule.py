"""How long a run is, on what, and in which steps; or why there can be no such run."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sslens.data.images import ImageSet
from sslens.errors import Doubt, InputError
from sslens.find import plugin
from sslens.methods import Method
from sslens.models.arch import EXAMPLES
from sslens.models.arch import parse as parsed
from sslens.models.heads import BatchNorm
from sslens.training.optim import check

#: what makes of one image nothing
NORMS = (BatchNorm, _BatchNorm)
#: images whose sizes are looked at
LOOKED_AT = 16


@dataclass(frozen=True)
class Training:
    """How long, on what, and how a run is kept; what belongs to the method is in its own settings.

    Attributes:
        epochs: passes over the images; a last minibatch that is not whole is dropped.
        batch_size: images of a step, over all processes and parts.
        accumulate: parts that a process computes its share of a step in, one after another.
        precision: "float32", "bfloat16" (autocast; losses stay float32), or "auto".
        compile: run the networks' blocks by code that torch generates for them, after a minute or
            so of compiling.
        recompute: keep only the inputs of the networks' blocks, and compute the rest again in the
            backward pass: a part of the memory, for a fifth to a third more time.
        workers: processes that decode and augment; 0 does it in the training process.
        save_every: steps between checkpoints; an epoch for 0.
        log_every: steps between lines of the log.
    """

    epochs: int = 100
    batch_size: int = 256
    accumulate: int = 1
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    compile: bool = False
    recompute: bool = False
    workers: int = 0
    save_every: int = 0
    log_every: int = 10

    def __post_init__(self) -> None:
        least = {
            "epochs": 1,
            "batch_size": 1,
            "accumulate": 1,
            "log_every": 1,
            "seed": 0,
            "workers": 0,
            "save_every": 0,
        }
        for name, low in least.items():
            if getattr(self, name) < low:
                raise InputError(f"{name} is {getattr(self, name)}: give {low} or more.")
        if self.precision == "float16":
            raise InputError(
                "Gradients vanish in float16: train with --precision bfloat16, or float32."
            )


#: settings that may differ when a run goes on: `workers`, `save_every`, `log_every` and, on CPUs,
#: `recompute` change no bit of what is computed; `accumulate`, `compile` and `device` change it by
#: rounding alone
FREE = ("device", "workers", "save_every", "log_every", "accumulate", "compile", "recompute")


@dataclass(frozen=True)
class Schedule:
    """The steps of a run."""

    images: int
    batch_size: int
    epochs: int

    @property
    def epoch(self) -> int:
        """Steps of an epoch."""
        return self.images // self.batch_size

    @property
    def steps(self) -> int:
        """Steps of the run."""
        return self.epoch * self.epochs


def plan(
    objective: str, images: int, arch: str, settings: Any, training: Training, world: int = 1
) -> Schedule:
    """The steps of a run, or why there can be none.

    Raises:
        InputError: the batch is larger than the set, or cannot be shared out, or is one image of an
            objective that contrasts images or of a network with batch norms; a setting is out of
            bounds, or does not go with the arch.
    """
    check(settings)
    module, shape = plugin("objectives", objective), parsed(arch)
    if shape.kind not in module.KINDS:
        raise InputError(
            f"{objective} cannot train {arch}: it trains"
            f" {' and '.join(EXAMPLES[kind] for kind in module.KINDS)}."
        )
    with torch.device(
        "meta"
    ):  # settings that do not go with the arch are refused, and no memory is taken
        method = module.Objective(shape, settings)
    return scheduled(
        method, objective, arch, images, training, world, getattr(module, "IN_PARTS", "")
    )


def scheduled(
    method: Method,
    objective: str,
    arch: str,
    images: int,
    training: Training,
    world: int,
    in_parts: str = "",
) -> Schedule:
    """The steps of a run of a method, or why there can be none; `in_parts` says what else would
    make its steps divisible.

    Raises:
        InputError: as `plan` does, of the batch.
    """
    if training.accumulate > 1 and not method.divisible:
        raise InputError(
            f"{objective} on {arch} normalises over all images of a step, which parts would change:"
            f" leave --accumulate out, and give a smaller --batch-size or more processes{in_parts}."
        )
    if training.batch_size > images:
        raise InputError(
            f"A minibatch of {training.batch_size} is more than the {images} images: give"
            f" --batch-size {images} or less."
        )
    require_shares(training.batch_size, world, training.accumulate)
    if method.whole_batch and training.batch_size < 2:
        raise InputError(
            f"{objective} contrasts images with each other: give a --batch-size of 2 or more."
        )
    assert isinstance(method, nn.Module)
    if training.batch_size < 2 and any(isinstance(module, NORMS) for module in method.modules()):
        raise InputError(
            f"{objective} on {arch} normalises over the images of a step: give a --batch-size of 2"
            " or more."
        )
    return Schedule(images, training.batch_size, training.epochs)


def require_shares(batch_size: int, world: int, accumulate: int) -> None:
    """Refuse a minibatch that so many processes cannot share, in so many parts each."""
    shares = world * accumulate
    if batch_size % shares:
        raise InputError(
            f"A minibatch of {batch_size} cannot be shared by {world} processes in {accumulate}"
            f" parts: give a multiple of {shares}."
        )


def doubt_small(images: ImageSet, image_size: int) -> None:
    """Warn with a `Doubt` where most images (of sixteen, evenly from the first to the last) are
    smaller than what is cut from them.

    Raises:
        InputError: one of them cannot be decoded.
    """
    rows = np.unique(np.linspace(0, len(images) - 1, LOOKED_AT).astype(int)).tolist()
    sides = [min(images.image(row).size) for row in rows]
    small = sum(side < image_size for side in sides)
    if 2 * small > len(sides):
        warnings.warn(
            f"{small} of {len(sides)} images of {images.name} that were looked at are smaller than"
            f" the {image_size} px of the arch (the smallest has {min(sides)} px): they are"
            " enlarged, which costs time and adds nothing. An arch for smaller images may do.",
            Doubt,
            stacklevel=2,
        )
