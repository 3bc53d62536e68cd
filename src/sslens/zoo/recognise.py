"""Recognising a checkpoint file: all layouts read it, one of them is chosen, and every key of the
file is accounted for."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sslens.errors import InputError, nearest
from sslens.find import names, plugin
from sslens.zoo.architecture import Architecture, are_heads_told, read_heads
from sslens.zoo.arrays import Array
from sslens.zoo.claim import CLASSIFIER, Claim, Drops, Entry, Piece
from sslens.zoo.files import Contents
from sslens.zoo.hints import Hints
from sslens.zoo.malformed import refuse_malformed, require_usable
from sslens.zoo.refusals import explain_unknown, refuse_others, require_final_norm, require_numbers
from sslens.zoo.renaming import convert
from sslens.zoo.shapes import find_kind, find_shape, read_shape
from sslens.zoo.told import ToldHeads, choose_told_heads
from sslens.zoo.trunks import SPELLINGS, Trunk
from sslens.zoo.wrappers import unwrap

if TYPE_CHECKING:
    from torch import nn

FOLDER = "zoo/layouts"
_COUNTED = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Recognised:
    """A checkpoint whose every key is accounted for.

    Attributes:
        layout: the name of the layout, a file of `zoo/layouts`.
        claim: the layout's claim.
        branch: the name of the network that is taken, a key of `claim.branches`.
        shape: the network's architecture.
        weights: the network's tensors in timm's names and float32, each of the shape that the
            architecture has.
        account: what happened to every key of the file.
        heads_known: whether the user, a card, the method or the file says the number of heads;
            otherwise it was taken from the width.
        told: the number of heads that settings in the file tell.
        notes: the notes of the claim, and others about reading the file.
        transform: settings of the evaluation transform, from the claim and from the files beside.
    """

    layout: str
    claim: Claim
    branch: str
    shape: Architecture
    weights: Mapping[str, Array]
    account: tuple[Entry, ...]
    heads_known: bool
    told: ToldHeads
    notes: tuple[str, ...]
    transform: Mapping[str, Any]

    @property
    def parameters(self) -> int:
        """Count of trained numbers; the statistics and counters of batch normalisation are not
        among them."""
        return sum(
            value.size for name, value in self.weights.items() if not name.endswith(_COUNTED)
        )

    def network(self) -> "nn.Module":
        """Build the network with these weights. The weights are copied, so that the file may change
        afterwards."""
        import numpy as np
        import torch

        network = self.shape.empty()
        own = {
            name: torch.from_numpy(np.array(value.values)) for name, value in self.weights.items()
        }
        network.load_state_dict(own, assign=True)
        return network.eval()


@refuse_malformed
def find_layout(contents: Contents) -> tuple[str, Claim]:
    """Find the layout that reads a file; returns its name and its claim.

    Raises:
        InputError: no layout reads it, or two do with equal right.
    """
    contents, _ = unwrap(contents)
    refuse_others(contents)
    claims: dict[str, Claim] = {}
    for name in names(FOLDER):
        claim = plugin(FOLDER, name).claim(contents)
        if claim is not None:
            claims[name] = claim
    for name in ("sslens", "vitdet"):  # the latter among files that are refused below
        if name in claims:
            return name, claims[name]
    refuse_others(contents, detectors=True)
    certain = {name: claim for name, claim in claims.items() if claim.certain}
    if len(certain) > 1:
        methods = " and ".join(f"{claim.method}'s ({claim.signs[0]})" for claim in certain.values())
        raise InputError(
            f"{contents.path} holds keys of two methods, {methods}: give a file of one."
        )
    for chosen in (certain, {n: c for n, c in claims.items() if n != "timm"}, claims):
        if chosen:
            name = next(iter(chosen))
            return name, chosen[name]
    raise InputError(explain_unknown(contents))


@refuse_malformed
def recognise(
    contents: Contents, *, branch: str | None = None, num_heads: int | None = None
) -> Recognised:
    """Read a file by its layout, with every key accounted for.

    Args:
        contents: the contents of the file.
        branch: the name of another network than the one that the authors evaluate, e.g. "student".
        num_heads: the number of attention heads; unless given, as a file beside the weights, the
            settings in the file or the method says, else as the width makes likely.

    Raises:
        InputError: no layout, or no such branch; a key that belongs nowhere, a tensor that is
            missing or of another shape.
    """
    contents, names_in_file = unwrap(contents)
    layout, claim = find_layout(contents)
    taken = _choose_branch(contents, claim, branch)
    trunk = claim.branches[taken]
    spelling = plugin(SPELLINGS, trunk.naming)
    where = str(contents.path)
    inside, outside = _split_keys(contents, claim, trunk)
    drops = (*claim.drops, *spelling.DROPS)
    dropped = {key: reason for key in inside if (reason := _find_reason(key, drops)) is not None}
    kept = {key: value for key, value in inside.items() if key not in dropped}
    require_numbers(kept, where)
    pieces = convert(spelling, kept)
    weights = {piece.into: piece.value for piece in pieces}
    require_usable(weights, where)
    told = _find_told_heads(contents, claim, weights)
    hints = contents.beside.hints.over(Hints(heads=told.count)).over(claim.hints)
    shape = _find_shape(weights, where, claim, hints, num_heads)
    require_final_norm(weights, shape, contents, claim, dropped)
    _require_fit(weights, shape, where, claim)
    account = [
        *_account_for_pieces(trunk, pieces),
        *(Entry(trunk.state, trunk.prefix + k, "dropped", None, r) for k, r in dropped.items()),
    ]
    account += [*_account_for_others(contents, claim, trunk, taken, outside)]
    notes = [*claim.notes, *contents.beside.notes]
    kinds = {value.kind for value in weights.values() if value.is_floating} - {"float32"}
    if kinds:
        kinds_in_words = " and ".join(sorted(kinds))
        notes.append(f"The weights are {kinds_in_words} in the file; here they are float32.")
    weights = {name: value.as_float32() for name, value in weights.items()}
    return Recognised(
        layout,
        claim,
        taken,
        shape,
        weights,
        tuple(_name_as_in_file(account, names_in_file)),
        num_heads is not None
        or hints.heads is not None
        or claim.written is not None
        or are_heads_told(shape),
        told,
        tuple(notes),
        {**claim.transform, **contents.beside.transform},
    )


def _name_as_in_file(
    account: list[Entry], names_in_file: Mapping[tuple[str, str], str]
) -> Iterator[Entry]:
    """The account with the keys as they are in the file, with the names of wrappers."""
    for entry in account:
        key = names_in_file.get((entry.state, entry.key))
        if key is None:
            yield entry
        else:
            yield replace(entry, key=key, fate="renamed" if entry.fate == "kept" else entry.fate)


def _choose_branch(contents: Contents, claim: Claim, asked: str | None) -> str:
    """The branch that is taken. Raises InputError where the one that was asked for is not there, or
    none may be chosen."""
    there = claim.branches
    if asked is not None:
        matches = [
            name
            for name in there
            if asked in (name, name.removesuffix("_encoder"), there[name].prefix.rstrip("."))
            or asked in re.split(r"[./]", name)
        ]
        if len(matches) != 1:
            raise InputError(f'{contents.path} has no branch "{asked}": {nearest(asked, there)}')
        return matches[0]
    if claim.taken is None:
        networks = (
            "several networks" if len(there) > 1 else "a twin of the network that is evaluated"
        )
        raise InputError(
            f"{contents.path} holds {networks} ({', '.join(there)}), and which one is meant it does"
            " not say",
            mend=f"give {contents.path}@branch={next(iter(there))}",
        )
    return claim.taken


def _split_keys(
    contents: Contents, claim: Claim, trunk: Trunk
) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Tensors under the trunk's prefix, by the names after it, and the other keys of the same state
    dict."""
    others = tuple(
        t.prefix
        for t in claim.branches.values()
        if t != trunk and t.state == trunk.state and t.prefix
    )
    others = tuple(prefix for prefix in others if not trunk.prefix.startswith(prefix))
    inside, outside = {}, []
    for key, value in contents.states[trunk.state].items():
        if key.startswith(trunk.prefix) and not key.startswith(others):
            inside[key.removeprefix(trunk.prefix)] = value
        else:
            outside.append(key)
    return inside, tuple(outside)


