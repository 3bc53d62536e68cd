"""Classification: all weights of a pre-trained network and a classifier on top of it learn labels
(MAE: He et al., 2022, arXiv:2111.06377)."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from PIL import Image
from timm.models.resnet import ResNet
from torch import Tensor, nn

from sslens.data.classification import ClassifierViews, Mixing, RandAugment, RandomErasing
from sslens.data.colour import Normalize
from sslens.data.geometry import RandomResizedCrop
from sslens.data.images import ImageSet
from sslens.data.streams import depth_noise
from sslens.errors import InputError, nearest
from sslens.methods import Batch, Moment, Rows
from sslens.methods.job import TrainingJob
from sslens.methods.labels import class_names
from sslens.methods.layers import layer_scales
from sslens.methods.parameters import follow
from sslens.methods.schedules import cosine
from sslens.methods.settings import require_bounds, require_optimisable
from sslens.methods.trivial import TrivialLoss, guess_classes
from sslens.models.about import About
from sslens.models.backbone import Backbone
from sslens.models.branches import drop_branches, set_factors
from sslens.tasks.classifier import Classifier
from sslens.tasks.start import StartingPoint, describe_shape, origin

#: of the task, for people and in `config.yaml`
LEARNER = "fine-tuning"
POOLINGS = ("patches", "cls")
#: what usually helps where no class is learnt
MEND = (
    "A higher base_lr (a lower one where the loss jumps about), a longer warmup, less augmentation"
    " (mixup, cutmix, randaugment, erasing) and a look at whether the labels are those of the"
    " images usually help."
)


@dataclass(frozen=True)
class Settings:
    """The settings of a classification; the defaults are those of MAE's released code for a ViT-B.

    | | papers: 2023, table 5 | 2022, appendix B | released code, ViT-B | here |
    |---|---|---|---|---|
    | base lr | 1e-3 | 1.25e-4 (5e-4 of 1,024 images) | 5e-4 | the code's |
    | weight decay, betas | 0.05, (0.9, 0.999) | 0.05, (0.9, –) | 0.05, (0.9, 0.999) | the code's |
    | batch, epochs, warm-up | 1024, 100, 5 | 1024, 150, 5 | 1024, 100, 5 | a share: 5 of 100 |
    | least lr | – | 1e-5 | 1e-6 | the code's |
    | layer decay | 0.75 | – | 0.65 | the code's |
    | drop path, smoothing | 0.1, 0.1 | – | 0.1, 0.1 | the code's |
    | RandAugment, erasing | 9 ± 0.5, – | – | 9 ± 0.5, 0.25 | the code's |
    | mixup, cutmix | 0.8, 1 | – | 0.8, 1 by 32 images | the code's |
    | classifier sees | – | – | mean of patches, normalised | the code's |

    The learning rate follows each step; CLS tokens, positions, biases and norms are not decayed;
    positions and patch embeddings that were fixed in pre-training are trained.

    Attributes:
        pooling: "patches": the classifier sees the mean of the patch tokens of the last block (of
            the places of a CNN) after a norm of its own, and the network's final norm is left out;
            or "cls": it sees the CLS token after the final norm.
        together: the number of consecutive images that are mixed with one draw of λ.
        ema: momentum of a moving average of the weights; if it is above 0, the average is evaluated
            and kept.
        classes: the names of the classes, which come from the images.
    """

    pooling: str = "patches"
    head_std: float = 2e-5
    layer_decay: float = 0.65
    drop_path: float = 0.1
    smoothing: float = 0.1
    crop_low: float = 0.08
    randaugment: str = "rand-m9-mstd0.5-inc1"
    erasing: float = 0.25
    mixup: float = 0.8
    cutmix: float = 1.0
    together: int = 32
    ema: float = 0.0
    base_lr: float = 5e-4
    first_lr: float = 0.0
    min_lr: float = 1e-6
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: float = 0.05
    optimiser: str = "adamw"
    classes: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        require_bounds(
            self,
            above_0=("layer_decay", "crop_low", "head_std"),
            below_1=("smoothing", "drop_path", "ema"),
            shares=("layer_decay", "crop_low", "erasing"),
            counts=("first_lr", "min_lr"),
        )
        if self.pooling not in POOLINGS:
            raise InputError(
                f'The setting pooling is "{self.pooling}": {nearest(self.pooling, POOLINGS)}'
            )
        if self.randaugment:
            RandAugment(self.randaugment)
        self.mixing()

    def mixing(self) -> Mixing | None:
        """Return how images are mixed, or None where they are not."""
        mixing = Mixing(self.mixup, self.cutmix, self.together)
        return mixing if self.mixup or self.cutmix else None


def views(settings: Settings, start: StartingPoint) -> ClassifierViews:
    """Return the random views of an image: a crop, resized to the model's image size, a flip,
    RandAugment, the model's normalisation, and erasing."""
    t, s = start.transform, settings
    crop = RandomResizedCrop(t.crop, scale=(s.crop_low, 1.0), interpolation=t.interpolation)
    augment = RandAugment(s.randaugment, t.mean) if s.randaugment else None
    return ClassifierViews(
        crop, augment, Normalize(t.mean, t.std), RandomErasing(s.erasing) if s.erasing else None
    )


