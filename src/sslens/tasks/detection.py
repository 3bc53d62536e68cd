"""Detection and instance segmentation: ViTDet's pyramid and heads on a pre-trained network, which
stays as it is or is trained too (Li et al., 2022, arXiv:2203.16527).

With a frozen network, its maps of every training image are made once, at a few fixed scales and
mirrored, and the pyramid and heads are trained on these. That is not large-scale jitter, which
shows another scale and another part of the image at every step: with it the network would have to
be run at every step. End to end the images are jittered.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sslens.data.detections import DetectionSet
from sslens.data.hidden import hide_pixels
from sslens.data.images import ImageSet
from sslens.errors import InputError
from sslens.methods import Batch, Moment
from sslens.methods.job import TrainingJob
from sslens.methods.layers import layer_scales
from sslens.methods.settings import require_optimisable
from sslens.models import networks
from sslens.models.about import About
from sslens.models.backbone import Backbone
from sslens.models.branches import Branch, drop_branches, set_factors
from sslens.models.vitdet import DetectionBackbone, make_backbone
from sslens.tasks.detection_batch import unpack_objects
from sslens.tasks.detection_maps import CachedMaps
from sslens.tasks.detection_settings import Settings
from sslens.tasks.detection_views import DetectionStart, batch
from sslens.tasks.detector import Detector, MapShape
from sslens.tasks.start import StartingPoint, origin

__all__ = ["Detection", "DetectionStart", "Settings", "batch", "hide_images", "job"]

#: of the task, for people and in `config.yaml`
LEARNER = "detection"


@final
class Detection(nn.Module):
    """The method of a detection: a detector on the maps of a pre-trained network, which is given
    the maps, or has the network and trains it too.

    The losses are means over what is sampled in a part of a minibatch, as detectron2's are in a
    process: steps in several parts or processes are almost, and not exactly, the same.

    Args:
        model: the pre-trained network.
        settings: of the task; `classes` are filled in.
        shape: of the given maps; None where the network is trained too.
        masks: whether masks are learnt too, or boxes alone.
    """

    whole_batch: ClassVar[bool] = False
    divisible: ClassVar[bool] = True
    exact: ClassVar[bool] = False

    def __init__(
        self, model: Backbone, settings: Settings, shape: MapShape | None, masks: bool = True
    ) -> None:
        super().__init__()
        self.settings = settings
        self.branches: list[Branch] = []
        backbone = None
        if shape is None:
            backbone = _copy_network(model, settings)
            self.branches = drop_branches(backbone.network, settings.drop_path)
            shape = MapShape(tuple(backbone.dims), round(backbone.stride))
        self.detector = Detector(shape, settings.heads, len(settings.classes), backbone, masks)

    @property
    def network(self) -> nn.Module | None:
        """The network that is trained too; None where it stays as it is."""
        backbone = self.detector.backbone
        return backbone.network if isinstance(backbone, DetectionBackbone) else None

    @property
    def learns_masks(self) -> bool:
        """Whether masks are learnt too."""
        return self.detector.heads.roi_heads.mask_head is not None

    @property
    def encoder(self) -> nn.Module:
        """The network that is trained; the detector where there is none."""
        return self.network or self.detector

    def maps(self, given: Batch) -> Sequence[Float[Tensor, "image dim row column"]]:
        """Take the maps of a minibatch from it, or make them of its views."""
        if "view" in given:
            return self.detector.see(given["view"])
        names = sorted(name for name in given if name.startswith("map."))
        return [given[name].permute(0, 3, 1, 2).float() for name in names]

    def forward(self, batch: Batch) -> Float[Tensor, ""]:
        """Sum the losses of proposals, boxes and, where they are learnt, masks."""
        set_factors(self.branches, batch.get("depth"))
        sizes = [(int(height), int(width)) for height, width in batch["sizes"].tolist()]
        objects = unpack_objects(batch)
        losses = self.detector.losses(self.maps(batch), sizes, objects, batch["noise"])
        return torch.stack([loss.float() for loss in losses.values()]).sum()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups by learning rate, the pyramid's and heads' first, and by weight decay."""
        scales: dict[str, float] = {}
        free: set[str] = set()
        if self.network is not None:
            scales = layer_scales(self.network, self.settings.layer_decay)
            free = _list_undecayed(self.network)
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for name, parameter in self.detector.named_parameters():
            own = name.removeprefix("backbone.network.")
            if parameter.requires_grad:
                groups.setdefault((scales.get(own, 1.0), own in free), []).append(parameter)
        return [
            {"params": groups[key], "lr_scale": key[0]} | ({"weight_decay": 0.0} if key[1] else {})
            for key in sorted(groups, key=lambda key: (-key[0], key[1]))
        ]

    def rates(self, at: Moment, peak: float) -> tuple[float, float]:
        """Return a learning rate that rises linearly from a thousandth and falls to a tenth after
        each milestone, and a constant weight decay."""
        s = self.settings
        if at.progress < s.warmup:
            share = at.progress / s.warmup
            return peak * (1e-3 * (1 - share) + share), s.weight_decay
        passed = sum(at.progress >= milestone for milestone in s.milestones)
        return peak * 0.1**passed, s.weight_decay


