"""Recipes of MSN."""

from dataclasses import dataclass, field

from sslens.objectives.msn import Settings


@dataclass(frozen=True)
class Official:
    """The released configuration, for ViT-S/16: 800 epochs of 16 × 64 images, 15 of warm-up, 0.15
    of the patches left out.

    Larger networks leave out more: 0.7 in the configuration for ViT-B/4 of the repository's issue
    5.
    """

    epochs: int = 800
    batch_size: int = 1024
    settings: Settings = field(default=Settings())
