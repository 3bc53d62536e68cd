"""The diagnosis of a checkpoint file: what it is, how that is known, what loading drops, and what
looks wrong; also for files that cannot be loaded."""

import itertools
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sslens import cards
from sslens.cards import Card
from sslens.counts import spell_count
from sslens.errors import InputError, as_argument, make_line, shorten
from sslens.tensor_file import has_checksums
from sslens.whole_file import exists
from sslens.zoo import find_file
from sslens.zoo.architecture import read_heads
from sslens.zoo.faults import Asked
from sslens.zoo.files import Contents
from sslens.zoo.folders import read_checkpoint
from sslens.zoo.identity import (
    choose_evaluation,
    find_card,
    gather_about,
    name_architecture,
    require_claims,
    require_finite,
    say_assumed,
)
from sslens.zoo.insides import INDEX
from sslens.zoo.keys import find_pattern, find_shared_start
from sslens.zoo.parts import split_names
from sslens.zoo.quantised import dequantise_states, describe_kinds
from sslens.zoo.recognise import Recognised, find_layout, recognise_as
from sslens.zoo.suspicions import find_suspicions

WIDTH = 110
LABEL = 12
#: characters of the longest fact, and the most state dicts and groups of keys that are told
LONGEST, MOST = 2000, 40
LABELS = {
    False: "",
    "fine-tuned": "; fine-tuned with labels",
    "linear": "; frozen while a linear probe was trained with labels",
}


@dataclass(frozen=True)
class Group:
    """Keys with the same fate for the same reason."""

    fate: str
    count: int
    keys: str
    reason: str


@dataclass(frozen=True)
class Diagnosis:
    """All that can be said of a checkpoint file; plain JSON values by `to_json`.

    Attributes:
        refused: why the file cannot be loaded, or None where it can.
        facts: facts by label, in the order in which they are printed.
        suspicious: what looks wrong, a sentence each.
        groups: what happens to the keys.
        line: the line of Python that loads the file.
        recognised: what `Backbone.about` would say, with the layout, the method and the numbers of
            heads and parameters.
    """

    path: str
    refused: str | None
    facts: Mapping[str, Any] = field(default_factory=dict)
    suspicious: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()
    line: str | None = None
    recognised: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the diagnosis as plain JSON values."""
        return {**asdict(self), "loadable": self.refused is None}

    def text(self) -> str:
        """Return the diagnosis as text for a person, at most 110 characters wide."""
        name, can = make_line(str(self.path)), "cannot" if self.refused else "can"
        lines = [f"{name}: {can} be loaded", ""]
        for label, value in self.facts.items():
            lines += _wrap(label, [value] if isinstance(value, str) else value)
        if self.groups:
            lines_of_groups = (
                f"{g.count:>5,} {g.fate:8} {g.keys}" + (f"  ({g.reason})" if g.reason else "")
                for g in self.groups
            )
            lines += _wrap("keys", lines_of_groups, hang=15)
        if self.refused is None or self.suspicious:
            lines += _wrap("suspicious", self.suspicious or ["nothing"])
        lines += _wrap("load it by", [self.line]) if self.line else []
        lines += _wrap("refused", [self.refused]) if self.refused else []
        return "\n".join(lines)


def _wrap(label: str, values: Iterable[str], hang: int = 2) -> Iterator[str]:
    for i, value in enumerate(shorten(make_line(value), LONGEST) for value in values):
        first = f"  {label if i == 0 else '':{LABEL}}"
        yield from textwrap.wrap(
            value,
            WIDTH,
            initial_indent=first,
            subsequent_indent=" " * (LABEL + 2 + hang),
            break_on_hyphens=False,
        )


def examine(
    source: str | Path,
    *,
    branch: str | None = None,
    num_heads: int | None = None,
    drop: str | Sequence[str] | None = None,
    spell: Callable[[str, str | None], str] = as_argument,
) -> Diagnosis:
    """Examine a checkpoint file, or that of a card, which is fetched where it is not here yet.

    Args:
        source: a file, a folder of a run, or a card's name.
        branch, num_heads, drop: as for `sslens.load`.
        spell: how a parameter that mends a fault is called (see `InputError.spelt`).

    Raises:
        InputError: there is no such file or card, or the card's file cannot be fetched. What is
            wrong with the file itself is no error but the diagnosis.
    """
    told = str(source)
    path, card = _find_file(told)
    facts: dict[str, Any] = {}
    try:
        facts["file"] = _describe_size(path)
        inside, kinds = dequantise_states(read_checkpoint(path))
        facts["file"] += f", {_describe_form(path, inside)}"
    except InputError as error:
        return Diagnosis(told, error.spelt(spell), facts)
    facts["holds"] = [*_describe_states(inside), *describe_kinds(kinds)]
    asked = Asked(branch, num_heads, split_names(drop))
    try:
        checkpoint, own_card = _recognise(path, inside, card, asked)
    except InputError as error:
        facts |= _guess(inside)
        return Diagnosis(told, error.spelt(spell), facts, groups=tuple(_group_prefixes(inside)))
    facts |= _list_facts(checkpoint, own_card)
    refused = None
    try:
        require_finite(checkpoint.weights, path)
        if card is not None:
            require_claims(card, checkpoint, path)
    except InputError as error:
        refused = error.spelt(spell)
    return Diagnosis(
        told,
        refused,
        facts,
        tuple(find_suspicions(checkpoint, inside)),
        tuple(_group_account(checkpoint)),
        None if refused else _write_line(told, checkpoint, own_card, asked),
        _describe_recognised(checkpoint, own_card),
    )


def _recognise(
    path: Path, inside: Contents, card: Card | None, asked: Asked
) -> tuple[Recognised, Card | None]:
    """Read a file; returns the card that it has by its hash, too."""
    checkpoint = recognise_as(asked, inside, card)
    if card is not None or checkpoint.claim.written is not None:
        return checkpoint, card
    found = find_card(path, checkpoint)
    return (recognise_as(asked, inside, found) if found else checkpoint), found


def _describe_recognised(checkpoint: Recognised, card: Card | None) -> Mapping[str, Any]:
    """What a file was recognised as, as plain JSON values."""
    return {
        **_describe_about(checkpoint, card),
        "layout": checkpoint.layout,
        "method": checkpoint.claim.method,
        "heads": read_heads(checkpoint.shape),
        "parameters": checkpoint.parameters,
    }


def _describe_about(checkpoint: Recognised, card: Card | None) -> Mapping[str, Any]:
    """What is known of a checkpoint, as JSON; others' files also say that they have no card."""
    about = gather_about(checkpoint, card)
    if checkpoint.claim.written is not None:
        return about.to_json()
    return {"tuned": about.tuned, "card": about.card} | about.to_json()


