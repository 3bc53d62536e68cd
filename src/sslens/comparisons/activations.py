"""The first tap at which two networks compute something else: their activations on the same input,
beside what rounding alone does to them."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float64
from PIL import Image
from torch import Tensor, nn

from sslens.capture import activations
from sslens.models.backbone import Backbone
from sslens.models.taps import Tap
from sslens.statistics.estimate import NAN

#: a difference so many times as large as rounding makes is none of rounding: sums in another order
#: reach twice, and what is no rounding is mostly a hundred times as large
BEYOND = 4.0
#: number types of files that are coarser than float32, the coarsest first
COARSE: Mapping[str, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}
#: one image as a network takes it, and the outputs of its taps
Outputs = Mapping[str, Tensor]


@final
@dataclass(frozen=True)
class TapDifference:
    """The activations of two models at a tap that both have, on all images together.

    Attributes:
        tap: the tap, as the first model has it.
        difference: ‖y_B − y_A‖ / ‖y_A‖; nan where the shapes differ, or y_A is 0.
        rounding: the same of what rounding alone does: of the first model in float64, and, where a
            file is stored in a coarser number type, of either model with its weights rounded to it;
            the largest of them.
    """

    tap: Tap
    difference: float
    rounding: float

    @property
    def beyond(self) -> bool:
        """Whether the difference is none of rounding."""
        return self.difference > BEYOND * self.rounding


@final
@dataclass(frozen=True)
class ActivationPair:
    """The activations of two models.

    Attributes:
        model_a, model_b: the names of the models.
        rounded_to: the number type to which rounding is measured.
        same_view: whether both are shown images alike; here both are shown them as the first one
            is.
        taps: the taps that both have, in the order of computation.
        why: why there are no taps, a clause; empty where there are.
    """

    model_a: str
    model_b: str
    rounded_to: str
    same_view: bool
    taps: tuple[TapDifference, ...]
    why: str = ""


@final
@dataclass(frozen=True)
class ActivationPairs:
    """The first model beside each other one, measured when it is asked for.

    Attributes:
        key: all that decides the numbers, as JSON values.
        measure: runs the models, and returns the pairs in the order of the models.
    """

    key: Sequence[object]
    measure: Callable[[], Sequence[ActivationPair]]


def measure_pairs(
    models: Mapping[str, Backbone],
    pixels: Sequence[Image.Image],
    kinds: Mapping[str, Sequence[str]],
) -> list[ActivationPair]:
    """Compare the activations of the first model with those of each other one.

    Args:
        models: the models by name.
        pixels: the images, as they were decoded.
        kinds: the number types in each model's file, by the model's name; float32 where none is
            given.
    """
    names = list(models)
    return [_measure_pair(names[0], name, models, pixels, kinds) for name in names[1:]]


def _measure_pair(
    name_a: str,
    name_b: str,
    models: Mapping[str, Backbone],
    pixels: Sequence[Image.Image],
    kinds: Mapping[str, Sequence[str]],
) -> ActivationPair:
    a, b = models[name_a], models[name_b]
    stored = {kind for name in (name_a, name_b) for kind in kinds.get(name, ())}
    coarse = next((kind for kind in COARSE if kind in stored), "float32")
    same_view = a.transform.spec() == b.transform.spec()
    shared = [tap for tap in a.taps.values() if tap.name in b.taps]
    if not shared:
        why = "they have no tap of one name"
        return ActivationPair(name_a, name_b, coarse, same_view, (), why)
    if a.transform.crop != b.transform.crop:
        why = f"they see images of {a.transform.crop} and of {b.transform.crop} px"
        return ActivationPair(name_a, name_b, coarse, same_view, (), why)
    copies = [(a, _round_network(a, "float32"))]
    if coarse != "float32":  # whichever file holds the rounded weights: to round them again is none
        copies += [(one, _round_network(one, coarse)) for one in (a, b)]
    sums = {tap.name: np.zeros((1 + len(copies), 2)) for tap in shared}
    for image in pixels:
        x = a.transform.normalise(a.transform.crop_image(image)[None])
        outputs = {id(model): activations(model.to("cpu"), x, list(sums)) for model in (a, b)}
        _add_squares(sums, 0, outputs[id(a)], outputs[id(b)])
        for place, (one, (rounded, dtype)) in enumerate(copies, 1):
            near = activations(rounded, x.to(dtype), list(sums))
            _add_squares(sums, place, outputs[id(one)], near)
    taps = tuple(TapDifference(tap, *_divide(sums[tap.name])) for tap in shared)
    return ActivationPair(name_a, name_b, coarse, same_view, taps)


def _round_network(model: Backbone, kind: str) -> tuple[Backbone, torch.dtype]:
    """Copy a model, with its weights rounded to a number type, or for float32 in float64."""
    network: nn.Module = copy.deepcopy(model.network)
    dtype = torch.float64 if kind == "float32" else torch.float32
    if kind != "float32":
        network = network.to(COARSE[kind])
    rounded = Backbone(
        network.to(dtype),
        name=model.name,
        source=model.source,
        taps=model.every,
        transform=model.transform,
        prefix=model.prefix,
        about=model.about,
    )
    return rounded, dtype


def _add_squares(
    sums: Mapping[str, Float64[np.ndarray, "pair 2"]], place: int, own: Outputs, other: Outputs
) -> None:
    """Add ‖z − y‖² and ‖y‖² of each tap to the sums, in float64; nan of outputs of other shapes."""
    for name, total in sums.items():
        y, z = own[name].double(), other[name].double()
        square = ((z - y) ** 2).sum().item() if z.shape == y.shape else NAN
        total[place] += square, (y * y).sum().item()


def _divide(sums: Float64[np.ndarray, "pair 2"]) -> tuple[float, float]:
    """The relative difference of the two models, and the largest one of a model and its copy."""
    if not (sums[:, 1] > 0).all():
        return NAN, NAN
    difference, *rounding = np.sqrt(sums[:, 0] / sums[:, 1]).tolist()
    return difference, max(rounding)
