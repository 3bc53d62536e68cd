"""What is known of a checkpoint, from its file and from its card; without torch."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sslens import cards
from sslens.cards import Card, Evaluation
from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.models.about import About
from sslens.models.cnn import CNNArch
from sslens.models.vit import ViTArch
from sslens.zoo.arrays import Array
from sslens.zoo.claim import AFTER_POOLING
from sslens.zoo.evaluation import make_evaluation
from sslens.zoo.recognise import Recognised

_HEADS = re.compile(r"_heads\d+$")


def find_card(path: Path, checkpoint: Recognised) -> Card | None:
    """Find the card of a file by the file's hash; None where no card has it.

    The file is hashed only if its size is a card's, or its architecture is the one of a card
    without a size.
    """
    size, arch = path.stat().st_size, name_architecture(checkpoint)
    if not any(
        (card.sha256 or card.sha256_prefix)
        and (card.size == size or (card.size is None and card.arch == arch))
        for card in cards.cards().values()
    ):
        return None
    with path.open("rb") as file:
        return cards.by_sha256(hashlib.file_digest(file, "sha256").hexdigest())


def name_architecture(checkpoint: Recognised) -> str | None:
    """Return the architecture's name as cards write it: without the number of heads, which they
    have in another field."""
    return None if checkpoint.shape.name is None else _HEADS.sub("", checkpoint.shape.name)


def require_claims(card: Card, checkpoint: Recognised, path: Path) -> None:
    """Check what a card says against what the file's keys and shapes say.

    Raises:
        InputError: the file has another architecture, objective or tuning than the card says.
    """
    arch = card.arch if _has_random_twin(card.arch) else None
    stated = {"arch": arch, "objective": card.objective, "tuned": card.tuned}
    seen: dict[str, Any] = {"arch": name_architecture(checkpoint)}
    if checkpoint.claim.objective is not None:  # else keys and shapes do not tell
        seen |= {"objective": checkpoint.claim.objective, "tuned": checkpoint.claim.tuned}
    for entry, value in seen.items():
        if value != stated[entry]:
            raise InputError(
                f"The card {card.name} says {entry} {stated[entry]}, but its file {path} has"
                f" {value}: the file was exchanged, or the card is wrong. `sslens doctor` shows"
                " what the file is."
            )


def _has_random_twin(arch: str) -> bool:
    """Whether a card's architecture is a name that `random:` takes."""
    return arch.startswith("timm/") or ViTArch.is_name(arch) or CNNArch.is_name(arch)


def require_finite(weights: Mapping[str, Array], where: Path) -> None:
    """Refuse weights that are not finite.

    Raises:
        InputError: the message names the first such tensor, and says how many there are.
    """
    bad = [
        name
        for name, array in weights.items()
        if array.size and not np.isfinite([array.values.min(), array.values.max()]).all()
    ]
    if bad:
        first = weights[bad[0]]
        count = int((~np.isfinite(first.values)).sum())
        raise InputError(
            f"{where} has {spell_count(len(bad), 'tensor')} with values that are no finite numbers,"
            f" the first {bad[0]} ({count:,} of {first.size:,}): the training diverged or the file"
            " is damaged. Take an earlier checkpoint."
        )


def choose_evaluation(checkpoint: Recognised, card: Card | None) -> Evaluation:
    """Return how images are prepared: as the card says, else as the files beside the weights say,
    else as the method's authors do, at the size for which the model has positions."""
    if card is not None:
        return card.evaluation
    size, given = checkpoint.shape.image_size, dict(checkpoint.transform)
    if (ratio := given.pop("ratio", None)) is not None:
        given = {**given, "resize": round(size * ratio), "crop": size}
    return make_evaluation(size, **given)


def list_assumed(checkpoint: Recognised, card: Card | None) -> tuple[str, ...]:
    """List the settings for images that nothing tells, in words: neither a card, nor the method's
    authors, nor a file. Colours that a file tells and that are not taken are not among them."""
    if card or checkpoint.claim.objective:
        return ()
    there = checkpoint.transform
    named = {"ratio": "sides", "interpolation": "interpolation", "mean": "mean", "std": "std"}
    told = {"mean", "std"} if checkpoint.colours else set()
    missing = [word for key, word in named.items() if key not in there.keys() | told]
    if "resize" in there or "crop" in there:
        missing = [word for word in missing if word != "sides"]
    return tuple(missing)


def say_untaken(checkpoint: Recognised, card: Card | None) -> str:
    """Say which colours of images settings in a file tell that are not taken, and why; empty where
    there are none, and of a file with a card, which tells them."""
    colours = None if card is not None else checkpoint.colours
    return colours.said if colours is not None and colours.doubt else ""


def say_assumed(checkpoint: Recognised, card: Card | None) -> str:
    """Say in brackets which of the settings for images nothing tells, or that they are those of the
    method's authors, whom a training of one's own may not have followed; and which colours the
    settings in the file tell."""
    missing, untaken = list_assumed(checkpoint, card), say_untaken(checkpoint, card)
    taken = checkpoint.colours.said if checkpoint.colours and card is None else ""
    said = ""
    if {"sides", "interpolation", "mean", "std"} <= set(missing):
        said = "assumed: the file does not tell"
    elif missing:
        said = f"{' and '.join(missing)} assumed: no file tells"
    elif card is None and checkpoint.claim.written is None and not checkpoint.transform:
        theirs = "as the method's authors do"
        said = theirs if untaken else f"{theirs}: the file does not tell"
    said = "; ".join(filter(None, (said, taken)))
    return f" ({said})" if said else ""


def describe_card(card: Card) -> About:
    """Return what a card says of its checkpoint, except the architecture, which is read from the
    file."""
    return About(
        family=card.family,
        objective=card.objective,
        tuned=card.tuned,
        card=card.name,
        epochs=card.epochs,
        licence=card.licence,
    )


def _find_pooling(checkpoint: Recognised) -> str | None:
    """What the classifier in a file reads: the mean of the patches where the file has a
    normalisation between pooling and classifier; None where it tells nothing."""
    return "patches" if any(one.reason == AFTER_POOLING for one in checkpoint.account) else None


def gather_about(checkpoint: Recognised, card: Card | None) -> About:
    """Return what is known of a checkpoint: from its header or its layout, overridden by its
    card."""
    claim = checkpoint.claim
    if claim.written is not None:
        about = About.from_json(claim.written["about"])
    else:
        about = About(
            family=claim.family,
            objective=claim.objective,
            tuned=claim.tuned,
            arch=checkpoint.shape.name,
            layout=checkpoint.layout,
            branch=checkpoint.branch,
            pooling=_find_pooling(checkpoint),
            more={"left_out": dict(left)} if (left := checkpoint.left_out) else {},
        )
    if card is None:
        return about
    card_about = describe_card(card)
    return replace(
        about,
        family=card_about.family,
        objective=card_about.objective,
        tuned=card_about.tuned,
        card=card_about.card,
        epochs=card_about.epochs,
        licence=card_about.licence,
    )
