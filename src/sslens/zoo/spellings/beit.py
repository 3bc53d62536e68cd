"""BEiT's Vision Transformers: biases of queries and values beside the layer, layer scale `gamma_1`,
tables of relative positions. BEiT v2, SimMIM and data2vec have the same network."""

from collections.abc import Iterable

from sslens.zoo.claim import Drops, Piece, Weights
from sslens.zoo.renaming import INDEX, join_parts, rename

TITLE = "BEiT's ViT"
ANCHORS = ("blocks.0.attn.q_bias", "blocks.0.norm1.", "blocks.0.mlp.", "patch_embed.")
OVER = ("vit",)
DROPS: Drops = ((r".*relative_position_index", INDEX),)


def convert(weights: Weights) -> Iterable[Piece]:
    """Join the biases of queries and values, with zeros for keys."""
    rules = [(r"\.attn\.(q|v)_bias$", r".attn.\1.bias")]
    return join_parts(rename(weights, rules))
