"""From a checkpoint file, by itself or of a card, to a Backbone."""

from dataclasses import asdict, replace
from pathlib import Path

from sslens.cards import Card
from sslens.counts import spell_count
from sslens.data.transform import EvalTransform
from sslens.errors import make_visible, warn_of_doubt
from sslens.models.backbone import Assumptions, Backbone
from sslens.zoo import download
from sslens.zoo.architecture import read_arch
from sslens.zoo.builders import wrap_network
from sslens.zoo.faults import NOTHING, Asked
from sslens.zoo.files import Contents
from sslens.zoo.folders import read_checkpoint
from sslens.zoo.identity import (
    choose_evaluation,
    find_card,
    gather_about,
    list_assumed,
    require_claims,
    require_finite,
    say_untaken,
)
from sslens.zoo.insides import name_weights
from sslens.zoo.quantised import dequantise_states, describe_kinds
from sslens.zoo.recognise import Recognised, recognise_as
from sslens.zoo.unfinished import describe_unfinished


def load_card(card: Card, asked: Asked = NOTHING) -> Backbone:
    """Load the checkpoint of a card, after fetching it if it is not here yet and checking it
    against the card.

    Args:
        card: the card.
        asked: the options that the user gave.

    Raises:
        InputError: the file cannot be fetched or read, or is not what the card says.
    """
    path = download.fetch(card)
    checkpoint = recognise_as(asked, _read_floats(path), card)
    require_claims(card, checkpoint, path)
    return _build(checkpoint, path, asked, card=card, source=card.name)


def load_file(path: Path, asked: Asked = NOTHING, *, source: str) -> Backbone:
    """Load a checkpoint file; if it is a card's file, bit for bit, the card says what the model is.

    Args:
        path: the file.
        asked: the options that the user gave.
        source: what the user called the file.

    Raises:
        InputError: the file cannot be read or recognised, or its weights do not fit.
    """
    contents = _read_floats(path)
    checkpoint = recognise_as(asked, contents)
    card = None if checkpoint.claim.written is not None else find_card(path, checkpoint)
    if card is not None:
        checkpoint = recognise_as(asked, contents, card)
    return _build(checkpoint, path, asked, card=card, source=source)


def _read_floats(path: Path) -> Contents:
    """Read a checkpoint file; weights in 8 bits are multiplied by their scales, which is said."""
    contents, kinds = dequantise_states(read_checkpoint(path))
    for what in describe_kinds(kinds):
        warn_of_doubt(
            f"{path} holds {what}, by which they are multiplied: the network computes in float32,"
            " not in 8 bits."
        )
    return contents


def _build(
    checkpoint: Recognised, path: Path, asked: Asked, *, card: Card | None, source: str
) -> Backbone:
    branch, num_heads = asked.branch, asked.heads
    require_finite(checkpoint.weights, path)
    _warn_of_heads(checkpoint, card, path, num_heads)
    options = {"branch": branch, "num_heads": num_heads, "drop": "+".join(asked.drop) or None}
    name = (
        card.name
        if card
        else str(checkpoint.claim.written["name"])
        if checkpoint.claim.written
        else name_weights(path, source)
    )
    about = gather_about(checkpoint, card)
    if unfinished := describe_unfinished(path, about):
        warn_of_doubt(unfinished)
    backbone = wrap_network(
        checkpoint.network(),
        name=make_visible(f"{name} ({branch})" if branch else name),
        source=" ".join(
            [source, *(f"{key}={value}" for key, value in options.items() if value is not None)]
        ),
        transformed=EvalTransform(**asdict(choose_evaluation(checkpoint, card))),
        about=replace(about, num_heads=num_heads) if num_heads else about,
    )
    others = tuple(other for other in checkpoint.claim.branches if other != checkpoint.branch)
    chosen = card is None and branch is None and others
    backbone.assumptions = Assumptions(
        list_assumed(checkpoint, card),
        checkpoint.branch if chosen else "",
        others if chosen else (),
        untaken=say_untaken(checkpoint, card),
    )
    return backbone


def _warn_of_heads(found: Recognised, card: Card | None, path: Path, num_heads: int | None) -> None:
    """No file tells the number of heads, and with another number the weights fit as well and the
    features are wrong."""
    arch = read_arch(found.shape)
    if arch is None:
        return
    heads, width = arch.heads, arch.dim
    if card is not None and card.heads is not None:
        if heads != card.heads:
            warning = (
                f"{path} is read with {spell_count(heads, 'head')} of attention as you asked, but"
                f" the card {card.name} says {card.heads}."
            )
            warn_of_doubt(warning)
        return
    usual = found.claim.heads.get(width)
    if num_heads is not None:
        if usual is not None and heads != usual:
            theirs = f"{found.claim.method}'s of width {width} have {usual}"
            warning = (
                f"{path} is read with {spell_count(heads, 'head')} of attention as you asked, but"
                f" {theirs}."
            )
            warn_of_doubt(warning)
        elif found.told.count not in (None, heads):
            said = found.told.said
            warn_of_doubt(
                f"{path} is read with {spell_count(heads, 'head')} of attention as you asked, but"
                f" {said}."
            )
    elif not found.heads_known:
        usually = (
            f"as {found.claim.method}'s of width {width} have"
            if usual
            else f"for a width of {width}"
        )
        why = f"{usually}; {found.told.said}" if found.told.said else usually
        warning = (
            f"{path} is read with {heads} {'head' if heads == 1 else 'heads'}, guessed: give"
            f" @heads=NUMBER behind it. No file tells how many the training had ({why}), and with a"
            " wrong number the features are wrong."
        )
        warn_of_doubt(warning)
    elif heads == found.told.count and not found.told.sure:
        warn_of_doubt(
            f"{path} is read with {heads} {'head' if heads == 1 else 'heads'} of attention:"
            f" {found.told.said}. Should it be heads of tasks, give @heads=NUMBER behind it: with a"
            " wrong number the features are wrong."
        )
