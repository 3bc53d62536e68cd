"""DINO: a student predicts from some crops what its momentum teacher makes of other crops (Caron et
al., 2021, arXiv:2104.14294)."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from timm.models.resnet import ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from sslens.data.streams import depth_noise
from sslens.data.views import Colours, RandomViews, dino_views
from sslens.methods import Batch, Moment, Rows
from sslens.methods.balance import balance_assignments
from sslens.methods.parameters import clip_each, follow, group_by_decay
from sslens.methods.schedules import cosine
from sslens.methods.settings import require_bounds
from sslens.methods.trivial import TrivialLoss, assign_alike
from sslens.models.arch import Arch
from sslens.models.convolutions import pool
from sslens.models.crops import (
    begin_as_mae,
    choose_local_size,
    compute_class_tokens,
    learn_positions,
    make_depth_factors,
)
from sslens.models.heads import build_gelu_mlp, share_norms
from sslens.models.vit import ViTArch

FAMILY = "JE"
KINDS = ("vit", "resnet")


@dataclass(frozen=True)
class Settings:
    """Sections 3 and 5 of the paper and Table 3 of Shekhar et al. (2023); the defaults are the
    released code's.

    | | papers | released code | here |
    |---|---|---|---|
    | base lr, lowest lr | 5e-4, – | 5e-4, 1e-6 | the code's |
    | weight decay, betas | 0.04, (0.9, 0.95) | 0.04 → 0.4 by a cosine, (0.9, 0.999) | the code's |
    | batch, epochs, warm-up | 4096 (first: 1024), 300, 10 | 1024, 100, 10 | a share: 10 of 100 |
    | teacher's temperature | 0.04 → 0.07 in 30 epochs | 0.04; README: 0.07 for ViT-S | the code's |
    | momentum | 0.996 → 1 by a cosine | the same | the same |
    | prototypes | 65,536, of length 1 | the same; ViT-S: lengths are trained | of length 1 |
    | crops | 2 of 0.4–1, 8 of 0.05–0.4 | the same; 0.14–1 if none are local | as the code |

    A `local_size` of 0 is three sevenths of the image, as 96 px is of 224. A `global_low` of 0 is
    0.4, or 0.14 without local crops. A ResNet has no drop path; its batch norms see the images of
    all processes, and the teacher's too are in training mode: they use the statistics of the step,
    not running ones; the recipe `resnet50` has its optimiser and crops. SGD and LARS take the first
    of `betas` as their momentum. `freeze_epochs` and `teacher_epochs` count epochs; `jitter`,
    `hue`, `grey`, `blur` and `solarise` are those of `sslens.data.views.Colours`, and a
    `target_grey` of 0 is `grey`. `target_grey` is for the global views, which the teacher sees.
    `head_norm` is the released code's `use_bn_in_head`: batch norms over all crops of the
    minibatch, with the statistics of the step in the student and in the teacher. With `sincos`
    a ViT begins as MAE's does, with fixed sin-cos positions: small ViTs on few images learn
    sooner so. With `sinkhorn_steps` the targets are balanced over the prototypes by as many
    steps of Sinkhorn and Knopp (as in DINOv2, arXiv 2304.07193) instead of centred. The warm-up
    reaches its peak in its last step, as in the released code.
    """

    prototypes: int = 65_536
    head_dim: int = 2048
    out_dim: int = 256
    head_norm: bool = False
    student_temperature: float = 0.1
    teacher_temperature: float = 0.04
    teacher_start: float = 0.04
    teacher_epochs: int = 0
    centre_momentum: float = 0.9
    sinkhorn_steps: int = 0
    momentum: float = 0.996
    freeze_epochs: int = 1
    clip: float = 3.0
    drop_path: float = 0.1
    sincos: bool = False
    local_crops: int = 8
    local_size: int = 0
    local_scale: tuple[float, float] = (0.05, 0.4)
    global_low: float = 0.0
    jitter: float = 0.4
    hue: float = 0.1
    grey: float = 0.2
    target_grey: float = 0.0
    blur: float = 2.0
    solarise: float = 0.2
    optimiser: str = "adamw"
    base_lr: float = 5e-4
    min_lr: float = 1e-6
    weight_decay: float = 0.04
    last_weight_decay: float = 0.4
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: float = 0.1

    def __post_init__(self) -> None:
        require_bounds(
            self,
            above_0=(
                "student_temperature",
                "teacher_temperature",
                "teacher_start",
                "prototypes",
                "head_dim",
                "out_dim",
                "blur",
            ),
            below_1=("drop_path", "global_low"),
            shares=("momentum", "centre_momentum", "grey", "target_grey", "solarise"),
            counts=(
                "jitter",
                "local_crops",
                "teacher_epochs",
                "freeze_epochs",
                "sinkhorn_steps",
                "clip",
                "min_lr",
                "last_weight_decay",
            ),
        )


def crops(settings: Settings, arch: Arch) -> RandomViews:
    """Return the random views of an image: the global views first, then the local ones."""
    size, patch = arch.image_size, arch.patch_size
    low = settings.global_low or (0.4 if settings.local_crops else 0.14)
    local = choose_local_size(size, patch, settings.local_size)
    colours = Colours(
        jitter=settings.jitter,
        hue=settings.hue,
        grey=settings.grey,
        blur=settings.blur,
        solarise=settings.solarise,
        target_grey=settings.target_grey or None,
    )
    scales = {"global_scale": (low, 1.0), "local_scale": settings.local_scale}
    return dino_views(size, local, settings.local_crops, **scales, colours=colours)


def batch(
    images: Sequence[Image.Image], settings: Settings, arch: Arch, rows: Rows
) -> dict[str, Tensor]:
    """Make the global and local crops of each image, and the noise by which the student's residual
    branches are dropped."""
    views = crops(settings, arch).batch(images, **rows.keywords())
    tensors = {"global": torch.stack(views[:2], dim=1)}
    if settings.local_crops:
        tensors["local"] = torch.stack(views[2:], dim=1)
    if settings.drop_path and isinstance(arch, ViTArch):
        noise = depth_noise(**rows.keywords(), places=len(views) * arch.blocks * 2)
        tensors["depth"] = noise.unflatten(1, (len(views), arch.blocks, 2))
    return tensors


def find_trivial(settings: Settings, labels: object, images: int) -> TrivialLoss:
    """The loss of assigning all images alike."""
    return assign_alike(settings.prototypes)


@final
class Objective(nn.Module):
    """A student and a teacher, each an encoder with a head and prototypes; the teacher follows the
    student and is kept."""

    whole_batch: ClassVar[bool] = False
    centre: Tensor

    def __init__(self, arch: Arch, settings: Settings) -> None:
        super().__init__()
        crops(settings, arch)  # which refuses those that cannot be taken
        self.settings = settings
        together = settings.head_norm or settings.sinkhorn_steps > 0
        self.divisible = isinstance(arch, ViTArch) and not together
        encoder = arch.build()
        if isinstance(arch, ViTArch):
            (begin_as_mae if settings.sincos else learn_positions)(encoder)
        else:
            share_norms(encoder)
        dim = arch.dim if isinstance(arch, ViTArch) else arch.channels
        head = build_gelu_mlp(
            (dim, settings.head_dim, settings.head_dim, settings.out_dim), norm=settings.head_norm
        )
        prototypes = nn.Linear(settings.out_dim, settings.prototypes, bias=False)
        self.student = nn.ModuleDict({"encoder": encoder, "head": head, "prototypes": prototypes})
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.register_buffer("centre", torch.zeros(settings.prototypes))
        self.temperature = settings.teacher_start
        self._teacher_means: list[Tensor] = []

    @property
    def encoder(self) -> VisionTransformer | ResNet:
        """The teacher's encoder, which is the one that the authors evaluate."""
        return self.teacher["encoder"]

    def forward(self, batch: Batch) -> Float[Tensor, ""]:
        """Compute the loss of the student's outputs for all crops against the teacher's outputs for
        the global crops."""
        with torch.no_grad():
            teacher = self._logits(self.teacher, _represent(self.encoder, batch["global"]))
        encoder: VisionTransformer | ResNet = self.student["encoder"]
        branches: tuple[Tensor | None, ...] = (None, None)
        if self.training and "depth" in batch:
            branches = make_depth_factors(batch["depth"], self.settings.drop_path).tensor_split(
                [2], dim=1
            )
        tokens = [_represent(encoder, batch["global"], branches=branches[0])]
        if "local" in batch:
            tokens.append(_represent(encoder, batch["local"], shift=0.1, branches=branches[1]))
        if self.training:
            self._teacher_means.append(teacher.mean((0, 1)))
        return self.loss(self._logits(self.student, torch.cat(tokens, dim=1)), teacher)

    @staticmethod
    def _logits(
        branch: nn.ModuleDict, tokens: Float[Tensor, "image view dim"]
    ) -> Float[Tensor, "image view prototype"]:
        """Cosines with the prototypes, in float32."""
        z = branch["head"](tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
        prototypes = branch.get_parameter("prototypes.weight")
        with torch.autocast(z.device.type, enabled=False):
            return F.linear(F.normalize(z.float(), dim=-1), F.normalize(prototypes, dim=1))

    def loss(
        self,
        student: Float[Tensor, "image view prototype"],
        teacher: Float[Tensor, "image 2 prototype"],
    ) -> Float[Tensor, ""]:
        """Cross-entropy −Σ_k p_k log s_k, averaged over images and pairs of a global crop (p) and
        another crop (s).

        p = softmax((teacher − centre) / τ_t) and s = softmax(student / τ_s). With V views there are
        2V − 2 pairs. With `sinkhorn_steps`, p is softmax(teacher / τ_t), balanced over the
        prototypes.
        """
        p = self.assign(teacher)
        log_s = F.log_softmax(student / self.settings.student_temperature, dim=-1)
        with torch.autocast(p.device.type, enabled=False):
            pairs = -torch.einsum("igk,ivk->gv", p, log_s) / len(p)
        return (pairs.sum() - pairs.diagonal().sum()) / (pairs.numel() - 2)

    def assign(
        self, teacher: Float[Tensor, "image 2 prototype"]
    ) -> Float[Tensor, "image 2 prototype"]:
        """Return the targets of the global crops, centred or balanced over prototypes."""
        if not self.settings.sinkhorn_steps:
            return F.softmax((teacher - self.centre) / self.temperature, dim=-1)
        p = F.softmax(teacher / self.temperature, dim=-1).flatten(0, 1)
        balanced = balance_assignments(p, self.settings.sinkhorn_steps)
        return balanced.unflatten(0, teacher.shape[:2])

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Vectors (biases, norms) are not decayed; tokens, positions and prototypes are, as in the
        released code."""
        return group_by_decay(self.student.parameters())

    def rates(self, at: Moment, peak: float) -> tuple[float, float]:
        """Return a learning rate that rises linearly, reaches its peak in the warm-up's last step
        and then falls by half a cosine; and a weight decay that follows half a cosine."""
        s, warm = self.settings, round(self.settings.warmup * at.steps)
        decay = cosine(at.progress, s.weight_decay, s.last_weight_decay)
        if at.step < warm:
            return peak * at.step / max(1, warm - 1), decay
        return cosine((at.step - warm) / (at.steps - warm), peak, s.min_lr), decay

    def before_step(self, at: Moment) -> None:
        """Set the teacher's temperature, which rises linearly, epoch by epoch, over the first
        `teacher_epochs`."""
        s = self.settings
        share = (
            min(1.0, at.epoch / max(1, s.teacher_epochs - 1))
            if at.epoch < s.teacher_epochs
            else 1.0
        )
        self.temperature = s.teacher_start + share * (s.teacher_temperature - s.teacher_start)

    def before_update(self, at: Moment) -> None:
        """Clip each gradient by itself; in the first epochs (`freeze_epochs`) keep the prototypes
        as they are, without decay too."""
        clip_each(self.student.parameters(), self.settings.clip)
        if at.epoch < self.settings.freeze_epochs:
            self.student.get_parameter("prototypes.weight").grad = None

    @torch.no_grad()
    def after_update(self, at: Moment) -> None:
        """Move the centre towards the mean of the teacher's outputs in the step, and the teacher
        towards the student."""
        mean = torch.stack(self._teacher_means).mean(0)
        self._teacher_means.clear()
        if dist.is_initialized():
            dist.all_reduce(mean)
            mean /= dist.get_world_size()
        self.centre.lerp_(mean, 1 - self.settings.centre_momentum)
        follow(self.teacher, self.student, cosine(at.progress, self.settings.momentum, 1.0))


def _represent(
    encoder: VisionTransformer | ResNet,
    crops: Float[Tensor, "image view 3 size size"],
    *,
    shift: float = 0.0,
    branches: Float[Tensor, "image view block 2"] | None = None,
) -> Float[Tensor, "image view dim"]:
    """The CLS token of each crop, or the mean over its places."""
    if isinstance(encoder, ResNet):
        return pool(encoder, crops)
    return compute_class_tokens(encoder, crops, shift=shift, branches=branches)
