"""DINOv2's Vision Transformers as they are trained: the blocks lie in chunks for FSDP,
`blocks.CHUNK.N.` with N counted through all chunks."""

from sslens.zoo.claim import Drops
from sslens.zoo.dinov2 import convert_to_timm
from sslens.zoo.renaming import Rules

TITLE = "a ViT in timm's names with its blocks in chunks (blocks.CHUNK.N.)"
ANCHORS = ("blocks.0.0.norm1.weight", "blocks.0.0.mlp.", "patch_embed.")
DROPS: Drops = ()
RULES: Rules = ((r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),)
STEPS = (convert_to_timm,)