def _copy_network(model: Backbone, settings: Settings) -> DetectionBackbone:
    """Copy the network of a model, to be trained; a CNN has no blocks to choose and no windows."""
    if isinstance(model.network, networks.CNNS):
        return make_backbone(model, settings.size)
    return make_backbone(
        model,
        settings.size,
        blocks=settings.blocks or None,
        window=settings.window,
        relative=settings.relative,
    )


def _list_undecayed(network: nn.Module) -> set[str]:
    """Name the parameters that are not decayed: the norms', positions and the CLS token."""
    names = set(getattr(network, "no_weight_decay", set)())
    for name, module in network.named_modules():
        if isinstance(module, nn.LayerNorm | nn.modules.batchnorm._BatchNorm):
            names |= {f"{name}.{own}" for own, _ in module.named_parameters(recurse=False)}
    return names


def job(
    model: Backbone, images: DetectionSet, settings: Settings, maps: CachedMaps | None = None
) -> TrainingJob:
    """Describe, for the loop, the training of a detector.

    Args:
        model: the pre-trained network.
        images: the training images with their objects.
        settings: of the task.
        maps: the maps of these images, of a network that stays as it is; None where it is trained
            too.

    Raises:
        InputError: images without objects, or settings that the optimiser cannot follow or
            that do not go with the network.
    """
    settings = replace(settings, classes=images.categories)
    require_optimisable(settings)
    require_trainable(images)
    if settings.tuned == (maps is not None):
        raise ValueError("maps are for a network that stays as it is")
    start = StartingPoint.of(model) if settings.tuned else StartingPoint("", model.transform, 0)
    shape = None if maps is None else maps.shape
    masks = images.has_masks
    built = Detection(model, settings, shape, masks)
    known, begun = model.about, origin(model)
    about = About(family=known.family, objective=known.objective, arch=known.arch)
    if settings.tuned:
        about = replace(about, tuned="fine-tuned", pretrained=begun, classes=settings.classes)
    return TrainingJob(
        verb=LEARNER,
        name=f"{model.name} with a detector",
        learner=LEARNER,
        network=model.name,
        settings=settings,
        start=DetectionStart(images, start, maps),
        batch=batch,
        build=lambda: Detection(model, settings, shape, masks),
        sketch=built,
        config={
            "objective": LEARNER,
            "arch": known.arch,
            "objects": images.digest,
            "pretrained": {"name": begun.name, "digest": begun.digest},
        },
        shape={},
        about=about,
        transform=model.transform,
        weights=_select_weights,
    )


def _select_weights(method: Detection) -> dict[str, Tensor]:
    """The weights that are kept: the detector's, with the prefix `detector.`."""
    return {f"detector.{name}": value for name, value in method.detector.state_dict().items()}


def require_trainable(images: DetectionSet) -> None:
    """Refuse images from which no detector can learn.

    Raises:
        InputError: no image has an object.
    """
    if images.objects.crowd.all():
        raise InputError(
            f"No image of {images.name} has an object to learn",
            mend="give annotations with objects",
        )


def hide_images(images: DetectionSet) -> ImageSet:
    """Return the images without their pixels, for a training that reads maps in their place."""
    return hide_pixels(images.images)
