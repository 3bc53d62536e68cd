"""C-RADIO's Vision Transformer (Ranzinger et al., 2024): several summary tokens, and positions from
one large table at any size of images."""

from typing import Any, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn


@final
class CroppedViT(VisionTransformer):
    """A Vision Transformer with a large square table of positions, from which those of an image's
    patches are resampled: bilinearly, to a square as large as the patches' longer side.

    Args:
        tokens: the number of tokens before the patches: summaries, one for each teacher or for
            several, and registers. None of them has a position.
        table: the side of the table in patches.
        aligned: whether the corners of the table are laid on those of the image's patches, as the
            first releases of C-RADIOv3 do it, or the edges.
        settings: of timm's class, with `embed_dim`.
    """

    def __init__(self, *, tokens: int, table: int, aligned: bool, **settings: Any) -> None:
        super().__init__(**settings, pos_embed="none", class_token=True)
        self.patch_embed.proj.register_parameter("bias", None)
        self.cls_token = nn.Parameter(torch.zeros(1, tokens, self.embed_dim))
        self.pos_table = nn.Parameter(torch.zeros(1, table * table, self.embed_dim))
        self.num_prefix_tokens = tokens
        self.table, self.aligned = table, aligned

    def extra_repr(self) -> str:
        """The settings, which count in a model's digest."""
        return f"table={self.table}, aligned={self.aligned}"

    def _pos_embed(self, x: Float[Tensor, "image patch dim"]) -> Float[Tensor, "image token dim"]:
        rows, columns = self.patch_embed.grid_size
        side = max(rows, columns)
        positions: Tensor = self.pos_table
        if side != self.table:
            square = positions.unflatten(1, (self.table, self.table)).permute(0, 3, 1, 2)
            made = F.interpolate(square, (side, side), mode="bilinear", align_corners=self.aligned)
            positions = made[..., :rows, :columns].flatten(2).transpose(1, 2)
        before = self.cls_token.expand(len(x), -1, -1)
        embedded: Tensor = self.pos_drop(torch.cat([before, x + positions], dim=1))
        return embedded
