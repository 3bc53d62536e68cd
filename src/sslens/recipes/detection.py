"""Recipes of detection, the presets of `sslens detect`: one for each kind of heads."""

from dataclasses import dataclass, field

from sslens.tasks.detection_settings import Settings


@dataclass(frozen=True)
class Vitdet:
    """ViTDet's released code for a ViT-B on COCO (mask_rcnn_vitdet_b_100ep): 100 epochs of 64
    images of 1,024 px.

    The authors report, end to end from MAE, a box AP of 51.6 and a mask AP of 45.9. Shekhar et al.
    (2023) give no settings of their own for their Tables 6 and 7.
    """

    epochs: int = 100
    batch_size: int = 64
    settings: Settings = field(default=Settings())


@dataclass(frozen=True)
class Small:
    """For generated scenes and other small images, with the heads `small`: 24 epochs of 16 images
    of 64 px, not in any released code.

    An image is too small for windows, and jitter keeps its objects large enough to be seen. The
    learning rate trained from random and from pre-trained networks; others were not tried.
    """

    epochs: int = 24
    batch_size: int = 16
    settings: Settings = field(
        default=Settings(
            heads="small",
            size=64,
            scales=(0.75, 1.0, 1.25),
            jitter=(0.6, 1.4),
            window=0,
            relative=False,
            drop_path=0.0,
            base_lr=0.016,
            warmup=0.05,
        )
    )