def _find_reason(key: str, drops: Drops) -> str | None:
    return next((reason for pattern, reason in drops if re.fullmatch(pattern, key)), None)


def _account_for_pieces(trunk: Trunk, pieces: list[Piece]) -> Iterator[Entry]:
    """What became of the keys that the network was made of."""
    for piece in pieces:
        for source in piece.sources:
            fate: Any = (
                "reshaped"
                if piece.done
                else "kept"
                if source == piece.into and not trunk.prefix
                else "renamed"
            )
            yield Entry(trunk.state, trunk.prefix + source, fate, piece.into, piece.done)


def _account_for_others(
    contents: Contents, claim: Claim, trunk: Trunk, taken: str, outside: tuple[str, ...]
) -> Iterator[Entry]:
    """What is said of all keys that are not the network's, in its own state dict and in others."""
    twins = {(t.state, t.prefix): name for name, t in claim.branches.items() if name != taken}
    head = _find_linear_head(contents.states[trunk.state], claim, outside)
    unknown = []
    for state, weights in contents.states.items():
        for key in outside if state == trunk.state else weights:
            twin = next(
                (
                    n
                    for (s, p), n in twins.items()
                    if s == state and (p or s != trunk.state) and key.startswith(p)
                ),
                None,
            )
            reason = (
                f"the branch {twin}, which was not taken"
                if twin
                else _find_reason(key, claim.beside)
            )
            if reason is None and state == trunk.state and key in head:
                reason = CLASSIFIER
            if reason is None and state != trunk.state:
                reason = "beside the network's weights in the file"
            if reason is None:
                unknown.append(key)
            else:
                yield Entry(state, key, "dropped", None, reason)
    if unknown:
        raise InputError(
            f"{contents.path} holds {len(unknown)} tensors that no file of this layout"
            f" ({claim.method}) has, the first {unknown[0]}: keys of two methods may have been"
            " mixed. Nothing is dropped that is not known: save the network's own state_dict() to"
            " load it."
        )


