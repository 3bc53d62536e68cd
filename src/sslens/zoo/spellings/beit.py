"""BEiT's Vision Transformers: biases of queries and values beside the layer, layer scale `gamma_1`,
tables of relative positions. BEiT v2, SimMIM and data2vec have the same network."""

from sslens.zoo.claim import Drops
from sslens.zoo.renaming import INDEX, Rules, join_parts

TITLE = "BEiT's ViT"
ANCHORS = ("blocks.0.attn.q_bias", "blocks.0.norm1.", "blocks.0.mlp.", "patch_embed.")
OVER = ("vit",)
DROPS: Drops = ((r".*relative_position_index", INDEX),)
RULES: Rules = ((r"\.attn\.(q|v)_bias$", r".attn.\1.bias"),)
STEPS = (join_parts,)  # with zeros for the biases of keys
