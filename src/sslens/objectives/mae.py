"""MAE: reconstruct the pixels of masked patches (He et al., 2022, arXiv:2111.06377)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from PIL import Image
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from sslens.counts import spell_count
from sslens.data.streams import mask_noise
from sslens.data.views import mae_views
from sslens.errors import InputError
from sslens.methods import Batch, Moment, Rows
from sslens.methods.parameters import group_by_decay
from sslens.methods.pixels import compute_masked_error
from sslens.methods.schedules import warmup_cosine
from sslens.methods.settings import require_depth
from sslens.methods.trivial import TrivialLoss, predict_means
from sslens.models.heads import draw_xavier_uniform
from sslens.models.positions import make_sincos_positions
from sslens.models.some_tokens import compute_for_some
from sslens.models.vit import ViTArch

FAMILY = "REC"
KINDS = ("vit",)


@dataclass(frozen=True)
class Settings:
    """Table 8 of the paper and Table 1 of Shekhar et al. (2023).

    | | papers | released code | here |
    |---|---|---|---|
    | base lr, weight decay, betas | 1.5e-4, 0.05, (0.9, 0.95) | the same | the same |
    | batch, epochs, warm-up | 4096, 800, 40 | 4096, 1600 (its ViT-B), 40 | a share: 40 of 800 |
    | augmentation | crop | crop 0.2–1 bicubic, flip | the code's |
    | decoder | 512 wide, 8 blocks, 16 heads | the same | the same |
    | target | pixels | normalised per patch (released ViT-B) | normalised |
    """

    mask_ratio: float = 0.75
    normalise_pixels: bool = True
    decoder_dim: int = 512
    decoder_blocks: int = 8
    decoder_heads: int = 16
    base_lr: float = 1.5e-4
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    warmup: float = 0.05

    def __post_init__(self) -> None:
        require_depth("decoder_blocks", self.decoder_blocks)
        if not 0 < self.mask_ratio < 1:
            raise InputError(
                f"The setting mask_ratio is {self.mask_ratio}: expected a share above 0 and"
                " below 1."
            )
        if (
            min(self.decoder_heads, self.decoder_dim) < 1
            or self.decoder_dim % self.decoder_heads
            or self.decoder_blocks < 0
        ):
            raise InputError(
                f"A decoder of {spell_count(self.decoder_blocks, 'block')}, {self.decoder_dim} wide"
                f" with {self.decoder_heads} heads cannot be built: its width must be a multiple of"
                " its heads."
            )


def batch(
    images: Sequence[Image.Image], settings: Settings, arch: ViTArch, rows: Rows
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
    """A ViT that sees a quarter of the patches, and a narrow decoder that predicts the pixels of
    the others."""

    whole_batch: ClassVar[bool] = False
    divisible: ClassVar[bool] = True

    def __init__(self, arch: ViTArch, settings: Settings) -> None:
        super().__init__()
        self.arch, self.settings = arch, settings
        self.encoder = arch.build()
        width = settings.decoder_dim
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.embed = nn.Linear(arch.dim, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(make_sincos_positions(width, arch.grid), requires_grad=False)
        self.decoder = nn.Sequential(
            *(
                Block(width, settings.decoder_heads, qkv_bias=True, norm_layer=norm)
                for _ in range(settings.decoder_blocks)
            ),
            norm(width),
            nn.Linear(width, arch.patch_size**2 * 3),
        )
        self._initialise()

    def _initialise(self) -> None:
        draw_xavier_uniform(self)
        projection = self.encoder.patch_embed.proj.weight
        nn.init.xavier_uniform_(projection.view(len(projection), -1))
        nn.init.normal_(self.encoder.cls_token, std=0.02)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, batch: Batch) -> Float[Tensor, ""]:
        """Compute the mean squared error on the masked patches."""
        order = batch["noise"].argsort(dim=1)
        kept, masked = order.tensor_split(
            [int(order.shape[1] * (1 - self.settings.mask_ratio))], dim=1
        )
        predicted = self.decode(self.encode(batch["view"], kept), order)
        return self.loss(batch["view"], predicted.float(), masked)

    def encode(
        self, images: Float[Tensor, "image 3 size size"], kept: Int[Tensor, "image kept"]
    ) -> Float[Tensor, "image token dim"]:
        """Encode the CLS token and the kept patches, in the order of `kept`; only these patches are
        embedded."""
        net, grid = self.encoder, self.arch.grid
        pixels = images.unflatten(3, (grid, -1)).unflatten(2, (grid, -1)).permute(0, 2, 4, 1, 3, 5)
        image = torch.arange(len(images), device=images.device)[:, None]
        pixels = pixels[image, kept // grid, kept % grid].flatten(2)
        projection = net.patch_embed.proj
        patches = (
            F.linear(pixels, projection.weight.flatten(1), projection.bias)
            + net.pos_embed[0, 1:][kept]
        )
        cls = (net.cls_token + net.pos_embed[:, :1]).expand(len(images), -1, -1)
        tokens: Tensor = net.norm(net.blocks(torch.cat([cls, patches], dim=1)))
        return tokens

    def decode(
        self, tokens: Float[Tensor, "image token dim"], order: Int[Tensor, "image patch"]
    ) -> Float[Tensor, "image masked value"]:
        """Predict the pixels of the masked patches from the CLS token and the kept patches.

        The decoder gets its tokens in the order of `order`, kept patches first, each with the
        position of its place in the image; attention does not depend on the order.

        Args:
            tokens: the encoder's output, CLS first.
            order: all patch numbers, the kept ones first and the masked ones last.
        """
        x = self.embed(tokens)
        missing = order.shape[1] - (x.shape[1] - 1)
        places = torch.cat([torch.zeros_like(order[:, :1]), order + 1], dim=1)
        x = (
            torch.cat([x, self.mask_token.to(x.dtype).expand(len(x), missing, -1)], dim=1)
            + self.positions[0][places]
        )
        *blocks, norm, head = self.decoder
        masked = slice(x.shape[1] - missing, None)
        for block in blocks[:-1]:
            x = block(x)
        x = compute_for_some(blocks[-1], x, masked) if blocks else x[:, masked]
        predicted: Tensor = head(norm(x))
        return predicted

    def loss(
        self,
        images: Float[Tensor, "image 3 size size"],
        predicted: Float[Tensor, "image masked value"],
        masked: Int[Tensor, "image masked"],
    ) -> Float[Tensor, ""]:
        """Compute the mean squared error over the masked patches; with the released settings each
        target patch has mean 0 and unbiased variance 1."""
        normalise = self.settings.normalise_pixels
        return compute_masked_error(
            images, predicted, masked, patch=self.arch.patch_size, normalise=normalise
        )

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Vectors (biases, norms) are not decayed; tokens are, as in the released code."""
        return group_by_decay(self.parameters())

    def rates(self, at: Moment, peak: float) -> tuple[float, float]:
        """Return a learning rate that rises linearly from 0 and then falls by half a cosine to 0,
        and a constant weight decay."""
        return warmup_cosine(at.progress, self.settings.warmup, peak), self.settings.weight_decay
