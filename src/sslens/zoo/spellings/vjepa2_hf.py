"""V-JEPA 2's encoders in the names of Hugging Face's transformers."""

from sslens.zoo.claim import AFTER_POOLING, Drops
from sslens.zoo.renaming import Rules, join_parts

TITLE = "V-JEPA 2's encoder in Hugging Face's names"
ANCHORS = (
    "embeddings.patch_embeddings.proj.weight",
    "layer.0.attention.query.",
    "layer.0.norm1.",
)
DROPS: Drops = ((r"pooler\..*", AFTER_POOLING),)
RULES: Rules = (
    (r"^embeddings\.patch_embeddings\.", "patch_embed."),
    (r"^layer\.", "blocks."),
    (r"^layernorm\.", "norm."),
    (r"\.attention\.(q|k|v)(?:uery|ey|alue)\.", r".attn.\1."),
    (r"\.attention\.proj\.", ".attn.proj."),
)
STEPS = (join_parts,)
