"""The cost of training detectors, estimated before any is trained."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch

from sslens.models.detection.objects import Objects
from sslens.study.step_cost import take_step
from sslens.tasks.detection import Detection
from sslens.tasks.detection_batch import pack_objects
from sslens.tasks.detector import MapShape

if TYPE_CHECKING:
    from sslens.study.detector_runs import DetectorRun

#: images of the step that is measured, and objects of each
IMAGES, OBJECTS = 2, 6
#: bytes of a trained weight: itself, its gradient, and two moments of the optimiser
WEIGHT_BYTES = 16


@final
@dataclass(frozen=True)
class StepCost:
    """The cost of a training step.

    Attributes:
        seconds: of an image, in a step.
        image_bytes: memory of an image, kept for the backward pass.
        weight_bytes: memory of the weights, their gradients and the optimiser.
        map_bytes: disk of the maps of an image, in all views; 0 where none are kept.
    """

    seconds: float
    image_bytes: float
    weight_bytes: int
    map_bytes: int


def measure_step(run: "DetectorRun") -> StepCost:
    """Take two steps with a few made-up images and objects, and measure the second one.

    Args:
        run: the training that the steps are of.
    """
    settings = replace(run.protocol.settings, size=run.side, classes=run.train.categories)
    shape = None if settings.tuned else _find_shape(run)
    sides = (run.side,) if settings.tuned else run.sides
    device = torch.device(run.situation.device)
    method = Detection(run.member.network, settings, shape, run.train.has_masks).train().to(device)
    batch = {name: value.to(device) for name, value in _make_up(max(sides), shape, method).items()}
    seconds, own = take_step(method, batch, settings)
    weights = sum(parameter.numel() for parameter in method.parameters())
    flips = 2 if settings.flip else 1
    maps = sum(flips * _count_values(shape, side) for side in sides) if shape is not None else 0
    # the largest side was measured; a step costs in proportion to the places of its maps
    share = float(np.mean([(side / max(sides)) ** 2 for side in sides]))
    return StepCost(seconds * share / IMAGES, own / IMAGES, WEIGHT_BYTES * weights, 2 * maps)


def estimate_cost(runs: Sequence["DetectorRun"]) -> str:
    """Estimate the time, the memory and the disk of several trainings, as a clause."""
    cost = measure_step(runs[0])
    request = runs[0].protocol.request
    images = len(runs[0].train)
    steps = images // request.batch_size * request.epochs
    hours = steps * request.batch_size * cost.seconds / 3600
    memory = cost.weight_bytes + request.batch_size * cost.image_bytes
    disk = cost.map_bytes * images * len(runs)
    clause = (
        f"{steps:,} steps each, about {_spell_time(hours)} each and"
        f" {_spell_time(hours * len(runs))} in all on this {runs[0].situation.device}; memory"
        f" about {memory / 1e9:.2g} GB"
    )
    return clause + (f"; maps {disk / 1e9:.2g} GB on disk" if disk else "")


def _spell_time(hours: float) -> str:
    """Write a time in minutes, or in hours where it is long.

    >>> _spell_time(0.05), _spell_time(30.0)
    ('3 min', '30 h')
    """
    return f"{60 * hours:.2g} min" if hours < 1 else f"{hours:.3g} h"


def _find_shape(run: "DetectorRun") -> MapShape:
    """The shape of a model's maps, by a pass of one grey image of the smallest side."""
    from sslens.capture import activations
    from sslens.capture.maps import arrange
    from sslens.tasks.detection_maps import View, name_taps

    side = min(run.sides)
    model = View(side).see(run.member.network, run.patch or None)
    taps = name_taps(model, run.protocol.settings.blocks)
    found = activations(model, torch.zeros(1, 3, side, side), taps)
    maps = [arrange(model, model.taps[name], found[name]) for name in taps]
    stride = side // maps[0].shape[1]
    dims = [each.shape[-1] for each in maps]
    alike = len({each.shape[1] for each in maps}) == 1
    return MapShape((sum(dims),) if alike else tuple(dims), stride)


def _count_values(shape: MapShape, side: int) -> int:
    """The values of one image's maps at a side."""
    first = side // shape.stride
    return sum((first // 2**stage) ** 2 * dim for stage, dim in enumerate(shape.dims))


def _make_up(side: int, shape: MapShape | None, method: Detection) -> dict[str, Any]:
    """A minibatch of random maps or images, with objects in random places."""
    rng = np.random.default_rng(0)
    objects = []
    for _ in range(IMAGES):
        corner = rng.uniform(0, 0.6, (OBJECTS, 2)) * side
        boxes = np.concatenate([corner, corner + rng.uniform(0.1, 0.4, (OBJECTS, 2)) * side], 1)
        labels = rng.integers(0, method.detector.heads.classes, OBJECTS)
        masks = torch.zeros(OBJECTS, side, side, dtype=torch.bool) if method.learns_masks else None
        objects.append(Objects(torch.from_numpy(boxes).float(), torch.from_numpy(labels), masks))
    batch: dict[str, Any] = pack_objects(objects)
    batch |= {"sizes": torch.full((IMAGES, 2), side), "noise": torch.arange(IMAGES)}
    if shape is None:
        return batch | {"view": torch.randn(IMAGES, 3, side, side)}
    for stage, dim in enumerate(shape.dims):
        grid = side // shape.stride // 2**stage
        batch[f"map.{stage}"] = torch.randn(IMAGES, grid, grid, dim).half()
    return batch
