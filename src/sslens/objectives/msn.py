"""MSN: masked views of an image are assigned to the same prototypes as the whole image (Assran et
al., 2022, arXiv:2204.07141)."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from sslens.data.streams import mask_noise
from sslens.data.views import Colours, RandomViews, msn_views
from sslens.errors import InputError
from sslens.methods import Batch, Moment, Rows
from sslens.methods.balance import balance_assignments
from sslens.methods.parameters import follow, group_by_decay
from sslens.methods.schedules import cosine
from sslens.methods.settings import require_bounds
from sslens.methods.trivial import TrivialLoss, assign_alike
from sslens.models.crops import (
    begin_as_mae,
    choose_local_size,
    compute_class_tokens,
    learn_positions,
)
from sslens.models.heads import build_gelu_mlp, sum_over_processes
from sslens.models.vit import ViTArch

FAMILY = "JE"
KINDS = ("vit",)


@dataclass(frozen=True)
class Settings:
    """Section 3 of the paper; the defaults are those of the released configuration, for a ViT-S/16.

    | | papers | released code | here |
    |---|---|---|---|
    | learning rate | 2e-4 → 1e-3, a cosine to 1e-6 | the same, at 1024 images | for 256, scaled |
    | weight decay, betas | 0.04 → 0.4, – | the same, (0.9, 0.999) | the code's |
    | batch, epochs, warm-up | 1024, 800 (ViT-S) or 600, 15 | 1024, 800, 15 | a share: 15 of 800 |
    | prototypes, temperatures | 1024 × 256, 0.1, 0.025 | 0.1, sharpened by 0.25 | the code's |
    | patches left out | 0.15 (ViT-S), more in larger networks | 0.15 | the code's |
    | entropy of the mean, Sinkhorn | weight 1 | weight 1; 3 iterations on targets | the code's |
    | momentum | 0.996 → 1 | linear, over 1.25 times the training | the code's |

    The gradients of prototypes are averaged over processes; the released code sums them, which
    under Adam is the same but for its ε. A `focal_size` of 0 is three sevenths of the image, as 96
    px is of 224. `colour` is the strength of SimCLR's jitter; `grey`, `target_grey` (`grey` if 0)
    and `blur` are those of `sslens.data.views.Colours`. `sincos` begins as MAE does.
    """

    prototypes: int = 1024
    head_dim: int = 2048
    out_dim: int = 256
    temperature: float = 0.1
    sharpening: float = 0.25
    sinkhorn_steps: int = 3
    entropy_weight: float = 1.0
    patch_drop: float = 0.15
    focal_views: int = 10
    focal_size: int = 0
    focal_scale: tuple[float, float] = (0.05, 0.3)
    random_scale: tuple[float, float] = (0.3, 1.0)
    sincos: bool = False
    colour: float = 0.5
    grey: float = 0.2
    target_grey: float = 0.0
    blur: float = 2.0
    momentum: float = 0.996
    stretch: float = 1.25
    clip: float = 3.0
    base_lr: float = 2.5e-4
    first_lr: float = 5e-5
    min_lr: float = 1e-6
    weight_decay: float = 0.04
    last_weight_decay: float = 0.4
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: float = 15 / 800

    def __post_init__(self) -> None:
        require_bounds(
            self,
            above_0=("temperature", "sharpening", "prototypes", "head_dim", "out_dim", "blur"),
            below_1=("patch_drop",),
            shares=("momentum", "colour", "grey", "target_grey"),
            counts=(
                "sinkhorn_steps",
                "entropy_weight",
                "focal_views",
                "clip",
                "first_lr",
                "min_lr",
                "last_weight_decay",
            ),
        )
        if not 1 <= self.stretch < math.inf:
            raise InputError(
                f"The setting stretch is {self.stretch}: expected 1 or more, times the training."
            )


def crops(settings: Settings, arch: ViTArch) -> RandomViews:
    """Return the random views of an image: the target view, the random view, then the focal
    views."""
    s, focal = settings, choose_local_size(arch.image_size, arch.patch_size, settings.focal_size)
    scales = {"random_scale": s.random_scale, "focal_scale": s.focal_scale}
    strong = 0.8 * s.colour
    colours = Colours(
        jitter=strong,
        saturation=strong,
        hue=strong / 4,
        grey=s.grey,
        blur=s.blur,
        target_grey=s.target_grey or None,
    )
    return msn_views(arch.image_size, focal, s.focal_views, colours=colours, **scales)


def batch(
    images: Sequence[Image.Image], settings: Settings, arch: ViTArch, rows: Rows
) -> dict[str, Tensor]:
    """Make the target view, the random view and the focal views, and the noise that orders the
    patches of the random view.

    The same patches are left out of all images of a step, as in the released code, so every row of
    the noise is the same.
    """
    target, random, *focal = crops(settings, arch).batch(images, **rows.keywords())
    noise = mask_noise(rows.seed, rows.step, slice(0, 1), rows.total, arch.grid**2)
    views = {"target": target, "random": random, "noise": noise.repeat(len(images), 1)}
    return views | ({"focal": torch.stack(focal, dim=1)} if focal else {})


def find_trivial(settings: Settings, labels: object, images: int) -> TrivialLoss:
    """The loss of assigning all images alike."""
    return assign_alike(settings.prototypes)


@final
class Objective(nn.Module):
    """An anchor network, a target network that follows it and is kept, and prototypes."""

    whole_batch: ClassVar[bool] = True
    divisible: ClassVar[bool] = True

    def __init__(self, arch: ViTArch, settings: Settings) -> None:
        super().__init__()
        crops(settings, arch)  # which refuses those that cannot be taken
        self.settings = settings
        encoder = arch.build()
        if settings.sincos:
            begin_as_mae(encoder)
        else:
            learn_positions(encoder)
            nn.init.kaiming_normal_(encoder.patch_embed.proj.weight, nonlinearity="relu")
        nn.init.zeros_(encoder.patch_embed.proj.bias)
        head = build_gelu_mlp(
            (arch.dim, settings.head_dim, settings.head_dim, settings.out_dim), norm=True
        )
        self.anchor = nn.ModuleDict({"encoder": encoder, "head": head})
        self.target = copy.deepcopy(self.anchor).requires_grad_(False)
        bound = settings.out_dim**-0.5
        self.prototypes = nn.Parameter(
            torch.empty(settings.prototypes, settings.out_dim).uniform_(-bound, bound)
        )

    @property
    def encoder(self) -> VisionTransformer:
        """The target network's encoder, which is the one that the authors evaluate."""
        return self.target["encoder"]

    def forward(self, batch: Batch) -> Float[Tensor, ""]:
        """Compute the loss of the assignments of the random and focal views against those of the
        target view."""
        return self.loss(self.features(batch), self.targets(batch))

    def features(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the anchor encoder's CLS tokens of the random view, with patches left out, and of
        the focal views."""
        encoder: VisionTransformer = self.anchor["encoder"]
        kept = batch["noise"][0].argsort()[
            : math.floor(batch["noise"].shape[1] * (1 - self.settings.patch_drop))
        ]
        features = {"random": compute_class_tokens(encoder, batch["random"], patches=kept)}
        return features | (
            {"focal": compute_class_tokens(encoder, batch["focal"])} if "focal" in batch else {}
        )

    @torch.no_grad()
    def targets(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the target encoder's CLS token of the target view, with all patches."""
        return {"target": compute_class_tokens(self.encoder, batch["target"])}

    def loss(
        self, features: Mapping[str, Tensor], targets: Mapping[str, Tensor]
    ) -> Float[Tensor, ""]:
        """Compute the cross-entropy of the views' assignments with the target's assignments, plus
        an entropy term that is 0 where the mean assignment is uniform.

        The loss is −mean Σ_k t_k log p_k + λ (log K − H(p̄)). Here p = softmax(cos(z, prototypes) /
        τ), p̄ is the mean of p over all views of all processes, and t is the target's p, sharpened
        to p^(1/T) / Σ p^(1/T) and then balanced by `balance_assignments`. Each kind of view goes
        through the head by itself, so that the head's batch norms have statistics for each kind.
        """
        s = self.settings
        with torch.no_grad():
            logits = self._logits(self.target["head"](targets["target"]))
            t = balance_assignments(F.softmax(logits / s.sharpening, dim=-1), s.sinkhorn_steps)
        views = [self._logits(self.anchor["head"](features["random"]))[:, None]]
        if "focal" in features:
            focal = features["focal"]
            views.append(
                self._logits(self.anchor["head"](focal.flatten(0, 1))).unflatten(0, focal.shape[:2])
            )
        log_p = F.log_softmax(torch.cat(views, dim=1), dim=-1)
        match = -(t[:, None] * log_p).sum(-1).mean()
        world = dist.get_world_size() if dist.is_initialized() else 1
        mean = sum_over_processes(log_p.exp().mean((0, 1))) / world
        return match + s.entropy_weight * (
            torch.special.xlogy(mean, mean).sum() + math.log(len(mean))
        )

    def _logits(self, z: Float[Tensor, "image dim"]) -> Float[Tensor, "image prototype"]:
        """Cosines with the prototypes over the temperature, in float32."""
        with torch.autocast(z.device.type, enabled=False):
            return (
                F.linear(F.normalize(z.float()), F.normalize(self.prototypes))
                / self.settings.temperature
            )

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Vectors (biases, norms) and prototypes are not decayed."""
        return [
            *group_by_decay(self.anchor.parameters()),
            {"params": [self.prototypes], "weight_decay": 0.0},
        ]

    def rates(self, at: Moment, peak: float) -> tuple[float, float]:
        """Return a learning rate that rises linearly and then follows the first part of half a
        cosine, which would end at 1.25 times the training."""
        s, done = self.settings, at.step + 1
        warm, whole = round(s.warmup * at.steps), int(s.stretch * at.steps)
        decay = cosine(done / whole, s.weight_decay, s.last_weight_decay)
        if done < warm:
            first = peak * s.first_lr / s.base_lr
            return first + done / warm * (peak - first), decay
        return cosine((done - warm) / max(1, whole - warm), peak, s.min_lr), decay

    def before_update(self, at: Moment) -> None:
        """Clip the anchor network's gradients together; the prototypes' gradients are not
        clipped."""
        if self.settings.clip:
            nn.utils.clip_grad_norm_(self.anchor.parameters(), self.settings.clip)

    def after_update(self, at: Moment) -> None:
        """Move the target network; its momentum rises linearly from 0.996 to 1 over 1.25 times the
        training."""
        m = self.settings.momentum
        follow(self.target, self.anchor, m + (1 - m) * at.progress / self.settings.stretch)
