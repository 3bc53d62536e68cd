"""How far the weights of one network lie from those of another: sums over tensors and groups."""

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64, UInt16

from sslens.models.parts import (
    find_block,
    find_buffer,
    find_kind_of_layer,
    find_kinds_of_layers,
)
from sslens.statistics.estimate import NAN
from sslens.zoo.arrays import Array

#: numbers that are taken to float64 at a time: few enough for a core's cache
CHUNK = 1 << 16
#: the number types to which two tensors may be equal but for rounding, the finer one first
ROUNDED = ("float16", "bfloat16")
#: the share of the tensors of each backbone that both must have, by name and shape, so that their
#: difference is the change of one network: adapters beside each attention leave over 3 in 4
LEAST_SHARED = 2 / 3
#: the state of two models that have less in common, and of two that have nothing
OTHER_NETWORKS, NOTHING = "other networks", "nothing in common"
#: the parts of a block in the order of computation, each by a part of a name
WITHIN = ("norm1", "qkv", "attn", "attention", "ls1", "norm2", "fc1", "fc2")
#: kinds of tensors that are no parameters
BUFFERS = ("statistics", "counter")
_FIRST_OF_MLP = re.compile(r"fc1|intermediate|linear1|c_fc|w12|pwconv1|w1\.")
_NUMBERS = re.compile(r"\d+")
Flat = Float64[np.ndarray, " number"]


@final
@dataclass(frozen=True)
class Change:
    """Sums over the numbers a of a tensor and the numbers b of its counterpart, with d = b − a.

    Attributes:
        numbers: how many there are.
        equal: how many are equal.
        square_a: Σ a².
        square_b: Σ b².
        square: Σ d².
        along: Σ d·a.
        largest: the largest |d|.
        rounded: the types of `ROUNDED` to which all a and b round alike.
        broken: how many a or b are not finite.
    """

    numbers: int = 0
    equal: int = 0
    square_a: float = 0.0
    square_b: float = 0.0
    square: float = 0.0
    along: float = 0.0
    largest: float = 0.0
    rounded: tuple[str, ...] = ROUNDED
    broken: int = 0

    def __add__(self, other: "Change") -> "Change":
        return Change(
            self.numbers + other.numbers,
            self.equal + other.equal,
            self.square_a + other.square_a,
            self.square_b + other.square_b,
            self.square + other.square,
            self.along + other.along,
            max(self.largest, other.largest),
            tuple(kind for kind in self.rounded if kind in other.rounded),
            self.broken + other.broken,
        )

    @property
    def relative(self) -> float:
        """‖b − a‖ / ‖a‖; nan where all a are 0."""
        return float((self.square / self.square_a) ** 0.5) if self.square_a > 0 else NAN

    @property
    def angle(self) -> float:
        """The angle between a and b in degrees, exact for small ones too; nan where one is 0.

        With d split along a and across it, tan = ‖d across‖ / (‖a‖ + d along): the cosine loses all
        digits of an angle below 1e-6.
        """
        if not (self.square_a > 0 and self.square_b > 0):
            return NAN
        length = self.square_a**0.5
        along = self.along / length
        across = max(0.0, self.square - along**2) ** 0.5
        return float(np.degrees(np.arctan2(across, length + along)))

    @property
    def cosine(self) -> float:
        """The cosine of a and b; nan where one is 0."""
        if not (self.square_a > 0 and self.square_b > 0):
            return NAN
        return float((self.square_a + self.along) / (self.square_a * self.square_b) ** 0.5)

    @property
    def stretch(self) -> float:
        """d·a / ‖a‖²: how much longer a became along itself; nan where all a are 0."""
        return self.along / self.square_a if self.square_a > 0 else NAN

    @property
    def state(self) -> str:
        """What is to be said of it, a word or two: "equal", "equal in float16", "equal in
        bfloat16", "not finite" or "changed"."""
        if self.broken:
            return "not finite"
        if self.equal == self.numbers:
            return "equal"
        return f"equal in {self.rounded[0]}" if self.rounded else "changed"

    def columns(self) -> dict[str, int | float]:
        """Return the numbers of a row of a table."""
        return {
            "parameters": self.numbers,
            "norm_a": self.square_a**0.5,
            "norm_b": self.square_b**0.5,
            "change": self.square**0.5,
            "relative": self.relative,
            "angle": self.angle,
            "cosine": self.cosine,
            "stretch": self.stretch,
            "largest": NAN if self.broken else self.largest,
        }


