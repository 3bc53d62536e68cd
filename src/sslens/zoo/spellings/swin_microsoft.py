"""Swin Transformers in the authors' names, which SimMIM's have too: a stage ends with the layer
that makes the map smaller, `layers.0.downsample`."""

from sslens.zoo.claim import CLASSIFIER, Drops
from sslens.zoo.renaming import SWIN_TABLES, Rules

TITLE = "a Swin Transformer in the authors' names"
ANCHORS = (
    "layers.0.blocks.0.attn.relative_position_bias_table",
    "layers.0.downsample.",
    "patch_embed.",
)
OVER = ("swin",)
DROPS: Drops = (*SWIN_TABLES, (r"head\..*", CLASSIFIER))
RULES: Rules = tuple(
    (rf"^layers\.{stage}\.downsample\.", f"layers.{stage + 1}.downsample.")
    for stage in reversed(range(8))  # so that no name is changed twice
)
STEPS = ()