def _find_file(source: str) -> tuple[Path, Card | None]:
    if exists(source):
        return find_file(Path(source)), None
    if ":" in source or source == "pixels":
        raise InputError(
            f"The doctor reads checkpoint files and those of cards; {source} has none here."
        )
    card = cards.find(source)
    if card.source is not None:
        raise InputError(
            f"The weights of {card.name} are fetched and kept by timm ({card.source}): there is no"
            " file to examine."
        )
    from sslens.zoo import download  # which the files of most need not

    return download.fetch(card), card


def _describe_size(path: Path) -> str:
    return spell_count(path.stat().st_size, "byte")


def _describe_form(path: Path, inside: Contents) -> str:
    if path.name.endswith(INDEX):
        return "the index of weights in several files"
    with path.open("rb") as file:
        start = file.read(9)
    if start.startswith(b"PK"):
        return "PyTorch's zip format"
    if path.suffix == ".pkl":
        return "a pickle of NumPy arrays"
    return (
        "PyTorch's format of before 1.6"
        if start.startswith(b"\x80") and not inside.header
        else f"safetensors, {_describe_checksums(path)}"
    )


def _describe_checksums(path: Path) -> str:
    return "checksums right" if has_checksums(path) else "without checksums"


def _describe_states(inside: Contents) -> Iterator[str]:
    """The state dicts and the rest of a file, a line each."""
    for number, (state, weights) in enumerate(inside.states.items()):
        if number == MOST:
            yield f"and {len(inside.states) - MOST:,} more"
            break
        yield (
            f"{state or 'at the top'}: tensors {len(weights):,}, numbers"
            f" {sum(v.size for v in weights.values()):,}"
        )
    if inside.rest:
        yield shorten("; ".join(f"{key}: {value}" for key, value in inside.rest.items()), LONGEST)


