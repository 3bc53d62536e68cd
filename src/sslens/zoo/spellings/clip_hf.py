"""The vision towers of CLIP and SigLIP in the names of Hugging Face's transformers."""

from sslens.zoo.claim import Drops
from sslens.zoo.renaming import Rules, join_parts, shape_tokens

TITLE = "a vision tower of CLIP or SigLIP in Hugging Face's names"
ANCHORS = (
    "embeddings.patch_embedding.weight",
    "encoder.layers.0.self_attn.q_proj.",
    "embeddings.position_embedding.weight",
)
DROPS: Drops = (
    (r"embeddings\.position_ids", "the numbers of the positions"),
    (r"head\..*", "the pooling by attention, which stands after the tokens"),
)
RULES: Rules = (
    (r"^embeddings\.class_embedding$", "cls_token"),
    (r"^embeddings\.position_embedding\.weight$", "pos_embed"),
    (r"^embeddings\.patch_embedding\.", "patch_embed.proj."),
    (r"^pre_layrnorm\.", "norm_pre."),
    (r"^post_layernorm\.", "norm."),
    (r"^encoder\.layers\.(\d+)\.", r"blocks.\1."),
    (r"\.layer_norm([12])\.", r".norm\1."),
    (r"\.self_attn\.([qkv])_proj\.", r".attn.\1."),
    (r"\.self_attn\.out_proj\.", ".attn.proj."),
)
STEPS = (join_parts, shape_tokens)
