"""Reading one network of a file: its tensors in timm's names, its architecture, and the modules at
its top that no network has."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import final

from sslens.counts import spell_count
from sslens.errors import InputError, nearest
from sslens.find import plugin
from sslens.zoo.accounting import find_twin
from sslens.zoo.architecture import Architecture, read_heads
from sslens.zoo.arrays import Array
from sslens.zoo.attention import HEADS as USUAL
from sslens.zoo.attention import UnknownHeads
from sslens.zoo.claim import Claim, Entry, Piece, find_reason
from sslens.zoo.faults import Asked, Fault, doubt_parts
from sslens.zoo.files import Contents
from sslens.zoo.hints import Hints
from sslens.zoo.malformed import require_usable
from sslens.zoo.parts import ASKED, AT_ROOT, Part, is_head, list_parts
from sslens.zoo.refusals import require_numbers
from sslens.zoo.renaming import convert
from sslens.zoo.shapes import find_kind, find_shape, read_shape
from sslens.zoo.told import ToldHeads, choose_told_heads
from sslens.zoo.trunks import SPELLINGS, Trunk

#: names that modules and tokens of networks have at the top; one that is not known makes a variant
_OWN = re.compile(r"\w*tokens?|(layer|stage|block)s?_?\d*|norm_pre")


@final
@dataclass(frozen=True, eq=False)
class NetworkRead:
    """A network of a file, with all that lies under its prefix.

    Attributes:
        trunk: where it is.
        pieces: its tensors.
        shape: its architecture.
        expected: the shapes of the tensors that its architecture has, by name.
        dropped: why tensors under its prefix are dropped, by their names after it.
        parts: the modules at its top that its architecture has not.
        own: the names of the modules at its top that are its own.
        hints: what is told of it beside its weights.
        told: the number of heads that settings in the file tell.
        unknown_heads: what is said where nothing tells the number of heads; empty where it is told
            or assumed.
    """

    trunk: Trunk
    pieces: tuple[Piece, ...]
    shape: Architecture
    expected: Mapping[str, tuple[int, ...]]
    dropped: Mapping[str, str]
    parts: tuple[Part, ...]
    own: frozenset[str]
    hints: Hints
    told: ToldHeads
    unknown_heads: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its tensors in the file, after its prefix."""
        return tuple(source for piece in self.pieces for source in piece.sources)

    def find_faults(self, left_out: frozenset[str]) -> Iterator[Fault]:
        """Yield what keeps it from being read and options mend.

        Args:
            left_out: the keys that the user leaves out.
        """
        if self.unknown_heads:
            yield Fault(self.unknown_heads, heads="N")
        unknown = [part for part in self.parts if left_out.isdisjoint(part.keys)]
        if unknown:
            clause = "at the top of its network that no network read here has, the first"
            yield doubt_parts(unknown, clause)

    def account(self) -> Iterator[Entry]:
        """Yield what is said of the tensors under its prefix that are not its own."""
        state, prefix = self.trunk.state, self.trunk.prefix
        for name, reason in self.dropped.items():
            yield Entry(state, prefix + name, "dropped", None, reason)
        for part in self.parts:
            for key in part.keys:
                yield Entry(state, key, "dropped", None, ASKED)


def list_beside(
    contents: Contents, claim: Claim, taken: str, outside: Iterable[str]
) -> tuple[Part, ...]:
    """List the parts beside the networks in the state dict of the one that is taken."""
    state = claim.branches[taken].state
    prefixes = [trunk.prefix for trunk in claim.branches.values() if trunk.state == state]
    keys = [key for key in outside if find_twin(claim, taken, state, key) is None]
    return list_parts(keys, prefixes)


def read_network(
    contents: Contents, claim: Claim, trunk: Trunk, inside: Mapping[str, Array], asked: Asked
) -> NetworkRead:
    """Read a network of a file.

    Args:
        contents: the contents of the file.
        claim: the layout's claim.
        trunk: where the network is.
        inside: the tensors under its prefix, by their names after it.
        asked: the options that the user gave.

    Raises:
        InputError: its tensors are no such network's.
    """
    spelling = plugin(SPELLINGS, trunk.naming)
    drops = (*claim.drops, *spelling.DROPS)
    dropped = {name: why for name in inside if (why := find_reason(name, drops)) is not None}
    if not claim.strict:
        heads = (name for name in inside if name not in dropped and is_head(_find_top(name)))
        dropped |= dict.fromkeys(heads, AT_ROOT)
    kept = {name: value for name, value in inside.items() if name not in dropped}
    named = {name.removeprefix(trunk.prefix) for name in asked.drop}
    left = {name: value for name, value in kept.items() if _find_top(name) not in named}
    require_numbers(left, str(contents.path))
    try:
        read = _find_network(contents, claim, trunk, kept, asked)
    except InputError:
        shallow = any(name.count(".") < 2 for name in kept.keys() - left.keys())
        if shallow or len(left) == len(kept):
            raise  # a normalisation or a token that is left out may be the network's own
        read = _find_network(contents, claim, trunk, left, asked)
    strange = [trunk.prefix + name for name in kept if _find_top(name) not in read.own]
    parts = list_parts(strange, [trunk.prefix])
    return replace(read, dropped=dropped, parts=parts)


