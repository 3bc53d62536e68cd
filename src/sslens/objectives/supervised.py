"""Supervised classification, a third family beside the two self-supervised ones (DeiT: Touvron et
al., 2021, arXiv:2012.12877)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from PIL import Image
from timm.models.resnet import ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from sslens.data.colour import ColorJitter, Normalize
from sslens.data.geometry import Flip, RandomResizedCrop
from sslens.data.streams import depth_noise
from sslens.data.views import RandomViews, View
from sslens.errors import InputError
from sslens.methods import Batch, Moment, Rows
from sslens.methods.parameters import group_by_decay
from sslens.methods.schedules import warmup_cosine
from sslens.methods.settings import require_bounds
from sslens.methods.trivial import TrivialLoss, guess_classes
from sslens.models.arch import Arch
from sslens.models.convolutions import pool
from sslens.models.crops import compute_class_tokens, learn_positions, make_depth_factors
from sslens.models.heads import share_norms
from sslens.models.vit import ViTArch

FAMILY = "supervised"
KINDS = ("vit", "resnet")
LABELLED = True

#: what usually helps where no class is learnt
MEND = (
    "A higher base_lr (a lower one where the loss jumps about), a longer warmup and a look at"
    " whether the labels are those of the images usually help."
)


@dataclass(frozen=True)
class Settings:
    """Table 9 of the paper, for ViT; the same numbers serve ResNets here.

    | | papers | released code | here |
    |---|---|---|---|
    | base lr, weight decay, betas | 2.5e-4, 0.05, – | 2.5e-4, 0.05, (0.9, 0.999) | the code's |
    | batch, epochs, warm-up | 1024, 300, 5 | the same | warm-up is a share: 5 of 300 |
    | label smoothing, drop path | 0.1, 0.1 | the same | the same; no drop path in ResNets |
    | augmentation | crop, flip, RandAugment 9/0.5 | the same | crop, flip, colour jitter |
    | mixing, erasing | mixup 0.8, cutmix 1, 0.25 | the same | none |
    | repeated augmentation | 3 views an image | the same | none |
    | schedule | cosine | by epochs, 1e-6 → peak → 1e-5 | by steps, 0 → peak → 0 |
    | not decayed | – | biases, norms, CLS, positions | the code's |

    The colour jitter (brightness, contrast and saturation) is what the released code does where
    RandAugment is left out.

    Attributes:
        classes: the names of the classes, which the loop takes from the images.
    """

    smoothing: float = 0.1
    drop_path: float = 0.1
    crop_low: float = 0.08
    jitter: float = 0.3
    base_lr: float = 2.5e-4
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: float = 5 / 300
    optimiser: str = "adamw"
    classes: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        require_bounds(
            self,
            below_1=("smoothing", "drop_path"),
            above_0=("crop_low",),
            shares=("crop_low", "jitter"),
        )


def batch(
    images: Sequence[Image.Image], settings: Settings, arch: Arch, rows: Rows
) -> dict[str, Tensor]:
    """Make one view of each image, with its label and the noise by which residual branches are
    dropped."""
    s = settings
    colour = (ColorJitter(s.jitter, s.jitter, s.jitter, 0.0, p=1.0),) if s.jitter else ()
    crop = RandomResizedCrop(arch.image_size, scale=(s.crop_low, 1.0))
    (view,) = RandomViews((View(crop, (Flip(), *colour, Normalize())),)).batch(
        images, **rows.keywords()
    )
    tensors = {"view": view, "label": torch.tensor(rows.labels)}
    if s.drop_path and isinstance(arch, ViTArch):
        tensors["depth"] = depth_noise(**rows.keywords(), places=arch.blocks * 2).unflatten(
            1, (arch.blocks, 2)
        )
    return tensors


def find_trivial(
    settings: Settings, labels: Int64[np.ndarray, " image"], images: int
) -> TrivialLoss:
    """The loss of guessing the classes by how often they come."""
    return guess_classes(labels, settings.smoothing, MEND)


@final
class Objective(nn.Module):
    """An encoder and a linear classifier of a ViT's CLS token, or of the mean over a ResNet's
    places."""

    whole_batch: ClassVar[bool] = False

    def __init__(self, arch: Arch, settings: Settings) -> None:
        super().__init__()
        if len(settings.classes) < 2:
            raise InputError(
                f"A classifier of {len(settings.classes)} classes learns nothing",
                mend="give images of two or more",
            )
        self.settings = settings
        self.divisible = isinstance(arch, ViTArch)
        self.encoder: VisionTransformer | ResNet = arch.build()
        if isinstance(arch, ViTArch):
            learn_positions(self.encoder)
        else:
            share_norms(self.encoder)
        self.head = nn.Linear(
            arch.dim if isinstance(arch, ViTArch) else arch.channels, len(settings.classes)
        )
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, batch: Batch) -> Float[Tensor, ""]:
        """Compute the cross-entropy −Σ_k q_k log softmax(logits)_k with smoothed labels: q has ε
        shared by all K classes, and 1 − ε more at the label."""
        logits = self.logits(batch["view"], batch.get("depth"))
        with torch.autocast(logits.device.type, enabled=False):
            return F.cross_entropy(
                logits.float(), batch["label"].long(), label_smoothing=self.settings.smoothing
            )

    def logits(
        self,
        images: Float[Tensor, "image 3 size size"],
        depth: Float[Tensor, "image block 2"] | None = None,
    ) -> Float[Tensor, "image class"]:
        """Compute the score of each class."""
        if isinstance(self.encoder, ResNet):
            features = pool(self.encoder, images)
        else:
            branches = None
            if self.training and depth is not None:
                branches = make_depth_factors(depth, self.settings.drop_path)
            features = compute_class_tokens(self.encoder, images, branches=branches)
        scores: Tensor = self.head(features)
        return scores

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Vectors (biases, norms), the CLS token and positions are not decayed, as in the released
        code."""
        tokens = {"encoder.cls_token", "encoder.pos_embed"}
        decayed, free = group_by_decay(
            p for name, p in self.named_parameters() if name not in tokens
        )
        free["params"] += [p for name, p in self.named_parameters() if name in tokens]
        return [decayed, free]

    def rates(self, at: Moment, peak: float) -> tuple[float, float]:
        """Return a learning rate that rises linearly from 0 and then falls by half a cosine to 0,
        and a constant weight decay."""
        return warmup_cosine(at.progress, self.settings.warmup, peak), self.settings.weight_decay
