"""The place of a card's file, and whether the file is there; known without the internet."""

from pathlib import Path

from sslens import store
from sslens.cards import Card
from sslens.errors import InputError


def locate(card: Card) -> Path:
    """Return the path where the file of a card is, or would be: in the package, or in the cache.

    Raises:
        InputError: another library fetches this card's weights.

    >>> from sslens.cards import find
    >>> locate(find("mae_vitb16")).relative_to(store.home()).as_posix()
    'checkpoints/mae_vitb16/mae_pretrain_vit_base.pth'
    """
    if card.shipped is not None:
        return card.shipped
    if card.filename is None:
        raise InputError(
            f"The weights of {card.name} are fetched by {name_library(card)}: load them as"
            f" {card.source}."
        )
    return store.home() / "checkpoints" / card.name / card.filename


def is_here(card: Card) -> bool | None:
    """Whether the file of a card is there; None where another library keeps it."""
    return None if card.source is not None else locate(card).is_file()


def name_library(card: Card) -> str:
    """Return the name of the library that fetches the weights of a card with a `source`."""
    return "timm" if (card.source or "").startswith("timm:") else "the Hugging Face hub"
