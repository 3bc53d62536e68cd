"""What the header of a generator's file says, checked before anything is built of it."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from torch import Tensor

from sslens.data.transform import EvalTransform
from sslens.diffusion.adapters import WAYS
from sslens.diffusion.process import Process
from sslens.errors import InputError
from sslens.models.dit import DiTShape
from sslens.models.sketching import sketch_networks
from sslens.models.unet import UNetShape
from sslens.tasks.diffusion_settings import make_process, make_shape
from sslens.tasks.representations import Condition

#: the largest width, side or count of a network or a process; the most models
LARGEST, MODELS = 1 << 20, 256
#: pixels of the largest side of generated images; the tensors of a UNet do not tell its side
SIDE = 512
#: the names in the file of the network's tensors begin so
NETWORK = "network."
#: the numbers of a description that may be fractions, by their names
FRACTIONS = ("dropout", "mean", "std", "deviation", "nearest_end")


@final
@dataclasses.dataclass(frozen=True)
class Description:
    """A generator as its file describes it.

    Attributes:
        network: the shape of the network, which is of the tensors that the file holds.
        process: turns noise into images by the network.
        conditions: the features that are taken, by the name of the model.
        preparation: what is done to the features, one of `WAYS`.
    """

    network: UNetShape | DiTShape
    process: Process
    conditions: Mapping[str, Condition]
    preparation: str


def read_description(said: Any, tensors: Mapping[str, Tensor], file: Path) -> Description:
    """Read the entry of a file's header that describes a generator.

    Args:
        said: the entry.
        tensors: the tensors of the file.
        file: the file, for messages.

    Raises:
        InputError: the entry is damaged, or describes another network than the file's tensors are
            of, or one that cannot be.
    """
    try:
        _require_numbers(said, "")
        description = Description(
            network=make_shape(said["network"]),
            process=make_process(said["process"]),
            conditions=_read_conditions(said["conditions"]),
            preparation=said["preparation"],
        )
        if description.preparation not in WAYS:
            raise ValueError(f"features cannot be prepared by {description.preparation!r:.40}")
        _require_tensors(description, tensors)
    except (LookupError, TypeError, AttributeError, ValueError, InputError) as error:
        raise InputError(
            f"{file} is damaged: its header describes no generator ({error})", mend="copy it again"
        ) from error
    return description


def _require_numbers(value: Any, name: str) -> None:
    """Raise ValueError where a number is negative, beyond any network, not finite, or a fraction
    that must be whole."""
    if isinstance(value, dict):
        for key, part in value.items():
            _require_numbers(part, key)
    elif isinstance(value, list):
        if len(value) > MODELS:
            raise ValueError(f"its {name[:40]} has {len(value):,} entries")
        for part in value:
            _require_numbers(part, name)
    elif type(value) in (int, float):
        low = -LARGEST if name in FRACTIONS else 0
        whole = type(value) is int or name in FRACTIONS
        if not whole or not math.isfinite(value) or not low <= value <= LARGEST:
            raise ValueError(f"its {name[:40]} is {str(value)[:40]}")


def _read_conditions(said: Any) -> dict[str, Condition]:
    """The features that a generator takes, by the name of the model."""
    conditions = {}
    for values in said:
        condition = Condition(**values)
        for field in dataclasses.fields(Condition):
            value = getattr(condition, field.name)
            if field.type is str and not isinstance(value, str):
                raise TypeError(f"the {field.name} of a condition is no text")
        if type(condition.dim) is not int or condition.dim < 1:
            raise ValueError(f"{condition.dim} features of {condition.model}")
        settings: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in condition.transform.items()
        }
        EvalTransform(**settings)
        conditions[condition.model] = condition
    if not conditions:
        raise ValueError("it takes features of no model")
    return conditions


def _require_tensors(description: Description, tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless the network's tensors are those of the file, before it is built."""
    shape = description.network
    if shape.size > SIDE:
        raise ValueError(f"images of {shape.size:,} px, over {SIDE}")
    stages = shape.blocks * (len(shape.multipliers) if isinstance(shape, UNetShape) else 1)
    if stages > len(tensors):  # each has several
        raise ValueError(f"a network of {stages:,} blocks in {len(tensors):,} tensors")
    try:
        with sketch_networks():
            expected = shape.build().state_dict()
    except (RuntimeError, MemoryError) as error:
        raise ValueError("its network is larger than any that can be built") from error
    present = {
        name.removeprefix(NETWORK): value
        for name, value in tensors.items()
        if name.startswith(NETWORK)
    }
    for name in sorted(expected.keys() | present.keys()):
        wanted, found = expected.get(name), present.get(name)
        if wanted is None or found is None:
            raise ValueError(
                f"{name} is {'missing' if found is None else 'left over'}, as the network is"
                " described"
            )
        if wanted.shape != found.shape or not found.is_floating_point():
            raise ValueError(
                f"{name} has the shape {list(found.shape)} and the type {found.dtype}: expected"
                f" {list(wanted.shape)}"
            )
        if not found.isfinite().all():
            raise ValueError(f"{name} has values that are not finite")
    dims = [condition.dim for condition in description.conditions.values()]
    width = sum(dims) + (len(dims) if len(dims) > 1 else 0)
    if shape.condition != width:
        raise ValueError(
            f"the network takes {shape.condition} features, and its models have {dims}"
        )
