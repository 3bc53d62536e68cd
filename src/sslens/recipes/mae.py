"""Recipes of MAE."""

from dataclasses import dataclass, field

from sslens.objectives.mae import Settings

#: settings of a trial by kind of network: small enough for a few images of 32 px and some steps
TRIAL = {
    "vit": {
        "decoder_dim": 32,
        "decoder_blocks": 1,
        "decoder_heads": 2,
        "base_lr": 0.05,
        "warmup": 0.25,
    },
}


@dataclass(frozen=True)
class Official:
    """The command of the released code's PRETRAIN.md: 800 epochs of 4,096 images, 40 of warm-up,
    normalised pixels.

    The released ViT-B was trained so for 1,600 epochs (`epochs` of 1600 and a `warmup` of 0.025,
    which is 40 epochs).
    """

    epochs: int = 800
    batch_size: int = 4096
    settings: Settings = field(default=Settings())


@dataclass(frozen=True)
class Paper:
    """He et al. (2022): Table 8, and the defaults that Table 1's caption names; Table 1 of Shekhar
    et al. (2023).

    Differs from `official` in its target, which is pixels as they are, of which Shekhar et al.
    (2023) say nothing. Flips, which neither table lists but He et al.'s section 4.1 does, are kept.
    """

    epochs: int = 800
    batch_size: int = 4096
    settings: Settings = field(default=Settings(normalise_pixels=False))
