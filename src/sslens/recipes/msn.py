"""Recipes of MSN."""

from dataclasses import dataclass, field

from sslens.objectives.msn import Settings

#: settings of a trial by kind of network: small enough for a few images of 32 px and some steps
TRIAL = {
    "vit": {
        "prototypes": 64,
        "head_dim": 32,
        "out_dim": 16,
        "focal_views": 2,
        "focal_size": 16,
        "momentum": 0.5,
        "temperature": 0.3,
        "sharpening": 0.5,
        "base_lr": 0.01,
        "warmup": 0.25,
    },
}


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
