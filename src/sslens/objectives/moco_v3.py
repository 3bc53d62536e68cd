"""MoCo-v3: two views of an image are each other's positives (Chen, Xie and He, 2021,
arXiv:2104.02057)."""

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
from timm.models.resnet import ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from sslens.data.views import Colours, moco_v3_views
from sslens.errors import InputError
from sslens.methods import Batch, Moment, Rows
from sslens.methods.parameters import follow
from sslens.methods.schedules import cosine, warmup_cosine
from sslens.methods.settings import require_bounds
from sslens.methods.trivial import TrivialLoss, rank_alike
from sslens.models.arch import Arch
from sslens.models.convolutions import pool, start_at_identity
from sslens.models.crops import compute_class_tokens
from sslens.models.heads import build_mlp, share_norms
from sslens.models.positions import make_sincos_positions
from sslens.models.vit import ViTArch

FAMILY = "JE"
KINDS = ("vit", "resnet")


@dataclass(frozen=True)
class Settings:
    """Section 4.1 of the paper and Table 2 of Shekhar et al. (2023).

    | | papers | released code | here |
    |---|---|---|---|
    | base lr, weight decay | 1.5e-4, 0.1 | the same | the same |
    | betas | (0.9, 0.95) | (0.9, 0.999) | the code's |
    | batch, epochs, warm-up | 4096, 300, 40 | the same | warm-up is a share: 40 of 300 |
    | temperature, momentum | 0.2, 0.99 → 1 by a cosine | the same | the same |
    | projector, predictor | 4096 wide, 256 out | the same | the same |

    A ResNet has a projector of two layers instead of three and a predictor without the last
    BatchNorm, as in the released code; the recipes `resnet50-…` have its temperature, optimiser and
    crops. In a ResNet the last normalisation of every residual branch starts at zero, and batch
    norms see the images of all processes. LARS takes the first of `betas` as its momentum.
    `crop_low` is the least share of the image's area; `jitter`, `grey`, `blur` and `solarise` are
    those of `sslens.data.views.Colours`. `freeze_patches` keeps a ViT's patch embedding as it was
    drawn (section 4.2).
    """

    temperature: float = 0.2
    momentum: float = 0.99
    head_dim: int = 4096
    out_dim: int = 256
    crop_low: float = 0.08
    jitter: float = 0.4
    hue: float = 0.1
    grey: float = 0.2
    blur: float = 2.0
    solarise: float = 0.2
    freeze_patches: bool = True
    optimiser: str = "adamw"
    base_lr: float = 1.5e-4
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: float = 40 / 300

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise InputError(
                f"The setting temperature is {self.temperature}: expected more than 0."
            )
        if not 0 <= self.momentum <= 1:
            raise InputError(f"The setting momentum is {self.momentum}: expected 0 to 1.")
        if min(self.head_dim, self.out_dim) < 1:
            raise InputError(
                f"A head {self.head_dim} wide with {self.out_dim} outputs cannot be built",
                mend="give 1 or more",
            )
        require_bounds(
            self,
            below_1=("crop_low",),
            above_0=("crop_low", "blur"),
            shares=("grey", "solarise"),
            counts=("jitter",),
        )


def batch(
    images: Sequence[Image.Image], settings: Settings, arch: Arch, rows: Rows
) -> dict[str, Tensor]:
    """Make two views of each image."""
    s = settings
    colours = Colours(jitter=s.jitter, hue=s.hue, grey=s.grey, blur=s.blur, solarise=s.solarise)
    first, second = moco_v3_views(arch.image_size, crop_low=s.crop_low, colours=colours).batch(
        images, **rows.keywords()
    )
    return {"first": first, "second": second}


def find_trivial(settings: Settings, labels: object, images: int) -> TrivialLoss:
    """The loss of finding all images of a step alike, which is the sum over both directions."""
    return rank_alike(images, 4 * settings.temperature)


