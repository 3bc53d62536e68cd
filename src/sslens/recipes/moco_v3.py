"""Recipes of MoCo-v3."""

from dataclasses import dataclass, field

from sslens.objectives.moco_v3 import Settings


@dataclass(frozen=True)
class Official:
    """The command of the released code's README for ViT-B: 300 epochs of 4,096 images, 40 of warm-up, τ = 0.2."""

    epochs: int = 300
    batch_size: int = 4096
    settings: Settings = field(default=Settings())


@dataclass(frozen=True)
class Paper:
    """Table 2 of Shekhar et al. (2023); differs from `official` in AdamW's betas, (0.9, 0.95) instead of (0.9, 0.999).

    Its crops "224x244" are read as 224 × 224.
    """

    epochs: int = 300
    batch_size: int = 4096
    settings: Settings = field(default=Settings(betas=(0.9, 0.95)))
