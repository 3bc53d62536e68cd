"""The account of a checkpoint file: what became of each of its keys, and for what reason."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from sslens.zoo.arrays import Array
from sslens.zoo.claim import CLASSIFIER, Claim, Entry, Piece, find_reason
from sslens.zoo.faults import Fault, doubt_parts, doubt_rival
from sslens.zoo.files import Contents
from sslens.zoo.parts import (
    ASKED,
    Part,
    find_rivalry,
    is_left_out,
    is_other_head,
    list_parts,
    say_place,
)
from sslens.zoo.trunks import Trunk


def split_keys(
    contents: Contents, claim: Claim, trunk: Trunk
) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Return the tensors under the trunk's prefix, by the names after it, and the other keys of the
    same state dict."""
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


def account_for_pieces(trunk: Trunk, pieces: Iterable[Piece]) -> Iterator[Entry]:
    """Yield what became of the keys that the network was made of."""
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


def account_for_others(
    contents: Contents,
    claim: Claim,
    taken: str,
    parts: Iterable[Part],
    *,
    asked: frozenset[str],
    names: Iterable[str],
) -> tuple[list[Entry], list[Fault]]:
    """Account for all keys that are not under the network's prefix, in its own state dict and in
    others; returns their entries, and what keeps the file from being read.

    Args:
        contents: the contents of the file.
        claim: the layout's claim.
        taken: the branch that is taken.
        parts: the parts beside the networks in the state dict of the one that is taken.
        asked: the keys that the user leaves out.
        names: the names of the network's tensors after its prefix.
    """
    trunk = claim.branches[taken]
    entries = [*_account_for_networks(contents, claim, taken)]
    parts, names = list(parts), list(names)
    state = contents.states[trunk.state]
    head = _find_linear_head(state, claim, [key for part in parts for key in part.keys])
    unknown, faults = [], []
    for part in parts:
        reasons = {key: find_reason(key, claim.beside) for key in part.keys}
        reasons |= {key: CLASSIFIER for key in head if key in reasons and reasons[key] is None}
        reasons |= {key: ASKED for key in part.keys if key in asked}
        rest = Part(part.path, tuple(key for key in part.keys if reasons[key] is None))
        rivalry = find_rivalry(rest, state, names) if rest.keys and not claim.strict else None
        if rest.keys and claim.strict:
            unknown.append(rest)
        elif rivalry is not None:
            faults.append(doubt_rival(rest, trunk, rivalry))
        for key in part.keys:
            reason = reasons[key] or say_place(part)
            entries.append(Entry(trunk.state, key, "dropped", None, reason))
    if unknown:
        faults.append(
            doubt_parts(unknown, f"that no file of this layout ({claim.method}) has, the first")
        )
    return entries, faults


def _account_for_networks(contents: Contents, claim: Claim, taken: str) -> Iterator[Entry]:
    """What is said of the networks that are not taken, and of other state dicts."""
    trunk = claim.branches[taken]
    for state, weights in contents.states.items():
        for key in weights:
            twin = find_twin(claim, taken, state, key)
            reason = None
            if twin is not None:
                reason = f"the branch {twin}, which was not taken"
            elif state != trunk.state:
                reason = (
                    find_reason(key, claim.beside) or "beside the network's weights in the file"
                )
            if reason is not None:
                yield Entry(state, key, "dropped", None, reason)


def find_twin(claim: Claim, taken: str, state: str, key: str) -> str | None:
    """Find the branch that a key belongs to, if it is another one than is taken."""
    trunk = claim.branches[taken]
    for name, other in claim.branches.items():
        if name == taken or other.state != state or not key.startswith(other.prefix):
            continue
        if state != trunk.state:
            return name
        nested = trunk.prefix.startswith(other.prefix) and key.startswith(trunk.prefix)
        if other.prefix and not nested:
            return name
    return None


def _find_linear_head(
    state: Mapping[str, Array], claim: Claim, outside: Iterable[str]
) -> tuple[str, ...]:
    """The keys of a linear layer, whatever its name, if it is all that stands beside the networks
    and what the layout knows: a classifier. Of several layers none is told to be one, and of a
    method's own file a layer that the method has not is none, nor is one that is called a
    projector or the like."""
    if claim.objective is not None:
        return ()
    others = [key for key in outside if find_reason(key, claim.beside) is None]
    weights = [key for key in others if key.endswith(".weight") and state[key].ndim == 2]
    if len(weights) != 1 or is_other_head(weights[0]):
        return ()
    layer = weights[0].removesuffix("weight")
    bias = (state[weights[0]].shape[0],)
    fits = all(
        key == weights[0] or (key == f"{layer}bias" and state[key].shape == bias) for key in others
    )
    return tuple(others) if fits else ()


def name_as_in_file(
    account: Iterable[Entry], names_in_file: Mapping[tuple[str, str], str]
) -> Iterator[Entry]:
    """Yield the account with the keys as they are in the file, with the names of wrappers."""
    for entry in account:
        key = names_in_file.get((entry.state, entry.key))
        if key is None:
            yield entry
        else:
            yield replace(entry, key=key, fate="renamed" if entry.fate == "kept" else entry.fate)


def count_left_out(account: Iterable[Entry], prefixes: Iterable[str]) -> dict[str, int]:
    """Count the tensors of each part that no layout names and that is left out.

    >>> from sslens.zoo.parts import ASKED
    >>> entry = Entry("", "module.gate.weight", "dropped", None, ASKED)
    >>> count_left_out([entry], ["module.backbone."])
    {'module.gate': 1}
    """
    keys = [entry.key for entry in account if is_left_out(entry.reason)]
    return {part.path: len(part.keys) for part in list_parts(keys, prefixes)}
