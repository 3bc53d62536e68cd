"""Recipes of MoCo-v3."""

from dataclasses import dataclass, field

from sslens.objectives.moco_v3 import Settings

#: settings of a trial by kind of network: small enough for a few images of 32 px and some steps
TRIAL = {
    "vit": {"head_dim": 32, "out_dim": 16, "base_lr": 0.05, "warmup": 0.25},
    "resnet": {"head_dim": 32, "out_dim": 16, "base_lr": 20.0, "warmup": 0.25},
}


@dataclass(frozen=True)
class Official:
    """The command of the released code's README for ViT-B: 300 epochs of 4,096 images, 40 of
    warm-up, τ = 0.2."""

    epochs: int = 300
    batch_size: int = 4096
    settings: Settings = field(default=Settings())


@dataclass(frozen=True)
class Paper:
    """Table 2 of Shekhar et al. (2023); differs from `official` in AdamW's betas, (0.9, 0.95)
    instead of (0.9, 0.999).

    The table gives the momentum of the encoder as 0.99 with a cosine (in the text of the paper at
    hand the number is damaged), and names no strengths of its augmentations: these are the released
    code's.
    """

    epochs: int = 300
    batch_size: int = 4096
    settings: Settings = field(default=Settings(betas=(0.9, 0.95)))


@dataclass(frozen=True)
class Resnet50E100:
    """The released code's CONFIG.md for ResNet-50 of 100 epochs: LARS, lr 0.6, weight decay 1e-6, τ
    = 1, crops of 0.2–1.

    10 epochs of warm-up. In the released code all parameters are in one group; LARS decays matrices
    alone.
    """

    epochs: int = 100
    batch_size: int = 4096
    settings: Settings = field(
        default=Settings(
            temperature=1.0,
            crop_low=0.2,
            optimiser="lars",
            base_lr=0.6,
            weight_decay=1e-6,
            warmup=0.1,
        )
    )


@dataclass(frozen=True)
class Resnet50E300:
    """The released code's CONFIG.md for ResNet-50 of 300 epochs: lr 0.3; all else is as in the
    recipe for 100 epochs."""

    epochs: int = 300
    batch_size: int = 4096
    settings: Settings = field(
        default=Settings(
            temperature=1.0,
            crop_low=0.2,
            optimiser="lars",
            base_lr=0.3,
            weight_decay=1e-6,
            warmup=10 / 300,
        )
    )


@dataclass(frozen=True)
class Resnet50E1000:
    """The released code's CONFIG.md for ResNet-50 of 1,000 epochs: lr 0.3, weight decay 1.5e-6,
    momentum from 0.996."""

    epochs: int = 1000
    batch_size: int = 4096
    settings: Settings = field(
        default=Settings(
            temperature=1.0,
            momentum=0.996,
            crop_low=0.2,
            optimiser="lars",
            base_lr=0.3,
            weight_decay=1.5e-6,
            warmup=0.01,
        )
    )