def _find_linear_head(
    state: Mapping[str, Array], claim: Claim, outside: tuple[str, ...]
) -> tuple[str, ...]:
    """The keys of a linear layer, whatever its name, if it is all that stands beside the networks
    and what the layout knows: a classifier. Of several layers none is told to be one, and of a
    method's own file a layer that the method has not is none: keys may have been mixed."""
    if claim.objective is not None:
        return ()
    prefixes = tuple(trunk.prefix for trunk in claim.branches.values() if trunk.prefix)
    others = [
        key
        for key in outside
        if not key.startswith(prefixes) and _find_reason(key, claim.beside) is None
    ]
    weights = [key for key in others if key.endswith(".weight") and state[key].ndim == 2]
    if len(weights) != 1:
        return ()
    layer = weights[0].removesuffix("weight")
    bias = (state[weights[0]].shape[0],)
    fits = all(
        key == weights[0] or (key == f"{layer}bias" and state[key].shape == bias) for key in others
    )
    return tuple(others) if fits else ()


def _find_told_heads(contents: Contents, claim: Claim, weights: Mapping[str, Array]) -> ToldHeads:
    """The number of heads by the settings in a file, for networks of which no weight tells it."""
    if not contents.told or claim.written is not None:
        return ToldHeads()
    relative = any("rel_pos" in name or "relative_position" in name for name in weights)
    if relative or find_kind(weights) not in ("vit", "dinov3"):
        return ToldHeads()
    return choose_told_heads(contents.told, weights)


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


def _require_fit(
    weights: Mapping[str, Array], shape: Architecture, where: str, claim: Claim
) -> None:
    expected = shape.list_tensors()
    present = {key: tuple(value.shape) for key, value in weights.items()}
    wrong = sorted(
        key for key in expected.keys() | present.keys() if expected.get(key) != present.get(key)
    )
    if not wrong:
        return
    key = wrong[0]
    extra = sum(key not in expected for key in wrong)
    mixed = ""
    if extra and claim.written is None:
        mixed = (
            f" {extra} are known in no file of this layout ({claim.method}): two methods, or a"
            " variant, may have been mixed in."
        )
    raise InputError(
        f"{where} does not fit its own architecture in {len(wrong)} of {len(expected)} tensors; the"
        f" first is {key}: expected {expected.get(key, 'none')}, found"
        f" {present.get(key, 'none')}.{mixed}"
    )