@final
class Objective(nn.Module):
    """An encoder with projector and predictor, and a momentum encoder with a projector that follows
    the encoder."""

    whole_batch: ClassVar[bool] = True

    def __init__(self, arch: Arch, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.divisible = isinstance(arch, ViTArch)
        encoder = arch.build()
        if isinstance(arch, ViTArch):
            self._initialise(encoder, arch)
            encoder.patch_embed.proj.requires_grad_(
                not settings.freeze_patches
            )  # the training is stabler with random ones
            projector = build_mlp(
                (arch.dim, settings.head_dim, settings.head_dim, settings.out_dim)
            )
        else:
            start_at_identity(encoder)
            share_norms(encoder)
            projector = build_mlp((arch.channels, settings.head_dim, settings.out_dim))
        self.base = nn.ModuleDict({"encoder": encoder, "projector": projector})
        self.predictor = build_mlp(
            (settings.out_dim, settings.head_dim, settings.out_dim), last_norm=self.divisible
        )
        self.momentum = copy.deepcopy(self.base).requires_grad_(False)

    @staticmethod
    def _initialise(encoder: VisionTransformer, arch: ViTArch) -> None:
        encoder.pos_embed.data = make_sincos_positions(arch.dim, arch.grid, transposed=True)
        for name, module in encoder.named_modules():
            if isinstance(module, nn.Linear):
                fan_out = len(module.weight) // (3 if name.endswith("qkv") else 1)
                bound = math.sqrt(6 / (fan_out + module.weight.shape[1]))
                nn.init.uniform_(module.weight, -bound, bound)
                nn.init.zeros_(module.bias)
        nn.init.normal_(encoder.cls_token, std=1e-6)
        projection = encoder.patch_embed.proj
        bound = math.sqrt(6 / (3 * arch.patch_size**2 + arch.dim))
        nn.init.uniform_(projection.weight, -bound, bound)
        nn.init.zeros_(projection.bias)

    @property
    def encoder(self) -> VisionTransformer | ResNet:
        """The base encoder, which is the one that the authors evaluate."""
        return self.base["encoder"]

    def forward(self, batch: Batch) -> Float[Tensor, ""]:
        """Compute the loss of each view's predictions against the other view's keys, summed over
        both directions."""
        return self.loss(self.features(batch), self.targets(batch))

    def features(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the encoder's CLS token of each view, or the mean over places for a ResNet."""
        return {view: _represent(self.encoder, batch[view]) for view in ("first", "second")}

    @torch.no_grad()
    def targets(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the momentum encoder's CLS token of each view, or the mean over places for a
        ResNet."""
        return {
            view: _represent(self.momentum["encoder"], batch[view]) for view in ("first", "second")
        }

    def loss(
        self, features: Mapping[str, Tensor], targets: Mapping[str, Tensor]
    ) -> Float[Tensor, ""]:
        """Apply the heads, whose batch norms see the whole minibatch, and compute InfoNCE in both
        directions."""
        q1, q2 = (
            self.predictor(self.base["projector"](features[view])) for view in ("first", "second")
        )
        with torch.no_grad():
            k1, k2 = (self.momentum["projector"](targets[view]) for view in ("first", "second"))
        return self.contrast(q1, k2) + self.contrast(q2, k1)

    def contrast(
        self, queries: Float[Tensor, "image dim"], keys: Float[Tensor, "image dim"]
    ) -> Float[Tensor, ""]:
        """Compute InfoNCE times 2τ: −2τ · mean_i log softmax_j(q_i·k_j / τ) at j = i.

        The keys k_j come from all processes; logits are float32.
        """
        tau = self.settings.temperature
        keys = gather(F.normalize(keys.float(), dim=1))
        rank = dist.get_rank() if dist.is_initialized() else 0
        with torch.autocast(queries.device.type, enabled=False):
            logits = F.normalize(queries.float(), dim=1) @ keys.T / tau
            own = torch.arange(len(queries), device=queries.device) + len(queries) * rank
            return 2 * tau * F.cross_entropy(logits, own)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Put all trained parameters into one kind of group: weight decay is on biases and norms
        too, as in the released code."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def rates(self, at: Moment, peak: float) -> tuple[float, float]:
        """Return a learning rate that rises linearly from 0 and then falls by half a cosine to 0,
        and a constant weight decay."""
        return warmup_cosine(at.progress, self.settings.warmup, peak), self.settings.weight_decay

    def before_step(self, at: Moment) -> None:
        """Move the momentum branch before the loss: θ_m ← mθ_m + (1 − m)θ with m = 1 − (1 − 0.99)(1
        + cos πt)/2, for parameters only."""
        follow(self.momentum, self.base, cosine(at.progress, self.settings.momentum, 1.0))


def _represent(
    encoder: VisionTransformer | ResNet, images: Float[Tensor, "image 3 size size"]
) -> Float[Tensor, "image dim"]:
    return (
        pool(encoder, images)
        if isinstance(encoder, ResNet)
        else compute_class_tokens(encoder, images)
    )


def gather(x: Float[Tensor, "image dim"]) -> Float[Tensor, "all dim"]:
    """Gather the rows of all processes, in order of rank, without gradient."""
    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return x
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)
