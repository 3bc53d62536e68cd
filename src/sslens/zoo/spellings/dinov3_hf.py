"""DINOv3's Vision Transformers in the names of Hugging Face's transformers."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from sslens.zoo.claim import MASK, Drops, Piece
from sslens.zoo.renaming import Rules, join_parts

TITLE = "DINOv3's ViT in Hugging Face's names"
ANCHORS = ("embeddings.patch_embeddings.weight", "embeddings.cls_token", "norm.")
DROPS: Drops = (
    (r"embeddings\.mask_token", MASK),
    (r"rope_embeddings\..*", "the wavelengths of the positions, which are computed anew"),
)
RULES: Rules = (
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.register_tokens$", "reg_token"),
    (r"^embeddings\.patch_embeddings\.", "patch_embed.proj."),
    (r"^(?:model\.)?layer\.(\d+)\.", r"blocks.\1."),
    (r"\.attention\.([qkv])_proj\.", r".attn.\1."),
    (r"\.attention\.o_proj\.", ".attn.proj."),
    (r"\.layer_scale([12])\.lambda1$", r".gamma_\1"),
    (r"\.mlp\.gate_proj\.", ".mlp.fc1_g."),
    (r"\.mlp\.up_proj\.", ".mlp.fc1_x."),
    (r"\.mlp\.down_proj\.", ".mlp.fc2."),
)


def name_first_layers(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Call the MLPs' first layer `fc1` where there is no gate beside it."""
    pieces = list(pieces)
    gated = any(".mlp.fc1_g." in piece.into for piece in pieces)
    for piece in pieces:
        into = piece.into if gated else piece.into.replace(".mlp.fc1_x.", ".mlp.fc1.")
        yield replace(piece, into=into)


STEPS = (name_first_layers, join_parts)
