"""The blocks of any network, found from its modules and from one run of it."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import final

from torch import nn

from sslens.models.tracing import Call

#: modules that hold others and have no forward pass of their own
_PLAIN = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
#: the share of a network's weights above which a module that is there once is looked into
_SHARE = 0.15
#: the share of a stage's weights that are its blocks'
_MOST = 0.4
#: how much shorter than a stage's output the output of its last block may be: a CLS token is
#: taken off, or put on
_ALIKE = 0.1
#: in the names of classes of modules between stages, which make maps smaller
_SMALLER = re.compile(r"down|merg|transition|pool|embed|reduc", re.IGNORECASE)


def find_blocks(network: nn.Module, calls: Mapping[str, Call]) -> list[str]:
    """Find the blocks of a network in the order in which they run.

    Blocks are the repeated children of a network or of its stages: the modules of its lists and
    sequences, but of a stage its own blocks. A stage is a module with blocks in a row, each of
    which puts out as much as the stage. Modules between stages that make maps smaller, by the name
    of their class, are not among them. A network without repeated children has a block for each
    layer of weights, with the normalisation and the activation after it.

    Args:
        network: the network.
        calls: what `sslens.models.tracing.trace` returned.

    >>> import torch
    >>> from sslens.models.tracing import trace
    >>> class Block(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.mlp = nn.Linear(4, 4)
    ...     def forward(self, x):
    ...         return x + self.mlp(x)
    >>> network = nn.Sequential(nn.Linear(3, 4), nn.Sequential(Block(), Block()))
    >>> find_blocks(network, trace(network, torch.zeros(2, 3)))
    ['1.0', '1.1']
    >>> plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 8, 3))
    >>> find_blocks(plain, trace(plain, torch.zeros(2, 3, 9, 9)))
    ['1', '3']
    """
    search = _Search(network, calls)
    units = search.find(network, "")
    readable = [unit for unit in units if unit.name in calls and calls[unit.name].is_readable]
    # classifiers are left out where there are tokens or maps
    spatial = [unit for unit in readable if len(calls[unit.name].shape) > 1]
    blocks = _choose_repeated(spatial or readable, calls)
    names = [unit.name for unit in blocks]
    if len(names) < 2:
        names = _list_layers(network, calls)
    return sorted(names, key=lambda name: calls[name].order)


@final
@dataclass(frozen=True)
class _Unit:
    """A module that may be a block."""

    name: str
    module: nn.Module
    #: the list or sequence that it is in; empty for a child of the network itself
    holder: str

    @property
    def kind(self) -> type[nn.Module]:
        return type(self.module)

    @property
    def top(self) -> str:
        """The child of the network that the module is, or is in."""
        return self.name.partition(".")[0]


@final
class _Search:
    """Looks for units in a network."""

    def __init__(self, network: nn.Module, calls: Mapping[str, Call]) -> None:
        self.network, self.calls = network, calls
        self.kinds = Counter(type(module) for module in network.modules())
        self._stages: dict[type[nn.Module], bool] = {}

    def find(self, module: nn.Module, name: str) -> list[_Unit]:
        """List the units of the network, or of a module that is most of it."""
        units: list[_Unit] = []
        for child_name, child in module.named_children():
            path = _join(name, child_name)
            if _is_plain(child):
                units += _list_units(path, child)
            elif not is_leaf(child):
                units.append(_Unit(path, child, ""))
        return [inner for unit in units for inner in self._open(unit)]

    def _open(self, unit: _Unit) -> list[_Unit]:
        """The blocks of a stage, the units of what is most of the network, or the unit itself."""
        if self._is_stage(unit.kind):
            inner = _list_inner(unit.name, unit.module)
            return [block for one in inner for block in self._open(one)]
        if (
            self.kinds[unit.kind] == 1
            and _count_weights(unit.module) > _SHARE * _count_weights(self.network)
            and unit.name in self.calls
        ):
            units = self.find(unit.module, unit.name)
            if _are_repeated(units):
                return units
        return [unit]

    def _is_stage(self, kind: type[nn.Module]) -> bool:
        """Whether modules of a class are stages: in all that ran a row of blocks puts out what the
        module does, these are most of their weights, and one of them has several."""
        if kind not in self._stages:
            self._stages[kind] = False  # a stage in a stage of its own kind is a block
            own = [
                (name, module)
                for name, module in self.network.named_modules()
                if type(module) is kind and name in self.calls
            ]
            inner = [_list_inner(name, module) for name, module in own]
            whole = sum(_count_weights(module) for _, module in own)
            within = sum(_count_weights(unit.module) for units in inner for unit in units)
            self._stages[kind] = (
                max(map(len, inner), default=0) > 1
                and all(inner)
                and within > _MOST * whole
                and all(
                    self._are_a_row(name, units)
                    for (name, _), units in zip(own, inner, strict=True)
                )
            )
        return self._stages[kind]

    def _are_a_row(self, name: str, units: Sequence[_Unit]) -> bool:
        """Whether units run one after another, and the last puts out what the module of this name
        does, or each as much."""
        calls = [self.calls.get(unit.name) for unit in units]
        ran = [call for call in calls if call is not None and call.is_readable]
        outputs = [call.output for call in ran if call.output is not None]
        whole = self.calls[name].output
        if whole is None or len(ran) < len(units):
            return False
        if any(one.given is two.given is not None for one, two in pairwise(ran)):
            return False  # branches beside each other
        # a module's own children are its blocks only where it is nothing but their row
        alike = all(_are_alike(out.numel(), whole.numel()) for out in outputs)
        same = outputs[-1] is whole and ran[-1].changes == self.calls[name].changes
        return same or (alike and bool(units[0].holder))


def _are_alike(one: int, other: int) -> bool:
    return abs(one / other - 1) < _ALIKE


def _join(name: str, child: str) -> str:
    return f"{name}.{child}" if name else child


def _is_plain(module: nn.Module) -> bool:
    return type(module) in _PLAIN


def is_leaf(module: nn.Module) -> bool:
    """Whether a module is a single layer: none of its children has weights."""
    return not any(_count_weights(child) for child in module.children())


def _count_weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _list_units(name: str, holder: nn.Module) -> list[_Unit]:
    """List the modules in a list or a sequence, and in those in it; a sequence of single layers, or
    of which a good part are single layers, is itself one."""
    children = list(holder.named_children())
    layers = sum(
        parameter.numel()
        for _, child in children
        if is_leaf(child)
        for parameter in child.parameters()
        if parameter.ndim > 1
    )
    compound = [child for _, child in children if not is_leaf(child)]
    if not compound or layers > 0.5 * _count_weights(holder):
        return [_Unit(name, holder, name.rpartition(".")[0])] if _count_weights(holder) else []
    units: list[_Unit] = []
    for child_name, child in children:
        path = _join(name, child_name)
        if _is_plain(child):
            units += _list_units(path, child)
        elif not is_leaf(child):
            units.append(_Unit(path, child, name))
    return units


def _list_inner(name: str, module: nn.Module) -> list[_Unit]:
    """List what may be the blocks of a stage: what is in its lists and sequences, or its numbered
    children."""
    children = list(module.named_children())
    if isinstance(module, _PLAIN):
        return [unit for unit in _list_units(name, module) if unit.name != name]
    rows = [
        _list_units(_join(name, child_name), child)
        for child_name, child in children
        if _is_plain(child) and not all(is_leaf(one) for one in child.children())
    ]
    if rows:
        return max(rows, key=lambda row: sum(_count_weights(unit.module) for unit in row))
    weighted = [(path, child) for path, child in children if _count_weights(child)]
    stems = {re.sub(r"\d+$", "", path) for path, _ in weighted}
    kinds = {type(child) for _, child in weighted}
    if any(is_leaf(child) or _is_plain(child) for _, child in weighted):
        return []
    if len(stems) == 1 == len(kinds):
        return [_Unit(_join(name, path), child, "") for path, child in weighted]
    return []


def _choose_repeated(units: Sequence[_Unit], calls: Mapping[str, Call]) -> list[_Unit]:
    """Leave out what is no block: the layers before the first, what is there once, and what only
    makes maps smaller."""
    units = _drop_stem(units, calls)
    named = [unit for unit in units if not _is_plain(unit.module)]
    if _are_repeated(named):
        units = named
    count = Counter(unit.kind for unit in units)
    repeated = [unit for unit in units if count[unit.kind] > 1]
    if not repeated:
        return []
    tops = {unit.top for unit in repeated if unit.holder}
    orders = [calls[unit.name].order for unit in repeated]
    chosen = [
        unit
        for unit in units
        if unit.top in tops
        or (not unit.holder and min(orders) <= calls[unit.name].order <= max(orders))
    ]
    chosen = _drop_small(chosen)
    return [
        unit
        for unit in chosen
        if not (_SMALLER.search(unit.kind.__name__) and _has_fewer_places(calls[unit.name]))
    ]


def _are_repeated(units: Sequence[_Unit]) -> bool:
    return max(Counter(unit.kind for unit in units).values(), default=0) > 1


def _count_all(units: Sequence[_Unit]) -> int:
    return sum(_count_weights(unit.module) for unit in units)


def _drop_stem(units: Sequence[_Unit], calls: Mapping[str, Call]) -> list[_Unit]:
    """Leave out what is given the images, with all that is in the same child of the network unless
    that is most of it."""
    images = next(iter(calls.values())).given
    stems = {unit.top for unit in units if calls[unit.name].given is images}
    others = [unit for unit in units if unit.top not in stems]
    if _are_repeated(others) and _count_all(others) > 0.5 * _count_all(units):
        return others
    rest = [unit for unit in units if calls[unit.name].given is not images]
    return rest if _are_repeated(rest) else list(units)


def _drop_small(units: Sequence[_Unit]) -> list[_Unit]:
    """Leave out children of the network with next to no weights and with units of no other child's
    class, such as positions that convolutions make."""
    tops: dict[str, list[_Unit]] = {}
    for unit in units:
        tops.setdefault(unit.top, []).append(unit)
    shared = Counter(kind for row in tops.values() for kind in {unit.kind for unit in row})
    small = {
        top
        for top, row in tops.items()
        if all(shared[unit.kind] == 1 for unit in row)
        and _count_all(row) < 0.01 * _count_all(units)
    }
    return [unit for unit in units if unit.top not in small]


def _has_fewer_places(call: Call) -> bool:
    """Whether a module puts out fewer places or tokens than it is given."""
    if call.given is None or call.given.ndim < 3:
        return False
    return _count_places(call.shape) < _count_places(tuple(call.given.shape[1:]))


def _count_places(shape: Sequence[int]) -> int:
    """Count the tokens, or the places of a map; two equal sides are rows and columns."""
    if len(shape) < 3:
        return shape[0]
    return shape[0] * shape[1] if shape[0] == shape[1] != shape[2] else shape[1] * shape[2]


def _list_layers(network: nn.Module, calls: Mapping[str, Call]) -> list[str]:
    """List each layer of weights by the last normalisation or activation that follows it at once;
    after a pooling to vectors there are none."""
    rows: list[list[Call]] = []
    for call in _iterate_leaves(calls):
        weighted = any(parameter.ndim > 1 for parameter in call.module.parameters(recurse=False))
        if weighted:
            rows.append([call])
        elif rows and call.given is rows[-1][-1].output and _is_follower(call):
            rows[-1].append(call)
    spatial = [row for row in rows if len(row[-1].shape) > 1]
    chosen = spatial if len(spatial) > 1 else rows
    return [row[-1].name for row in chosen if row[-1].is_readable]


def _iterate_leaves(calls: Mapping[str, Call]) -> Iterator[Call]:
    return (call for call in calls.values() if is_leaf(call.module) and call.output is not None)


def _is_follower(call: Call) -> bool:
    """Whether a module is a normalisation or an activation, which keeps the shape."""
    pooling = "pool" in type(call.module).__name__.lower()
    given = call.given
    return not pooling and given is not None and tuple(given.shape[1:]) == call.shape
