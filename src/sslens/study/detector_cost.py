"""The cost of training detectors, estimated before any is trained."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch

from sslens.models.detection.objects import Objects
from sslens.report.writing.numbers import spell_count
from sslens.study.detector_runs import PATCH
from sslens.study.step_cost import take_step
from sslens.tasks.detection import Detection
from sslens.tasks.detection_batch import pack_objects
from sslens.tasks.detection_maps import find_multiple, round_side
from sslens.tasks.detector import MapShape

if TYPE_CHECKING:
    from sslens.study.detector_runs import DetectorRun

#: made-up objects of each image of a step that is measured
OBJECTS = 6
#: seconds that a measured step may take; where one image's step times the minibatch is under it, it
#: is measured with the whole minibatch, as many images together cost less than so many steps
QUICK = 2.0
#: sides of the images of measured steps, in pixels, where the training's own are not smaller: both
#: take seconds with any heads
PROBED = (64, 128)
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
    """Measure steps in the training's precision, with made-up images and objects that are small,
    and say what a step of the training's own images costs.

    A step costs a part that is always the same, and a part in proportion to the places of the maps:
    two sides tell both, and a side that is small itself is measured as it is.

    Args:
        run: the training that the steps are of.
    """
    tuned, network = run.protocol.settings.tuned, run.member.network
    sides = (run.side,) if tuned else run.sides
    largest = max(sides)
    multiple = find_multiple(network, run.patch or PATCH)
    tried = sorted({min(largest, round_side(float(side), multiple)) for side in PROBED})
    shape = None if tuned else _find_shape(run, tried[0])
    request = run.protocol.request
    images = max(1, request.batch_size // request.accumulate)
    if _take_step(run, shape, tried[-1], 1)[0] * images > QUICK:
        images = 1
    costs = [_take_step(run, shape, side, images) for side in tried]
    places = [float(side**2) for side in tried]
    mean = float(np.mean([side**2 for side in sides]))
    flips = 2 if run.protocol.settings.flip else 1
    maps = sum(flips * _count_values(shape, side) for side in sides) if shape is not None else 0
    return StepCost(
        _extrapolate(places, [one[0] for one in costs], mean),
        _extrapolate(places, [one[1] for one in costs], float(largest**2)),
        WEIGHT_BYTES * costs[-1][2],
        2 * maps,
    )


def _take_step(
    run: "DetectorRun", shape: MapShape | None, side: int, images: int
) -> tuple[float, float, int]:
    """The seconds and the bytes of an image, in a step with so many of a side, and the weights that
    the step trains."""
    settings = replace(run.protocol.settings, size=side, classes=run.train.categories)
    device = torch.device(run.situation.device)
    method = Detection(run.member.network, settings, shape, run.train.has_masks).train().to(device)
    batch = {
        name: value.to(device) for name, value in _make_up(side, shape, method, images).items()
    }
    precision = run.protocol.training(run.situation).precision
    seconds, own = take_step(method, batch, settings, precision)
    return (
        seconds / images,
        own / images,
        sum(parameter.numel() for parameter in method.parameters()),
    )


def _extrapolate(places: Sequence[float], costs: Sequence[float], at: float) -> float:
    """The cost at so many places, on the line through one or two costs; it grows with the places.

    >>> _extrapolate([1.0, 4.0], [3.0, 9.0], 16.0)
    33.0
    >>> _extrapolate([1.0, 4.0], [3.0, 2.0], 16.0), _extrapolate([4.0], [2.0], 2.0)
    (3.0, 1.0)
    """
    if len(places) == 1:
        return costs[0] * at / places[0]
    slope = max(0.0, (costs[1] - costs[0]) / (places[1] - places[0]))
    return max(0.0, costs[0] + slope * (at - places[0]))


@final
@dataclass(frozen=True)
class TrainingsCost:
    """The cost of several trainings of one length.

    Attributes:
        count: the number of trainings.
        steps: the steps of each.
        seconds: the time of all; on a CPU of processor time.
        memory: bytes at the peak.
        disk: bytes of all maps that are kept.
        device: where they run.
        precision: in what their steps are computed.
    """

    count: int
    steps: int
    seconds: float
    memory: float
    disk: float
    device: str
    precision: str

    def describe(self) -> str:
        """Describe the cost as a clause.

        >>> cost = TrainingsCost(4, 312, 4800.0, 641e3, 0.0, "cpu", "bfloat16")
        >>> time, memory = cost.describe().split("; ")
        >>> time
        '312 steps in bfloat16 each, about 20 min each and 1.3 h of processor time in all'
        >>> memory
        'memory about 0.64 MB'
        >>> replace(cost, count=5, seconds=60.0).describe().split(", ")[1]  # 5 · 12 s
        'about 12 s each and 1 min of processor time in all; memory about 0.64 MB'
        """
        in_all = "of processor time in all" if self.device == "cpu" else f"in all on {self.device}"
        clause = (
            f"{spell_count(self.steps, 'step')} in {self.precision} each, about"
            f" {_spell_time(self.seconds / self.count)} each and"
            f" {_spell_time(self.seconds)} {in_all}; memory about {_spell_size(self.memory)}"
        )
        return clause + (f"; maps {_spell_size(self.disk)} on disk" if self.disk else "")


def estimate_trainings(runs: Sequence["DetectorRun"]) -> TrainingsCost:
    """Estimate the time, the memory and the disk of several trainings."""
    cost = measure_step(runs[0])
    request = runs[0].protocol.request
    images = len(runs[0].train)
    steps = images // request.batch_size * request.epochs
    return TrainingsCost(
        len(runs),
        steps,
        steps * request.batch_size * cost.seconds * len(runs),
        cost.weight_bytes + request.batch_size * cost.image_bytes,
        float(cost.map_bytes * images * len(runs)),
        runs[0].situation.device,
        runs[0].protocol.training(runs[0].situation).precision,
    )


def _spell_time(seconds: float) -> str:
    """Write a time in seconds where it is under a minute, in minutes under an hour, else in hours.

    A short time is not rounded up to a minute: one training's time times their number has to be
    the time of all.

    >>> [_spell_time(seconds) for seconds in (3.6, 12.0, 180.0, 108_720.0, 6_494_400.0)]
    ['3.6 s', '12 s', '3 min', '30 h', '1,800 h']
    """
    if seconds < 60:
        return f"{_round(seconds)} s"
    return f"{_round(seconds / 60)} min" if seconds < 3600 else f"{_round(seconds / 3600)} h"


def _spell_size(size: float) -> str:
    """Write a size in MB, or in GB where it is large.

    >>> _spell_size(641e3), _spell_size(1.23e9), _spell_size(164e9)
    ('0.64 MB', '1.2 GB', '160 GB')
    """
    return f"{_round(size / 1e9)} GB" if size >= 1e9 else f"{_round(size / 1e6)} MB"


def _round(value: float) -> str:
    """A number of two figures, as people write it."""
    return f"{float(f'{value:.2g}'):,.15g}"


def _find_shape(run: "DetectorRun", side: int) -> MapShape:
    """The shape of a model's maps, by a pass of one grey image of a side."""
    from sslens.capture import activations
    from sslens.capture.maps import arrange
    from sslens.tasks.detection_maps import View, name_taps

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


def _make_up(side: int, shape: MapShape | None, method: Detection, images: int) -> dict[str, Any]:
    """A minibatch of random maps or images, with objects in random places."""
    rng = np.random.default_rng(0)
    objects = []
    for _ in range(images):
        corner = rng.uniform(0, 0.6, (OBJECTS, 2)) * side
        boxes = np.concatenate([corner, corner + rng.uniform(0.1, 0.4, (OBJECTS, 2)) * side], 1)
        labels = rng.integers(0, method.detector.heads.classes, OBJECTS)
        masks = torch.zeros(OBJECTS, side, side, dtype=torch.bool) if method.learns_masks else None
        objects.append(Objects(torch.from_numpy(boxes).float(), torch.from_numpy(labels), masks))
    batch: dict[str, Any] = pack_objects(objects)
    batch |= {"sizes": torch.full((images, 2), side), "noise": torch.arange(images)}
    if shape is None:
        return batch | {"view": torch.randn(images, 3, side, side)}
    for stage, dim in enumerate(shape.dims):
        grid = side // shape.stride // 2**stage
        batch[f"map.{stage}"] = torch.randn(images, grid, grid, dim).half()
    return batch
