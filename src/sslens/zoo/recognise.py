"""Recognising a checkpoint file: all layouts read it, one of them is chosen, and every key of the
file is accounted for."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from sslens.cards import Card
from sslens.counts import spell_count
from sslens.errors import InputError, nearest
from sslens.find import names, plugin
from sslens.zoo.accounting import (
    account_for_others,
    account_for_pieces,
    count_left_out,
    name_as_in_file,
    split_keys,
)
from sslens.zoo.architecture import Architecture, are_heads_told
from sslens.zoo.arrays import Array
from sslens.zoo.claim import Claim, Entry
from sslens.zoo.contradictions import require_settings
from sslens.zoo.faults import Asked, Fault, Refused, refuse_faults
from sslens.zoo.files import Contents
from sslens.zoo.malformed import refuse_malformed
from sslens.zoo.parts import split_names
from sslens.zoo.reading import find_asked, list_beside, read_network
from sslens.zoo.refusals import explain_unknown, refuse_others, require_final_norm
from sslens.zoo.told import ToldHeads
from sslens.zoo.told_colours import ToldColours
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
        colours: the colours of images that settings in the file tell; None where a file beside the
            weights tells others.
        notes: the notes of the claim, and others about reading the file.
        transform: settings of the evaluation transform, from the claim and from the files beside.
        left_out: the parts that no layout names and that are left out by their place or name or as
            asked for, with their numbers of tensors.
    """

    layout: str
    claim: Claim
    branch: str
    shape: Architecture
    weights: Mapping[str, Array]
    account: tuple[Entry, ...]
    heads_known: bool
    told: ToldHeads
    colours: ToldColours | None
    notes: tuple[str, ...]
    transform: Mapping[str, Any]
    left_out: Mapping[str, int] = field(default_factory=dict)

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
    certain = _leave_out_general({n: claim for n, claim in claims.items() if claim.certain})
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


def _leave_out_general(claims: Mapping[str, Claim]) -> Mapping[str, Claim]:
    """Leave out claims on anybody's own trainings where another claim is of the same networks: of
    a student and its teacher whose heads have names of lightly's, say, which are not two methods'
    keys."""
    strict = {name: claim for name, claim in claims.items() if claim.strict}
    if len(claims) < 2 or len(strict) > 1:
        return claims
    name, chosen = next(iter((strict or claims).items()))
    networks = set(chosen.branches.values())
    alike = all(not networks.isdisjoint(one.branches.values()) for one in claims.values())
    return {name: chosen} if alike else claims


@refuse_malformed
def recognise(
    contents: Contents,
    *,
    branch: str | None = None,
    num_heads: int | None = None,
    drop: str | Sequence[str] | None = None,
) -> Recognised:
    """Read a file by its layout, with every key accounted for.

    Args:
        contents: the contents of the file.
        branch: the name of another network than the one that the authors evaluate, e.g. "student".
        num_heads: the number of attention heads; unless given, as a file beside the weights, the
            settings in the file or the method says, else as the width makes likely.
        drop: the names of modules beside the network that are left out, "one+other" or in a
            sequence, where no rule drops them.

    Raises:
        InputError: no layout, or no such branch; a key that belongs nowhere, a tensor that is
            missing or of another shape; a module to be dropped that is not there or is a part of
            the network.
    """
    contents, names_in_file = unwrap(contents)
    layout, claim = find_layout(contents)
    asked = Asked(branch, num_heads, split_names(drop))
    taken = _choose_branch(contents, claim, asked)
    trunk, where = claim.branches[taken], str(contents.path)
    inside, outside = split_keys(contents, claim, trunk)
    beside = list_beside(contents, claim, taken, outside)
    read = read_network(contents, claim, trunk, inside, asked)
    left_out = find_asked(asked.drop, beside, read, where)
    weights = {piece.into: piece.value for piece in read.pieces}
    if claim.written is None:
        require_settings(contents, read.shape)
    require_final_norm(weights, read.shape, contents, claim, read.dropped)
    in_file = {piece.into: " + ".join(piece.sources) for piece in read.pieces}
    _require_fit(weights, read.expected, where, claim, in_file)
    others, faults = account_for_others(
        contents, claim, taken, beside, asked=left_out, names=read.names
    )
    if faults := [*read.find_faults(left_out), *faults]:
        refuse_faults(where, faults, asked)
    account = [*account_for_pieces(trunk, read.pieces), *read.account(), *others]
    return Recognised(
        layout,
        claim,
        taken,
        read.shape,
        {name: value.as_float32() for name, value in weights.items()},
        tuple(name_as_in_file(account, names_in_file)),
        num_heads is not None
        or read.hints.heads is not None
        or claim.written is not None
        or are_heads_told(read.shape),
        read.told,
        _choose_colours(contents, claim),
        (*claim.notes, *contents.beside.notes, *_note_kinds(weights.values())),
        _join_transforms(contents, claim),
        count_left_out(account, [one.prefix for one in claim.branches.values()]),
    )