def join_changes(changes: Iterable[Change]) -> Change:
    """Add the sums of several tensors.

    >>> join_changes([Change(2, 2, 9.0, 9.0), Change(1, 0, 16.0, 4.0, 4.0, -8.0, 2.0, ())]).relative
    0.4
    """
    return functools.reduce(Change.__add__, changes, Change())


def measure_change(a: Array, b: Array) -> Change:
    """Measure the change from one tensor to another of the same shape, in float64.

    Args:
        a: the first tensor.
        b: the second tensor.

    >>> one = Array(np.array([3.0, 4.0], np.float32), "float32")
    >>> other = Array(np.array([3.0, 1.0], np.float32), "float32")
    >>> change = measure_change(one, other)  # d = (0, −3) against ‖a‖ = 5
    >>> change.relative, change.equal, change.along, change.state
    (0.6, 1, -12.0, 'changed')
    >>> measure_change(one, one).state
    'equal'
    """
    first, second = a.raw.reshape(-1), b.raw.reshape(-1)
    total = Change()
    for start in range(0, len(first), CHUNK):
        part = slice(start, start + CHUNK)
        x, y = (Array(raw[part], array.kind).values for raw, array in ((first, a), (second, b)))
        total += _measure_chunk(x, y, total.rounded)
    return total


def measure_all(pairs: Sequence[tuple[Array, Array]], threads: int) -> list[Change]:
    """Measure the changes of several tensors on several threads, in their order."""
    with ThreadPoolExecutor(threads, "change") as pool:
        return list(pool.map(lambda pair: measure_change(*pair), pairs))


def _measure_chunk(x: np.ndarray, y: np.ndarray, rounded: tuple[str, ...]) -> Change:
    """Measure some numbers; `rounded` are the types that are still to be tried."""
    a = x.astype(np.float64)
    square_a = _dot(a, a)
    if x.dtype == y.dtype and np.isfinite(square_a) and np.array_equal(x, y):
        return Change(len(x), len(x), square_a, square_a)
    b = y.astype(np.float64)
    square_b = _dot(b, b)
    if not np.isfinite(square_a + square_b):
        broken = int((~(np.isfinite(a) & np.isfinite(b))).sum())
        return Change(len(x), int((a == b).sum()), NAN, NAN, NAN, NAN, NAN, (), broken)
    d = b - a
    return Change(
        len(x),
        int((a == b).sum()),
        square_a,
        square_b,
        _dot(d, d),
        _dot(d, a),
        float(np.abs(d).max()),
        tuple(kind for kind in rounded if _round_alike(a, b, kind)),
    )


def _dot(one: Flat, other: Flat) -> float:
    # not BLAS, whose threads would wait for one another below these
    return float(np.einsum("i,i->", one, other))


def _round_alike(a: Flat, b: Flat, kind: str) -> bool:
    """Whether all numbers round to the same numbers of a coarser type."""
    if kind == "float16":
        with np.errstate(over="ignore"):
            return bool((a.astype(np.float16) == b.astype(np.float16)).all())
    return bool((_round_to_bfloat16(a) == _round_to_bfloat16(b)).all())


def _round_to_bfloat16(values: Flat) -> UInt16[np.ndarray, " number"]:
    """Round to the nearest bfloat16, ties to even; the numbers' bits, with one zero."""
    bits = (values.astype(np.float32) + np.float32(0.0)).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def find_kinds(tensors: Mapping[str, Array]) -> dict[str, str]:
    """Return the kind of layer of each tensor, as `find_kinds_of_layers` does, with the two layers
    of an MLP apart; buffers are of the kinds "statistics" and "counter".

    >>> names = ("mlp.fc1.weight", "mlp.fc2.bias", "attn.qkv.weight", "norm1.running_var")
    >>> value = Array(np.ones((2, 2), np.float32), "float32")
    >>> list(find_kinds({f"blocks.0.{name}": value for name in names}).values())
    ['mlp fc1', 'mlp fc2', 'attention qkv', 'statistics']
    """
    kinds = find_kinds_of_layers({name: value.ndim for name, value in tensors.items()})
    for name, kind in kinds.items():
        if buffer := find_buffer(name, tensors[name].kind):
            kinds[name] = buffer
        elif kind == "mlp":
            kinds[name] = "mlp fc1" if _FIRST_OF_MLP.search(name) else "mlp fc2"
    return kinds