def _list_facts(checkpoint: Recognised, card: Card | None) -> Mapping[str, Any]:
    claim, told = checkpoint.claim, checkpoint.told
    tuned = LABELS[claim.tuned]
    if claim.tuned == "fine-tuned" and claim.objective is None:
        tuned = "; trained with labels, from the start or at the end (it has a classifier)"
    facts: dict[str, Any] = {
        "what it is": f"{claim.method}: {claim.form}",
        "known by": list(claim.signs),
        "family": f"{claim.family or 'unknown'}, objective {claim.objective or 'unknown'}{tuned}",
        "branch": (
            checkpoint.branch
            + (f" (there are {', '.join(claim.branches)})" if len(claim.branches) > 1 else "")
        ),
        "network": (
            f"{checkpoint.shape.describe()}; {spell_count(checkpoint.parameters, 'parameter')}"
        ),
    }
    if not checkpoint.heads_known:
        facts["heads"] = (
            f"{read_heads(checkpoint.shape)} of attention are assumed for this width: no file tells"
            f" them{f' ({told.said})' if told.said else ''}. With another number the weights fit as"
            " well and the features are wrong: give the number of the training."
        )
    elif told.said:
        heads = read_heads(checkpoint.shape)
        facts["heads"] = f"{heads} of attention" + (
            f": {told.said}" if heads == told.count else f"; {told.said}"
        )
    made = choose_evaluation(checkpoint, card)
    facts["images"] = (
        f"shorter side to {made.resize} ({made.interpolation}), centre {made.crop}, mean"
        f" {made.mean}, std {made.std}{say_assumed(checkpoint, card)}"
    )
    if card is not None:
        facts["card"] = f"{card.name}: {card.title}"
        facts["family"] = f"{card.family}, objective {card.objective}" + LABELS[card.tuned]
        facts["licence"] = card.licence
    else:
        facts["card"] = _describe_alike(checkpoint)
    notes = [*checkpoint.notes, *(card.notes if card else ())]
    return facts | ({"notes": notes} if notes else {})


def find_alike(checkpoint: Recognised) -> list[Card]:
    """List the cards of the same architecture with an objective and a tuning that do not contradict
    the file."""
    if checkpoint.claim.written is not None:
        return []
    objective, tuned = checkpoint.claim.objective, checkpoint.claim.tuned
    return [
        card
        for card in cards.cards().values()
        if card.url
        and card.arch == name_architecture(checkpoint)
        and (objective is None or (card.objective, card.tuned) == (objective, tuned))
    ]


def _describe_alike(checkpoint: Recognised) -> str:
    like = find_alike(checkpoint)
    if not like:
        return "none is of this architecture and objective"
    names = ", ".join(card.name for card in like[:6]) + (
        f" and {len(like) - 6} more" if len(like) > 6 else ""
    )
    by = "architecture and objective" if checkpoint.claim.objective else "architecture"
    return f"resembles {names} by {by}; no published hash says that it is one of them"


def _group_account(checkpoint: Recognised) -> Iterator[Group]:
    """The account, keys with one fate and one reason together."""
    together: dict[tuple[str, str, str], list[str]] = {}
    for entry in checkpoint.account:
        together.setdefault((entry.fate, entry.reason, entry.state), []).append(entry.key)
    order = ("kept", "renamed", "reshaped", "dropped")
    for (fate, reason, state), keys in sorted(
        together.items(), key=lambda item: order.index(item[0][0])
    ):
        keys_in_words = find_pattern(keys)
        yield Group(
            fate,
            len(keys),
            f"{state}: {keys_in_words}"
            if state and len(checkpoint.account) > len(keys)
            else keys_in_words,
            reason,
        )


def _guess(inside: Contents) -> Mapping[str, Any]:
    """What a file that cannot be loaded seems to be."""
    try:
        claim = find_layout(inside)[1]
    except InputError:
        return {}
    return {
        "seems to be": f"{claim.method}: {claim.form}",
        "known by": list(claim.signs),
        "branches": ", ".join(claim.branches),
    }


def _group_prefixes(inside: Contents) -> Iterator[Group]:
    """What a file holds that no layout reads, by the beginnings of its keys; at most 40 groups."""
    return itertools.islice(_list_prefixes(inside), MOST)


def _list_prefixes(inside: Contents) -> Iterator[Group]:
    for state, weights in inside.states.items():
        together: dict[str, list[str]] = {}
        same = find_shared_start(list(weights)).rpartition(".")[0]
        for key in weights:
            together.setdefault(key[len(same) :].strip(".").split(".")[0], []).append(key)
        for keys in list(together.values())[:20]:
            yield Group(
                "found",
                len(keys),
                f"{state}: {find_pattern(keys)}" if state else find_pattern(keys),
                "",
            )


def _write_line(source: str, checkpoint: Recognised, card: Card | None, asked: Asked) -> str:
    given = [repr(source)]
    if asked.branch is not None:
        given.append(f"branch={checkpoint.branch!r}")
    if asked.heads is not None:
        given.append(f"num_heads={asked.heads}")
    elif not checkpoint.heads_known and card is None and checkpoint.claim.written is None:
        given.append("num_heads=N")  # a guess is no advice
    if asked.drop:
        given.append(f"drop={'+'.join(asked.drop)!r}")
    return f"sslens.load({', '.join(given)})"
