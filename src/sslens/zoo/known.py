"""What is known of a checkpoint, by its file and by the card that speaks for it; without torch."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sslens import cards
from sslens.cards import Card, Evaluation
from sslens.errors import InputError
from sslens.models.about import About
from sslens.zoo.arrays import Array
from sslens.zoo.preparing import evaluation
from sslens.zoo.recognise import Recognised

_HEADS = re.compile(r"_heads\d+$")


def card_of(path: Path, found: Recognised) -> Card | None:
    """The card whose file this is, by its hash; a file is hashed only where some card's size, or
    else architecture, is its own."""
    size, arch = path.stat().st_size, plain_name(found)
    if not any(
        (card.sha256 or card.sha256_prefix)
        and (card.size == size or (card.size is None and card.arch == arch))
        for card in cards.cards().values()
    ):
        return None
    with path.open("rb") as file:
        return cards.by_sha256(hashlib.file_digest(file, "sha256").hexdigest())


def plain_name(found: Recognised) -> str | None:
    """The architecture's name as cards have it, with the heads left to another field."""
    return None if found.shape.name is None else _HEADS.sub("", found.shape.name)


def require_claims(card: Card, found: Recognised, path: Path) -> None:
    """Hold a card's claims against what the file says of itself.

    Raises:
        InputError: another architecture, objective or tuning than the card says.
    """
    said = {"arch": card.arch, "objective": card.objective, "tuned": card.tuned}
    seen: dict[str, Any] = {"arch": plain_name(found)}
    if found.claim.objective is not None:  # else keys and shapes do not tell
        seen |= {"objective": found.claim.objective, "tuned": found.claim.tuned}
    for what, value in seen.items():
        if value != said[what]:
            raise InputError(
                f"The card {card.name} says {what} {said[what]}, but its file {path} has {value}:"
                " the file was exchanged, or the card is wrong. `sslens doctor` shows what the"
                " file is."
            )


def require_finite(weights: Mapping[str, Array], where: Path) -> None:
    """Refuse weights that are not numbers.

    Raises:
        InputError: naming the first tensor, and how many there are.
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
            f"{where} has {len(bad)} tensors with values that are no finite numbers, the first"
            f" {bad[0]} ({count:,} of {first.size:,}): the training diverged or the file"
            " is damaged. Take an earlier checkpoint."
        )


def prepared(found: Recognised, card: Card | None) -> Evaluation:
    """How images are prepared: as the card says, else as the method's authors do, at the size that
    the positions are for."""
    if card is not None:
        return card.evaluation
    return evaluation(found.shape.image_size, **found.claim.transform)


def about_card(card: Card) -> About:
    """Return what a card says of its checkpoint; the architecture is left to the file."""
    return About(
        family=card.family,
        objective=card.objective,
        tuned=card.tuned,
        card=card.name,
        epochs=card.epochs,
        licence=card.licence,
    )


def gather_about(found: Recognised, card: Card | None) -> About:
    """Return what is known of a checkpoint: by its header or its layout, then by its card."""
    claim = found.claim
    if claim.written is not None:
        known = About.from_json(claim.written["about"])
    else:
        known = About(
            family=claim.family,
            objective=claim.objective,
            tuned=claim.tuned,
            arch=found.shape.name,
            layout=found.layout,
            branch=found.branch,
        )
    if card is None:
        return known
    said = about_card(card)
    return replace(
        known,
        family=said.family,
        objective=said.objective,
        tuned=said.tuned,
        card=said.card,
        epochs=said.epochs,
        licence=said.licence,
    )
