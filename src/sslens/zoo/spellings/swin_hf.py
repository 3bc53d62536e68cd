"""Swin Transformers in the names of Hugging Face's transformers."""

from sslens.zoo.claim import AFTER_POOLING, MASK, Drops
from sslens.zoo.renaming import SWIN_TABLES, Rules, join_parts

TITLE = "a Swin Transformer in Hugging Face's names"
ANCHORS = (
    "encoder.layers.0.blocks.0.attention.self.relative_position_bias_table",
    "embeddings.patch_embeddings.projection.weight",
    "encoder.layers.0.downsample.",
)
DROPS: Drops = (
    *SWIN_TABLES,
    (r"embeddings\.mask_token", MASK),
    (r"pooler\..*", AFTER_POOLING),
)
RULES: Rules = (
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.norm\.", "patch_embed.norm."),
    (r"^layernorm\.", "norm."),
    *(
        (rf"^encoder\.layers\.{stage}\.downsample\.", f"layers.{stage + 1}.downsample.")
        for stage in range(8)
    ),
    (r"^encoder\.layers\.", "layers."),
    (r"\.attention\.self\.(q|k|v)(?:uery|ey|alue)\.", r".attn.\1."),
    (r"\.attention\.self\.relative_position_bias_table$", ".attn.relative_position_bias_table"),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(\.blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
)
STEPS = (join_parts,)
