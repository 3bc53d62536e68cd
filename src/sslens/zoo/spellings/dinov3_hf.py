"""DINOv3's Vision Transformers in the names of Hugging Face's transformers."""

from collections.abc import Iterable

from sslens.zoo.claim import MASK, Drops, Piece, Weights
from sslens.zoo.renaming import join_parts, rename

TITLE = "DINOv3's ViT in Hugging Face's names"
ANCHORS = ("embeddings.patch_embeddings.weight", "embeddings.cls_token", "norm.")
DROPS: Drops = (
    (r"embeddings\.mask_token", MASK),
    (r"rope_embeddings\..*", "the wavelengths of the positions, which are computed anew"),
)
_RULES = (
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.register_tokens$", "reg_token"),
    (r"^embeddings\.patch_embeddings\.", "patch_embed.proj."),
    (r"^(?:model\.)?layer\.(\d+)\.", r"blocks.\1."),
    (r"\.attention\.([qkv])_proj\.", r".attn.\1."),
    (r"\.attention\.o_proj\.", ".attn.proj."),
    (r"\.layer_scale([12])\.lambda1$", r".gamma_\1"),
    (r"\.mlp\.gate_proj\.", ".mlp.fc1_g."),
    (r"\.mlp\.down_proj\.", ".mlp.fc2."),
)


def convert(weights: Weights) -> Iterable[Piece]:
    """Rename everything, and join queries, keys and values; keys have no bias."""
    gated = any(".mlp.gate_proj." in name for name in weights)
    up = (r"\.mlp\.up_proj\.", ".mlp.fc1_x." if gated else ".mlp.fc1.")
    return join_parts(rename(weights, (*_RULES, up)))
