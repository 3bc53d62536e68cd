"""Swin Transformers in timm's names: a stage begins with the layer that makes the map smaller,
`layers.1.downsample`."""

from sslens.zoo.claim import CLASSIFIER, Drops
from sslens.zoo.renaming import SWIN_TABLES, Rules

TITLE = "a Swin Transformer in timm's names"
ANCHORS = (
    "layers.0.blocks.0.attn.relative_position_bias_table",
    "layers.1.downsample.",
    "patch_embed.",
)
DROPS: Drops = (*SWIN_TABLES, (r"head\..*", CLASSIFIER))
RULES: Rules = ()
STEPS = ()
