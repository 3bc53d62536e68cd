"""From a checkpoint file, by itself or of a card, to a Backbone."""

import hashlib
import re
import warnings
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sslens import cards
from sslens.cards import Card
from sslens.data.transform import EvalTransform
from sslens.errors import Doubt, InputError
from sslens.models.about import About
from sslens.models.backbone import Backbone
from sslens.zoo import download, files
from sslens.zoo.named import about_card, backbone
from sslens.zoo.preparing import transform
from sslens.zoo.recognise import Recognised, recognise
from sslens.zoo.shapes import ViTShape

_HEADS = re.compile(r"_heads\d+$")


def from_card(card: Card, *, num_heads: int | None = None, branch: str | None = None) -> Backbone:
    """The checkpoint of a card, fetched where it is not here yet, once it is known to be what the
    card says."""
    path = download.fetch(card)
    heads = card.heads if card.file is None else None  # what is shipped says its own
    found = recognise(
        files.contents(path), branch=branch or card.branch, num_heads=num_heads or heads
    )
    require_claims(card, found, path)
    return _backbone(found, path, card=card, source=card.name, num_heads=num_heads, branch=branch)


def from_file(
    path: Path, *, source: str, num_heads: int | None = None, branch: str | None = None
) -> Backbone:
    """The checkpoint of a file; where it is the file of a card, bit for bit, that card speaks for
    it."""
    contents = files.contents(path)
    found = recognise(contents, branch=branch, num_heads=num_heads)
    card = None if found.claim.written is not None else card_of(path, found)
    if card is not None:
        found = recognise(contents, branch=branch or card.branch, num_heads=num_heads or card.heads)
    return _backbone(found, path, card=card, source=source, num_heads=num_heads, branch=branch)


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


def require_finite(weights: Mapping[str, Tensor], where: Path) -> None:
    """Refuse weights that are not numbers.

    Raises:
        InputError: naming the first tensor, and how many there are.
    """
    bad = {
        name: int((~torch.isfinite(value)).sum())
        for name, value in weights.items()
        if value.is_floating_point()
    }
    bad = {name: count for name, count in bad.items() if count}
    if bad:
        name, count = next(iter(bad.items()))
        raise InputError(
            f"{where} has {len(bad)} tensors with values that are no finite numbers, the first"
            f" {name} ({count:,} of {weights[name].numel():,}): the training diverged or the file"
            " is damaged. Take an earlier checkpoint."
        )


def prepared(found: Recognised, card: Card | None) -> EvalTransform:
    """How images are prepared: as the card says, else as the method's authors do, at the size that
    the positions are for."""
    if card is not None:
        return EvalTransform(**asdict(card.evaluation))
    return transform(found.shape.image_size, **found.claim.transform)


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


def _backbone(
    found: Recognised,
    path: Path,
    *,
    card: Card | None,
    source: str,
    num_heads: int | None,
    branch: str | None,
) -> Backbone:
    require_finite(found.weights, path)
    _warn_of_heads(found, card, path, num_heads)
    asked = {
        key: value
        for key, value in (("branch", branch), ("num_heads", num_heads))
        if value is not None
    }
    name = (
        card.name
        if card
        else str(found.claim.written["name"])
        if found.claim.written
        else stem(path)
    )
    about = gather_about(found, card)
    return backbone(
        found.network(),
        name=f"{name} ({branch})" if branch else name,
        source=" ".join([source, *(f"{key}={value}" for key, value in asked.items())]),
        transformed=prepared(found, card),
        about=replace(about, num_heads=num_heads) if num_heads else about,
    )


def stem(path: Path) -> str:
    """A file's name without what says that it is a checkpoint.

    >>> stem(Path("runs/vit-b-300ep.pth.tar"))
    'vit-b-300ep'
    """
    return re.sub(r"(\.(pth|pt|tar|bin|ckpt|safetensors))+$", "", path.name)


def _warn_of_heads(found: Recognised, card: Card | None, path: Path, num_heads: int | None) -> None:
    """No file tells the number of heads, and with another number the weights fit as well and the
    features are wrong."""
    if not isinstance(found.shape, ViTShape):
        return
    heads, width = found.shape.arch.heads, found.shape.arch.dim
    if card is not None and card.heads is not None:
        if heads != card.heads:
            said = (
                f"{path} is read with {heads} heads of attention as you asked, but the card"
                f" {card.name} says {card.heads}."
            )
            warnings.warn(said, Doubt, stacklevel=5)
        return
    usual = found.claim.heads.get(width)
    if num_heads is not None:
        if usual is not None and heads != usual:
            theirs = f"{found.claim.method}'s of width {width} have {usual}"
            said = f"{path} is read with {heads} heads of attention as you asked, but {theirs}."
            warnings.warn(said, Doubt, stacklevel=5)
    elif not found.heads_known:
        reason = (
            f"as {found.claim.method}'s of width {width} have"
            if usual
            else f"for a width of {width}"
        )
        said = (
            f"{path} is read with {heads} heads of attention, {reason}: no file tells them. Give"
            " num_heads to be sure."
        )
        warnings.warn(said, Doubt, stacklevel=5)
