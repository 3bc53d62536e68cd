"""Recipes of fine-tuning, the presets of `sslens finetune`."""

from dataclasses import dataclass, field

from sslens.tasks.classification import Settings


@dataclass(frozen=True)
class MaeOfficial:
    """The command of MAE's released code (FINETUNE.md) for ViT-B: 100 epochs of 1,024 images, 5 of
    warm-up.

    Of ImageNet-1k, from the released ViT-B, it gives 83.6 % (mean of four runs there).
    """

    epochs: int = 100
    batch_size: int = 1024
    settings: Settings = field(default=Settings())


@dataclass(frozen=True)
class MaeOfficialLarge:
    """The command of MAE's released code for ViT-L: 50 epochs, base lr 1e-3, layer decay 0.75, drop
    path 0.2. It gives 85.9 %."""

    epochs: int = 50
    batch_size: int = 1024
    settings: Settings = field(
        default=Settings(base_lr=1e-3, layer_decay=0.75, drop_path=0.2, warmup=0.1)
    )


@dataclass(frozen=True)
class MaeOfficialHuge:
    """The command of MAE's released code for ViT-H: as for ViT-L, with drop path 0.3, mixed by 16
    images. It gives 86.9 %."""

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
    """Appendix B of Shekhar et al. (2022), no Table: 150 epochs of 16 × 64 images, Adam with lr
    5e-4, decay 0.05, 5 of warm-up.

    Read so: Adam is AdamW, its momentum of 0.9 β_1, with β_2 0.999; 5e-4 is the learning rate of
    the whole minibatch; the warm-up begins at its 1e-6; the "standard supervised augmentation" is a
    crop and a flip; what is not named (layer decay, drop path, smoothing, mixing) is left out; the
    classifier sees the CLS token. The head starts as MAE's linear probe does, at 0.01.
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