def _find_network(
    contents: Contents, claim: Claim, trunk: Trunk, kept: Mapping[str, Array], asked: Asked
) -> NetworkRead:
    """Find the network among tensors under its prefix."""
    where = str(contents.path)
    pieces = convert(plugin(SPELLINGS, trunk.naming), kept)
    weights = {piece.into: piece.value for piece in pieces}
    told = _find_told_heads(contents, claim, weights)
    _require_whole_heads(contents, weights, asked.heads)
    hints = contents.beside.hints.over(Hints(heads=told.count)).over(claim.hints)
    unknown = ""
    try:
        shape = _find_shape(weights, where, claim, hints, asked.heads)
    except UnknownHeads as error:
        unknown = error.message.removeprefix(f"{where} ").removesuffix(".")
        unknown += f" ({told.said})" if told.said else ""
        shape = _find_shape(weights, where, claim, hints, 1)  # which decides no tensor's shape
    expected = shape.list_tensors()
    tops = [(piece, {_find_top(source) for source in piece.sources}) for piece in pieces]
    own = {top for piece, of in tops for top in of if piece.into in expected or _OWN.fullmatch(top)}
    pieces = [piece for piece, of in tops if not own.isdisjoint(of)]
    require_usable({piece.into: piece.value for piece in pieces}, where)
    return NetworkRead(
        trunk, tuple(pieces), shape, expected, {}, (), frozenset(own), hints, told, unknown
    )


def _require_whole_heads(
    contents: Contents, weights: Mapping[str, Array], asked: int | None
) -> None:
    """Refuse a number of heads, by a file beside the weights or by the user, that is no divisor of
    the width."""
    patches, beside = weights.get("patch_embed.proj.weight"), contents.beside
    heads = asked or beside.hints.heads
    if heads is None or heads < 1 or patches is None or not patches.ndim:
        return
    width = patches.shape[0]
    if width % heads:
        whose = "as you asked" if asked else f"as {beside.name} beside it says"
        if not asked and beside.hints.width not in (None, width):
            whose += f", which is of another network (hidden_size {beside.hints.width})"
        raise InputError(
            f"{contents.path} has a width of {width}, which cannot be shared by"
            f" {spell_count(heads, 'head')} of attention, {whose}",
            mend=f"say how many: {contents.path}@heads=N, or num_heads",
        )


def find_asked(
    names: Iterable[str], beside: Iterable[Part], read: NetworkRead, where: str
) -> frozenset[str]:
    """Find the keys of the parts that the user leaves out.

    Args:
        names: the names of the parts, with what stands before them or without.
        beside: the parts beside the networks.
        read: the network.
        where: the file.

    Raises:
        InputError: there is no such part, or it is the network's own.
    """
    prefix = read.trunk.prefix
    under = list_parts([prefix + name for name in read.dropped], [prefix])
    parts = [*beside, *read.parts, *under]
    keys: list[str] = []
    for name in names:
        chosen = [part for part in parts if part.path == name]
        chosen = chosen or [part for part in parts if part.name == name]
        if not chosen:
            is_own = name.removeprefix(prefix) in read.own or f"{name}." in _list_steps(prefix)
            known = nearest(name, {part.name for part in parts})
            if is_own:
                raise InputError(
                    f'"{name}" is the network of {where} or a part of it, which drop cannot leave'
                    f" out; beside it {known}"
                )
            raise InputError(f'{where} has no module "{name}" beside its network: {known}')
        keys += [key for part in chosen for key in part.keys]
    return frozenset(keys)


def _list_steps(prefix: str) -> set[str]:
    """The steps of a prefix, alone and with all that stands before them."""
    steps = re.split(r"(?<=\.)", prefix)[:-1]
    return {*steps, *("".join(steps[: count + 1]) for count in range(len(steps)))}


def _find_top(name: str) -> str:
    """The module at the top of a network that a tensor is in."""
    return re.split(r"[./]", name, maxsplit=1)[0]


def _find_told_heads(contents: Contents, claim: Claim, weights: Mapping[str, Array]) -> ToldHeads:
    """The number of heads by the settings in a file, for networks of which no weight tells it."""
    if not contents.told or claim.written is not None:
        return ToldHeads()
    relative = any("rel_pos" in name or "relative_position" in name for name in weights)
    if relative or find_kind(weights) not in ("vit", "dinov3") or claim.hints.heads is not None:
        return ToldHeads()  # of the last weights tell it
    patches = weights.get("patch_embed.proj.weight")
    width = patches.shape[0] if patches is not None and patches.ndim else 0
    usual = contents.beside.hints.heads or claim.heads.get(width) or USUAL.get(width)
    usual = usual or (width // 64 if width % 64 == 0 else None)
    return choose_told_heads(contents.told, weights, usual)


def _find_shape(
    weights: Mapping[str, Array], where: str, claim: Claim, hints: Hints, num_heads: int | None
) -> Architecture:
    if claim.written is not None:
        if num_heads is not None:
            raise InputError(
                f"{where} says its own architecture: num_heads and other shapes cannot be given."
            )
        return read_shape(claim.written["shape"])
    patches = weights.get("patch_embed.proj.weight")
    width = patches.shape[0] if patches is not None and patches.ndim else 0
    usual = Hints(heads=claim.heads.get(width))
    shape = find_shape(weights, where, num_heads, hints.over(usual))
    if num_heads is not None and read_heads(shape) is None:
        raise InputError(
            f"{where} is a convolutional network, which has no heads: leave num_heads out."
        )
    return shape
