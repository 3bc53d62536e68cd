"""Recipes of fine-tuning, the presets of `sslens finetune`."""

from dataclasses import dataclass, field

from sslens.tasks.classification import Settings


@dataclass(frozen=True)
class MaeOfficial:
    """The command of MAE's released code (FINETUNE.md) for ViT-B: 100 epochs of 1,024 images, 5 of
    warm-up.

    On ImageNet-1k, from the released ViT-B, the authors report a top-1 accuracy of 83.6 % (mean of
    four runs).
    """

    epochs: int = 100
    batch_size: int = 1024
    settings: Settings = field(default=Settings())


@dataclass(frozen=True)
class MaeOfficialLarge:
    """The command of MAE's released code for ViT-L: 50 epochs, base lr 1e-3, layer decay 0.75, drop
    path 0.2. The authors report 85.9 %."""

    epochs: int = 50
    batch_size: int = 1024
    settings: Settings = field(
        default=Settings(base_lr=1e-3, layer_decay=0.75, drop_path=0.2, warmup=0.1)
    )


@dataclass(frozen=True)
class MaeOfficialHuge:
    """The command of MAE's released code for ViT-H: as for ViT-L, with drop path 0.3, and 16 images
    mixed with one draw. The authors report 86.9 %."""

    epochs: int = 50
    batch_size: int = 1024
    settings: Settings = field(
        default=Settings(base_lr=1e-3, layer_decay=0.75, drop_path=0.3, warmup=0.1, together=16)
    )


@dataclass(frozen=True)
class Paper_2023:  # noqa: N801 (the name is the preset's)
    """Table 5 of Shekhar et al. (2023): base lr 1e-3 and layer decay 0.75, which MAE's code has for
    ViT-L and ViT-H, for a ViT-B.

    Random erasing is not in the table and is left out. The table does not say what the classifier
    sees: the CLS token is taken, whose features the paper reads from its fine-tuned models. All
    else is MAE's code.
    """

    epochs: int = 100
    batch_size: int = 1024
    settings: Settings = field(
        default=Settings(pooling="cls", base_lr=1e-3, layer_decay=0.75, erasing=0.0)
    )


@dataclass(frozen=True)
class Paper_2022:  # noqa: N801 (the name is the preset's)
    """Appendix B of Shekhar et al. (2022), which has no table: 150 epochs of 16 × 64 images, Adam
    with lr 5e-4, decay 0.05, 5 epochs of warm-up.

    The text is interpreted as follows. Adam is AdamW; its momentum of 0.9 is β_1, and β_2 is 0.999.
    5e-4 is the learning rate of the whole minibatch, and 1e-6 the one with which the warm-up
    begins. The "standard supervised augmentation" is a crop and a flip. What the text does not name
    (layer decay, drop path, smoothing, mixing) is left out. The classifier sees the CLS token, and
    its first weights have a standard deviation of 0.01, as in MAE's linear probe.
    """

    epochs: int = 150
    batch_size: int = 1024
    settings: Settings = field(
        default=Settings(
            pooling="cls",
            head_std=0.01,
            layer_decay=1.0,
            drop_path=0.0,
            smoothing=0.0,
            randaugment="",
            erasing=0.0,
            mixup=0.0,
            cutmix=0.0,
            base_lr=1.25e-4,
            first_lr=1e-6,
            min_lr=1e-5,
            warmup=5 / 150,
        )
    )