def sort_by_computation(names: Iterable[str]) -> list[str]:
    """Sort tensors as their layers are computed: embeddings, blocks by number and in each by layer,
    then what follows; the biases of a layer after its weights.

    >>> names = ["norm.bias", "blocks.10.norm1.bias", "blocks.2.mlp.fc1.weight", "pos_embed"]
    >>> sort_by_computation([*names, "blocks.2.attn.qkv.weight"])[:3]
    ['pos_embed', 'blocks.2.attn.qkv.weight', 'blocks.2.mlp.fc1.weight']
    """

    def place(name: str) -> tuple[int, list[int], int, bool, str]:
        block, kind = find_block(name), find_kind_of_layer(name)
        stage = 1 if block is not None else 0 if kind == "embedding" else 3 if kind == "head" else 2
        within = next((i for i, part in enumerate(WITHIN) if part in name), len(WITHIN))
        numbers = [int(number) for number in _NUMBERS.findall(block or "")]
        return stage, numbers, within, name.endswith("bias"), name

    return sorted(names, key=place)


def list_blocks(names: Iterable[str]) -> list[str]:
    """List the numbers of the blocks that tensors are in, in the order of computation.

    >>> list_blocks(["blocks.10.norm1.bias", "blocks.9.norm1.bias", "pos_embed"])
    ['9', '10']
    """
    blocks = {block for name in names if (block := find_block(name)) is not None}
    return sorted(blocks, key=lambda block: [int(number) for number in _NUMBERS.findall(block)])


def list_groups(names: Sequence[str], kinds: Sequence[str]) -> Iterator[tuple[str, str, list[int]]]:
    """List groups of tensors, each with its block, its kind and the places of its tensors; a group
    of a whole block has the kind "" and one of all blocks the block "".

    The first group is all of the backbone's parameters, then come kinds, blocks, and kinds within
    blocks. The head is only the backbone's where there is nothing else, and statistics are in no
    group but their own: they are no parameters.

    >>> names = ["pos_embed", "blocks.0.bn1.bias", "blocks.0.bn1.running_var", "head.bias"]
    >>> kinds = ["embedding", "norm", "statistics", "head"]
    >>> [group for group in list_groups(names, kinds)][:3]
    [('', '', [0, 1]), ('', 'embedding', [0]), ('', 'norm', [1])]
    >>> [group for group in list_groups(names, kinds)][5:]
    [('0', '', [1]), ('0', 'norm', [1]), ('0', 'statistics', [2])]
    """
    yield "", "", _list_backbone(range(len(names)), kinds)
    own_blocks = {name: find_block(name) or "" for name in list_backbone(names, kinds)}
    blocks = [own_blocks.get(name, "") for name in names]  # a decoder's blocks are none
    for kind in dict.fromkeys(kinds):
        yield "", kind, [place for place, own in enumerate(kinds) if own == kind]
    for block in list_blocks(own_blocks):
        inside = [place for place, own in enumerate(blocks) if own == block]
        yield block, "", _list_backbone(inside, kinds)
        for kind in dict.fromkeys(kinds[place] for place in inside):
            yield block, kind, [place for place in inside if kinds[place] == kind]


def list_backbone(names: Sequence[str], kinds: Sequence[str]) -> list[str]:
    """List the tensors that are in no head.

    >>> list_backbone(["blocks.0.norm1.bias", "decoder_blocks.0.norm1.bias"], ["norm", "head"])
    ['blocks.0.norm1.bias']
    """
    return [name for name, kind in zip(names, kinds, strict=True) if kind != "head"]


def _list_backbone(places: Iterable[int], kinds: Sequence[str]) -> list[int]:
    """The places of a backbone's parameters among some; of a head's if there are no others."""
    trained = [place for place in places if kinds[place] not in BUFFERS]
    return [place for place in trained if kinds[place] != "head"] or trained
