"""Hieras in the authors' names, which are timm's but for the head."""

from sslens.zoo.claim import AFTER_POOLING, CLASSIFIER, Drops
from sslens.zoo.renaming import Rules

TITLE = "a Hiera"
ANCHORS = ("blocks.0.norm1.weight", "blocks.0.mlp.", "patch_embed.")
#: a layer that makes a stage's input wider, which no other network with these names has
MARK = r"blocks\.\d+\.proj\.weight"
OVER = ("vit",)
DROPS: Drops = (
    (r"(norm|encoder_norm|head\.norm)\..*", AFTER_POOLING),
    (r"head\..*", CLASSIFIER),
)
RULES: Rules = ()
STEPS = ()