def _choose_colours(contents: Contents, claim: Claim) -> ToldColours | None:
    """The colours that settings in a file tell, unless a header or a file beside tells them."""
    is_told = claim.written is not None or "mean" in contents.beside.transform
    return None if is_told else contents.colours


def _join_transforms(contents: Contents, claim: Claim) -> Mapping[str, Any]:
    """The settings of the evaluation transform, of which those of a file win over the method's."""
    colours = _choose_colours(contents, claim)
    told = {} if colours is None else colours.transform
    return {**claim.transform, **told, **contents.beside.transform}


def recognise_as(asked: Asked, contents: Contents, card: Card | None = None) -> Recognised:
    """Read a file as the user says, else as its card says.

    Args:
        asked: the options that the user gave.
        contents: the contents of the file.
        card: its card; a file that comes with this package says its own number of heads.

    Raises:
        InputError: as `recognise` does.
    """
    heads = card.heads if card is not None and card.file is None else None
    return recognise(
        contents,
        branch=asked.branch or (card.branch if card is not None else None),
        num_heads=asked.heads or heads,
        drop=asked.drop,
    )


def _note_kinds(values: Iterable[Array]) -> Iterator[str]:
    """A note where weights are of another kind in the file than here."""
    kinds = {value.kind for value in values if value.is_floating} - {"float32"}
    if kinds:
        in_words = " and ".join(sorted(kinds))
        yield f"The weights are {in_words} in the file; here they are float32."


def _choose_branch(contents: Contents, claim: Claim, asked: Asked) -> str:
    """The branch that is taken.

    Raises:
        InputError: the one that was asked for is not there, or none may be chosen.
    """
    there = claim.branches
    if asked.branch is not None:
        matches = [
            name
            for name in there
            if asked.branch in (name, name.removesuffix("_encoder"), there[name].prefix.rstrip("."))
            or asked.branch in re.split(r"[./]", name)
        ]
        if len(matches) != 1:
            raise InputError(
                f'{contents.path} has no branch "{asked.branch}": {nearest(asked.branch, there)}'
            )
        return matches[0]
    if claim.taken is None:
        _refuse_to_choose(contents, claim, asked)
    return claim.taken


def _refuse_to_choose(contents: Contents, claim: Claim, asked: Asked) -> NoReturn:
    """Refuse a file of several networks of which none is meant by itself, and say what the first
    one would want beside."""
    there = claim.branches
    first = next(iter(there))
    networks = "several networks" if len(there) > 1 else "a twin of the network that is evaluated"
    said = f"holds {networks} ({', '.join(there)}), and which one is meant it does not say"
    others: tuple[Fault, ...] = ()
    try:
        recognise(contents, branch=first, num_heads=asked.heads, drop=asked.drop)
    except Refused as error:
        others = error.faults
    except InputError:
        pass  # which is said when it is chosen
    refuse_faults(str(contents.path), [Fault(said, branch=first), *others], asked)


def _require_fit(
    weights: Mapping[str, Array],
    expected: Mapping[str, tuple[int, ...]],
    where: str,
    claim: Claim,
    in_file: Mapping[str, str],
) -> None:
    """Refuse tensors that are not those of the architecture.

    Args:
        weights: the tensors by their names in timm.
        expected: the shapes of those of the architecture.
        where: the file.
        claim: the layout's claim.
        in_file: the names in the file of the tensors that are there, without the prefix.
    """
    present = {key: tuple(value.shape) for key, value in weights.items()}
    wrong = sorted(
        key for key in expected.keys() | present.keys() if expected.get(key) != present.get(key)
    )
    if not wrong:
        return
    key = wrong[0]
    extra = sum(key not in expected for key in wrong)
    others = ""
    if extra and claim.written is None:
        others = f" {extra} of the names that do not fit are in no network of its kind read here."
    raise InputError(
        f"{where} does not fit its own architecture in {len(wrong)} of"
        f" {spell_count(len(expected), 'tensor')}; the first is {in_file.get(key, key)}: expected"
        f" {expected.get(key, 'none')}, found {present.get(key, 'none')}.{others}"
    )