def batch(
    images: Sequence[Image.Image], settings: Settings, start: StartingPoint, rows: Rows
) -> dict[str, Tensor]:
    """Make one view of each image, with its label and the noise by which residual branches are
    dropped.

    Returns:
        "view" [image 3 size size] and "label" [image]; where images are mixed also "neighbour"
            [image], the label of the image that each is mixed with, and "share" [image], the
            image's own share λ; with `drop_path` also "depth" [image branch], uniform in [0, 1).
    """
    view = views(settings, start).batch(images, **rows.keywords())
    tensors = {"view": view, "label": torch.tensor(rows.labels)}
    if (mixing := settings.mixing()) is not None:
        tensors["view"], tensors["share"] = mixing.apply(view, **rows.keywords())
        tensors["neighbour"] = tensors["label"].unflatten(0, (-1, 2)).flip(1).flatten()
    if settings.drop_path:
        tensors["depth"] = depth_noise(**rows.keywords(), places=start.branches)
    return tensors


@final
class FineTuning(nn.Module):
    """The method of a fine-tuning: a classifier that is trained (`tuned`), and, with `ema`, a
    moving average of it (`average`)."""

    whole_batch: ClassVar[bool] = False

    def __init__(self, model: Backbone, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.divisible = not isinstance(model.network, ResNet)
        self.tuned = Classifier(
            model,
            pooling=settings.pooling,
            classes=len(settings.classes),
            head_std=settings.head_std,
        )
        self.average = copy.deepcopy(self.tuned).requires_grad_(False) if settings.ema else None
        self.branches = drop_branches(self.tuned.network, settings.drop_path)

    @property
    def classifier(self) -> Classifier:
        """The classifier that is evaluated and kept: the average if there is one, else the trained
        one."""
        return self.average or self.tuned

    @property
    def encoder(self) -> nn.Module:
        """The network inside the classifier that is kept."""
        return self.classifier.network

    def forward(self, batch: Batch) -> Float[Tensor, ""]:
        """Cross-entropy with smoothed labels; for a mixed image λ times the cross-entropy with its
        own label plus 1 − λ times the cross-entropy with its neighbour's label."""
        set_factors(self.branches, batch.get("depth"))
        logits = self.tuned(batch["view"])
        with torch.autocast(logits.device.type, enabled=False):
            own = self._errors(logits, batch["label"])
            if "share" not in batch:
                return own.mean()
            share, neighbour = batch["share"], self._errors(logits, batch["neighbour"])
            return (share * own + (1 - share) * neighbour).mean()

    def _errors(
        self, logits: Float[Tensor, "image class"], label: Tensor
    ) -> Float[Tensor, " image"]:
        smoothing = self.settings.smoothing
        return F.cross_entropy(
            logits.float(), label.long(), label_smoothing=smoothing, reduction="none"
        )

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups by learning rate, the classifier's first, and by weight decay.

        Vectors (biases, norms) are not decayed, nor are the parameters that the network lists: the
        CLS token and positions.
        """
        network = self.tuned.network
        scales = {
            f"network.{name}": scale
            for name, scale in layer_scales(network, self.settings.layer_decay).items()
        }
        listed: set[str] = getattr(network, "no_weight_decay", set)()
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for name, parameter in self.tuned.named_parameters():
            if parameter.requires_grad:
                free = parameter.ndim <= 1 or name.removeprefix("network.") in listed
                groups.setdefault((scales.get(name, 1.0), free), []).append(parameter)
        return [
            {"params": groups[key], "lr_scale": key[0]} | ({"weight_decay": 0.0} if key[1] else {})
            for key in sorted(groups, reverse=True)
        ]

    def rates(self, at: Moment, peak: float) -> tuple[float, float]:
        """Return a learning rate that rises linearly from `first_lr` and then falls by half a
        cosine to `min_lr`, and a constant weight decay."""
        s = self.settings
        if at.progress < s.warmup:
            return s.first_lr + (peak - s.first_lr) * at.progress / s.warmup, s.weight_decay
        return cosine((at.progress - s.warmup) / (1 - s.warmup), peak, s.min_lr), s.weight_decay

    @torch.no_grad()
    def after_update(self, at: Moment) -> None:
        """Move the average, if there is one; the statistics of batch norms are copied."""
        if self.average is not None:
            follow(self.average, self.tuned, self.settings.ema)
            for kept, now in zip(self.average.buffers(), self.tuned.buffers(), strict=True):
                kept.copy_(now)

    def weights(self) -> dict[str, Tensor]:
        """Return the weights that are kept: the network's under their own names, and the
        classifier's with the prefix `classifier.`."""
        weights = dict(self.encoder.state_dict())
        for part in ("norm", "head"):
            state = self.classifier.get_submodule(part).state_dict()
            weights |= {f"classifier.{part}.{name}": value for name, value in state.items()}
        return weights


def job(model: Backbone, images: ImageSet, settings: Settings) -> TrainingJob:
    """Describe, for the loop, the fine-tuning of a model on labelled images.

    Raises:
        InputError: images without labels or of one class; settings that the optimiser cannot
            follow, or that do not go with the network.
    """
    settings = replace(settings, classes=class_names(LEARNER, images))
    require_optimisable(settings)
    start = StartingPoint.of(model)
    built = FineTuning(model, settings)
    known, begun = model.about, origin(model)
    return TrainingJob(
        verb=LEARNER,
        name=f"{model.name} with a classifier",
        learner=LEARNER,
        network=model.name,
        settings=settings,
        start=start,
        batch=batch,
        build=lambda: FineTuning(model, settings),
        sketch=built,
        config={
            "objective": LEARNER,
            "arch": known.arch,
            "pretrained": {"name": begun.name, "digest": begun.digest},
        },
        shape=describe_shape(model, built.encoder),
        about=About(
            family=known.family,
            objective=known.objective,
            arch=known.arch,
            tuned="fine-tuned",
            pretrained=begun,
            pooling=settings.pooling,
            classes=settings.classes,
        ),
        transform=model.transform,
        weights=FineTuning.weights,
        require_batch_size=partial(_require_pairs, settings),
        find_trivial=partial(_find_trivial, settings),
    )


def _find_trivial(
    settings: Settings, labels: Int64[np.ndarray, " image"], images: int
) -> TrivialLoss:
    """The loss of guessing the classes by how often they come."""
    return guess_classes(labels, settings.smoothing, MEND)


def _require_pairs(settings: Settings, batch_size: int, shares: int) -> None:
    """Refuse shares of a minibatch with an odd number of images where these are mixed in pairs."""
    share = batch_size // shares
    if settings.mixing() is not None and share % 2:
        raise InputError(
            f"Images are mixed in pairs, and each of {shares} shares of a minibatch of"
            f" {batch_size} would have {share}",
            mend=f"give a {{batch_size}} of a multiple of {2 * shares}, or {{settings.mixup=0}} and"
            " {settings.cutmix=0}",
        )
