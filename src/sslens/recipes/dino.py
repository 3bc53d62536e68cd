"""Recipes of DINO."""

from dataclasses import dataclass, field

from sslens.objectives.dino import Settings

#: settings of a trial by kind of network: small enough for a few images of 32 px and some steps
_NARROW = {"prototypes": 64, "head_dim": 32, "out_dim": 16, "local_crops": 2, "momentum": 0.9}
TRIAL = {
    "vit": _NARROW | {"local_size": 16, "base_lr": 0.05, "warmup": 0.25},
    "resnet": _NARROW | {"warmup": 0.25},
}


@dataclass(frozen=True)
class Official:
    """The defaults of the released code, with its README's 16 processes of 64 images for ViT-B: 100
    epochs, 10 of warm-up."""

    epochs: int = 100
    batch_size: int = 1024
    settings: Settings = field(default=Settings())


@dataclass(frozen=True)
class TwoCrops:
    """Without multi-crop: two global crops of 0.14–1 of the area, as the released code's help
    recommends.

    Unclipped, 300 epochs and a lowest learning rate of 1e-5 are from the configuration for ViT-S
    that the first author gave in the repository's issue 122. All else is `official`.
    """

    epochs: int = 300
    batch_size: int = 1024
    settings: Settings = field(
        default=Settings(local_crops=0, clip=0.0, min_lr=1e-5, warmup=10 / 300)
    )


@dataclass(frozen=True)
class Paper:
    """Table 3 of Shekhar et al. (2023): 300 epochs of 4,096 images, 10 of warm-up.

    It differs from `official`, in parentheses, in five settings: AdamW's betas are (0.9, 0.95)
    ((0.9, 0.999)); the minibatch is 4,096 (1,024); the weight decay is 0.04 throughout (0.04 →
    0.4); the teacher's temperature rises from 0.04 to 0.07 in 30 epochs (0.04 throughout); and the
    training has 300 epochs (100). The table names neither the temperature at which the teacher's
    begins nor the number and scales of the crops: these are the released code's. Its crops
    "224x244" are read as 224 × 224.
    """

    epochs: int = 300
    batch_size: int = 4096
    settings: Settings = field(
        default=Settings(
            betas=(0.9, 0.95),
            last_weight_decay=0.04,
            teacher_temperature=0.07,
            teacher_epochs=30,
            warmup=10 / 300,
        )
    )


@dataclass(frozen=True)
class Resnet50:
    """The command of the released code's README for ResNet-50 on 8 processes of 64 images: 100
    epochs, 10 of warm-up.

    SGD with lr 0.03 and weight decay 1e-4 throughout; global crops of 0.14–1 and local ones of
    0.05–0.14 of the area. All else is `official`.
    """

    epochs: int = 100
    batch_size: int = 512
    settings: Settings = field(
        default=Settings(
            optimiser="sgd",
            base_lr=0.03,
            weight_decay=1e-4,
            last_weight_decay=1e-4,
            global_low=0.14,
            local_scale=(0.05, 0.14),
        )
    )
