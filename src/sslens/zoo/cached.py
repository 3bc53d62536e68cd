"""Where the file of a card lies, and whether it is there: known without the network."""

from pathlib import Path

from sslens import store
from sslens.cards import Card
from sslens.errors import InputError


def path(card: Card) -> Path:
    """Where the file of a card is, or would be: in the package, or in the cache.

    >>> from sslens.cards import find
    >>> path(find("mae_vitb16")).relative_to(store.home()).as_posix()
    'checkpoints/mae_vitb16/mae_pretrain_vit_base.pth'

    Raises:
        InputError: another library fetches this card's weights.
    """
    if card.shipped is not None:
        return card.shipped
    if card.filename is None:
        raise InputError(
            f"The weights of {card.name} are fetched by {library(card)}: load them as"
            f" {card.source}."
        )
    return store.home() / "checkpoints" / card.name / card.filename


def cached(card: Card) -> bool | None:
    """Whether the file of a card is there; None where another library keeps it."""
    return None if card.source is not None else path(card).is_file()


def library(card: Card) -> str:
    """Which library fetches the weights of a card that names a source."""
    return "timm" if (card.source or "").startswith("timm:") else "the Hugging Face hub"
