"""Recipes of supervised classification."""

from dataclasses import dataclass, field

from sslens.objectives.supervised import Settings


@dataclass(frozen=True)
class Official:
    """DeiT's released code (Touvron et al., 2021, table 9), 300 epochs of 1,024 images, 5 of
    warm-up, without its mixing of images.

    Instead of RandAugment, mixup, cutmix, random erasing and repeated augmentation there is colour
    jitter alone, so that views are of the same kind as those of the self-supervised objectives; on
    ImageNet expect less than DeiT's accuracy.
    """

    epochs: int = 300
    batch_size: int = 1024
    settings: Settings = field(default=Settings())
