"""Recipes of FCMAE."""

from dataclasses import dataclass, field

from sslens.objectives.fcmae import Settings


@dataclass(frozen=True)
class Official:
    """The command of the released code's TRAINING.md for ConvNeXt-V2-B: 1,600 epochs of 4,096
    images, 40 of warm-up."""

    epochs: int = 1600
    batch_size: int = 4096
    settings: Settings = field(default=Settings())
