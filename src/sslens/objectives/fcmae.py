"""FCMAE: reconstruct the pixels of masked patches with a convolutional network (Woo et al., 2023,
arXiv:2301.00808)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from jaxtyping import Bool, Float
from PIL import Image
from timm.models.convnext import ConvNeXt, ConvNeXtBlock
from torch import Tensor, nn

from sslens.counts import spell_count
from sslens.data.streams import mask_noise
from sslens.data.views import mae_views
from sslens.errors import InputError, nearest
from sslens.methods import Batch, Moment, Rows
from sslens.methods.pixels import compute_masked_error
from sslens.methods.schedules import warmup_cosine
from sslens.methods.settings import require_depth
from sslens.methods.trivial import TrivialLoss, predict_means
from sslens.models.cnn import CNNArch
from sslens.models.masked import compute_masked_features

FAMILY = "REC"
KINDS = ("convnextv2",)
RESPONSES = ("minibatch", "image")
IN_PARTS = ", or {settings.responses=image}"


@dataclass(frozen=True)
class Settings:
    """Section 3 of the paper; the defaults are the released code's.

    | | papers | released code | here |
    |---|---|---|---|
    | base lr, weight decay, betas | 1.5e-4, –, – | 1.5e-4, 0.05, (0.9, 0.95) | the code's |
    | batch, epochs, warm-up | –, 1600, – | 4096, 1600, 40 | warm-up is a share: 40 of 1600 |
    | augmentation | crop | crop 0.2–1 bicubic, flip | the code's |
    | mask | 0.6 of patches of 32 px | the same | the same |
    | decoder | one block, 512 wide | the same | the same |
    | target | pixels normalised per patch | the same | the same |
    | initial weights | – | truncated normal, deviation 1; 0.02 in the downsampling | the code's |
    | response norms | over the places seen | images of a process | images of the step |

    The encoder computes the same as the authors' sparse one (`sslens.models.masked`). With
    `responses` "image" its response norms treat each image by itself, over the image's seen places,
    as the encoder does after the training; only then can a step be computed in parts.
    """

    mask_ratio: float = 0.6
    normalise_pixels: bool = True
    responses: str = "minibatch"
    decoder_dim: int = 512
    decoder_blocks: int = 1
    base_lr: float = 1.5e-4
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    warmup: float = 40 / 1600

    def __post_init__(self) -> None:
        require_depth("decoder_blocks", self.decoder_blocks)
        if not 0 < self.mask_ratio < 1:
            raise InputError(
                f"The setting mask_ratio is {self.mask_ratio}: expected a share above 0 and"
                " below 1."
            )
        if self.responses not in RESPONSES:
            raise InputError(
                f'The setting responses is "{self.responses}": {nearest(self.responses, RESPONSES)}'
            )
        if self.decoder_dim < 1 or self.decoder_blocks < 0:
            raise InputError(
                f"A decoder of {spell_count(self.decoder_blocks, 'block')}, {self.decoder_dim}"
                " wide, cannot be built: give 0 or more and 1 or more."
            )


def batch(
    images: Sequence[Image.Image], settings: Settings, arch: CNNArch, rows: Rows
) -> dict[str, Tensor]:
    """Make one view of each image, and a noise value for each patch; the order of the values
    decides which patches are masked."""
    (view,) = mae_views(arch.image_size).batch(images, **rows.keywords())
    return {"view": view, "noise": mask_noise(**rows.keywords(), patches=arch.grid**2)}


def find_trivial(settings: Settings, labels: object, images: int) -> TrivialLoss | None:
    """The loss of predicting each patch's mean colour."""
    return predict_means(settings.normalise_pixels)


@final
class Objective(nn.Module):
    """A ConvNeXt-V2 that sees four tenths of the patches, and a decoder that predicts the pixels of
    the others."""

    whole_batch: ClassVar[bool] = False

    def __init__(self, arch: CNNArch, settings: Settings) -> None:
        super().__init__()
        patches = arch.grid**2
        self.kept = int(patches * (1 - settings.mask_ratio))
        if not 0 < self.kept < patches:
            raise InputError(
                f"Images of {arch.image_size} px are a grid of {arch.grid} × {arch.grid} patches of"
                f" {arch.patch_size} px, of which a mask_ratio of {settings.mask_ratio} keeps"
                f" {self.kept}: some must be seen and some masked.",
                mend="give larger images, or another {settings.mask_ratio}",
            )
        self.arch, self.settings = arch, settings
        self.divisible = settings.responses == "image"
        self.encoder: ConvNeXt = arch.build()
        width = settings.decoder_dim
        self.embed = nn.Linear(arch.channels, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, 1, width))
        self.decoder = nn.ModuleList(
            ConvNeXtBlock(width, use_grn=True, ls_init_value=None)
            for _ in range(settings.decoder_blocks)
        )
        self.predict = nn.Linear(width, arch.patch_size**2 * 3)
        self._initialise()

    def _initialise(self) -> None:
        """As the released code does, which leaves the decoder's linear layers as they are made."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) or (
                isinstance(module, nn.Linear) and not name.startswith("decoder.")
            ):
                nn.init.trunc_normal_(module.weight, std=0.02 if "downsample" in name else 1.0)
                nn.init.zeros_(module.get_parameter("bias"))
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, batch: Batch) -> Float[Tensor, ""]:
        """Compute the mean squared error on the masked patches."""
        kept, masked = batch["noise"].argsort(dim=1).tensor_split([self.kept], dim=1)
        seen = torch.zeros_like(batch["noise"], dtype=torch.bool).scatter(1, kept, True)
        seen = seen.unflatten(1, (self.arch.grid, self.arch.grid))
        features = compute_masked_features(
            self.encoder, batch["view"], seen, together=not self.divisible
        )
        predicted = self.decode(features, seen).float()
        predicted = predicted.gather(1, masked[:, :, None].expand(-1, -1, predicted.shape[-1]))
        normalise = self.settings.normalise_pixels
        return compute_masked_error(
            batch["view"], predicted, masked, patch=self.arch.patch_size, normalise=normalise
        )

    def decode(
        self,
        features: Float[Tensor, "image channel row column"],
        seen: Bool[Tensor, "image row column"],
    ) -> Float[Tensor, "image patch value"]:
        """Predict all patches from the features of the seen places; the mask token stands at the
        other places."""
        embedded = self.embed(features.permute(0, 2, 3, 1))
        x = torch.where(seen[..., None], embedded, self.mask_token.to(embedded.dtype)).permute(
            0, 3, 1, 2
        )
        for block in self.decoder:
            x = block(x.contiguous())
        predicted: Tensor = self.predict(x.permute(0, 2, 3, 1))
        return predicted.flatten(1, 2)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Group the parameters: biases and the weights of norms are not decayed; the mask token and
        the γ and β of the response norms are decayed, as in the released code."""
        decayed: list[nn.Parameter] = []
        free: list[nn.Parameter] = []
        for name, parameter in self.named_parameters():
            (decayed if parameter.ndim > 1 or ".grn." in name else free).append(parameter)
        return [{"params": decayed}, {"params": free, "weight_decay": 0.0}]

    def rates(self, at: Moment, peak: float) -> tuple[float, float]:
        """Return a learning rate that rises linearly from 0 and then falls by half a cosine to 0,
        and a constant weight decay."""
        return warmup_cosine(at.progress, self.settings.warmup, peak), self.settings.weight_decay
