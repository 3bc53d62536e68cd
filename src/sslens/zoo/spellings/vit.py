"""Vision Transformers in timm's names, as DINO, DINOv2, MAE and most of their kin have them."""

from sslens.zoo.claim import Drops
from sslens.zoo.dinov2 import convert_to_timm
from sslens.zoo.renaming import Rules

TITLE = "a ViT in timm's names"
ANCHORS = ("blocks.0.norm1.weight", "blocks.0.mlp.", "patch_embed.")
DROPS: Drops = ()
RULES: Rules = ()
STEPS = (convert_to_timm,)  # DINOv2's registers and gated MLPs
