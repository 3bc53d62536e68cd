"""Two models' weights side by side, tensor by tensor."""

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from sslens.comparisons.inputs import Models
from sslens.comparisons.weight_changes import (
    BUFFERS,
    LEAST_SHARED,
    Change,
    find_kinds,
    list_backbone,
    list_blocks,
    measure_all,
    sort_by_computation,
)
from sslens.zoo.weights import NamedTensor, Weights

#: the weights of all models that have any, by the model's name
WeightSets = Mapping[str, Weights]


@final
@dataclass(frozen=True, eq=False)
class TensorPair:
    """A tensor of two models, or of one of them alone.

    Attributes:
        name: the name of the tensor.
        a: the first model's; None where it has none.
        b: the second model's; None where it has none.
        change: what changed from a to b; None where the two cannot be compared.
    """

    name: str
    a: NamedTensor | None
    b: NamedTensor | None
    change: Change | None = None

    @property
    def first(self) -> NamedTensor:
        """The first model's tensor, or else the second model's."""
        one = self.a or self.b
        assert one is not None
        return one

    @property
    def state(self) -> str:
        """What is to be said of it: the state of the change, "only in A", "only in B", "of another
        shape" or "of another number type"."""
        if self.a is None or self.b is None:
            return "only in B" if self.a is None else "only in A"
        if self.change is not None:
            return self.change.state
        same = self.a.value.shape == self.b.value.shape
        return "of another number type" if same else "of another shape"


@final
@dataclass(frozen=True, eq=False)
class WeightPair:
    """The weights of two models.

    Attributes:
        model_a, model_b: the names of the models.
        a, b: their weights.
        tensors: all tensors of both, in the order of computation.
    """

    model_a: str
    model_b: str
    a: Weights
    b: Weights
    tensors: Sequence[TensorPair]

    @functools.cached_property
    def kinds(self) -> Mapping[str, str]:
        """The kind of layer of each tensor, by its name (`find_kinds`); parameters beside the
        backbone, such as a projector's or a decoder's, are a head's."""
        kinds = find_kinds({one.name: one.first.value for one in self.tensors})
        beside = {one.name for one in self.tensors if one.first.beside}
        return {
            name: "head" if name in beside and kind not in (*BUFFERS, "counter") else kind
            for name, kind in kinds.items()
        }

    @property
    def counted(self) -> list[TensorPair]:
        """The tensors of both without counters, such as of the batches that were seen."""
        return [one for one in self.tensors if self.kinds[one.name] != "counter"]

    @property
    def compared(self) -> list[tuple[TensorPair, Change]]:
        """The tensors that both have in one shape, with the change of each; without counters."""
        return [(one, one.change) for one in self.counted if one.change is not None]

    @property
    def is_of_one_network(self) -> bool:
        """Whether the backbones have as many blocks, and each shares enough of its tensors with the
        other (`LEAST_SHARED`), so that the two are states of one network: of 4 and 6 blocks the
        first 4 have the names and shapes of a network of 4. Two heads alone have no backbone."""
        if self.count_blocks("a") != self.count_blocks("b"):
            return False
        first, second = (self.count_backbone(side) for side in ("a", "b"))
        return self.count_backbone("both") >= LEAST_SHARED * max(first, second)

    def count_blocks(self, side: str) -> int:
        """Count the blocks of a backbone.

        Args:
            side: whose they are, "a" or "b".
        """
        own = [one.name for one in self.counted if getattr(one, side) is not None]
        return len(list_blocks(list_backbone(own, [self.kinds[name] for name in own])))

    def count_backbone(self, side: str) -> int:
        """Count the parameters of a backbone, as tensors: of one model, or those that both have in
        one shape.

        Args:
            side: whose they are, "a", "b" or "both".
        """
        own = [one for one in self.counted if self.kinds[one.name] not in (*BUFFERS, "head")]
        if side == "both":
            return sum(one.change is not None for one in own)
        return sum(getattr(one, side) is not None for one in own)


def list_pairs(models: Models, weights: WeightSets) -> Iterator[WeightPair]:
    """Lay the first model under study beside each other one; models without weights are left
    out."""
    names = [name for name in models.studied if name in weights]
    for name in names[1:]:
        yield compare_weights((names[0], weights[names[0]]), (name, weights[name]))


def compare_weights(first: tuple[str, Weights], second: tuple[str, Weights]) -> WeightPair:
    """Compare two models' weights, tensor by tensor.

    Args:
        first, second: name and weights of each model.
    """
    (name_a, a), (name_b, b) = first, second
    names = sort_by_computation({**a.tensors, **b.tensors})
    fitting = [name for name in names if _fit(a.tensors.get(name), b.tensors.get(name))]
    changes = measure_all(
        [(a.tensors[name].value, b.tensors[name].value) for name in fitting],
        threads=_count_cores(),
    )
    measured: Mapping[str, Change] = dict(zip(fitting, changes, strict=True))
    tensors = [
        TensorPair(name, a.tensors.get(name), b.tensors.get(name), measured.get(name))
        for name in names
    ]
    return WeightPair(name_a, name_b, a, b, tensors)


def _fit(a: NamedTensor | None, b: NamedTensor | None) -> bool:
    """Whether two tensors have one shape, and both are of floating-point numbers or neither."""
    if a is None or b is None or not a.value.size:
        return False
    return a.value.shape == b.value.shape and a.value.is_floating == b.value.is_floating


def _count_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
