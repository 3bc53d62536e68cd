"""Vision Transformers in timm's names, as DINO, DINOv2, MAE and most of their kin have them."""

from collections.abc import Iterable

from sslens.zoo.claim import Drops, Piece, Weights, keep_names
from sslens.zoo.dinov2 import convert_to_timm

TITLE = "a ViT in timm's names"
ANCHORS = ("blocks.0.norm1.weight", "blocks.0.mlp.", "patch_embed.")
DROPS: Drops = ()


def convert(weights: Weights) -> Iterable[Piece]:
    """Convert DINOv2's registers and gated MLPs; all other names are timm's already."""
    return convert_to_timm(keep_names(weights))
