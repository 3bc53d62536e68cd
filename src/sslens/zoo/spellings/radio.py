"""C-RADIO's Vision Transformers: patches by one linear layer, a list of summary tokens, and a large
table of positions."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from sslens.zoo.claim import Drops, Piece
from sslens.zoo.finders import find_root
from sslens.zoo.renaming import Rules, shape_tokens

TITLE = "C-RADIO's ViT"
ANCHORS = (
    "patch_generator.embedder.weight",
    "patch_generator.cls_token.token",
    "patch_generator.pos_embed",
    "blocks.0.norm1.",
)
DROPS: Drops = ()
RULES: Rules = (
    (r"^patch_generator\.embedder\.", "patch_embed.proj."),
    (r"^patch_generator\.cls_token\.token$", "cls_token"),
    (r"^patch_generator\.pos_embed$", "pos_table"),
    (r"\.grandma$", ".gamma"),  # Hugging Face's library renames what is called gamma
)


def shape_patches(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Give the layer that embeds patches, [width, 3 · P · P], the axes of a convolution."""
    for piece in pieces:
        value = piece.value
        side = find_root(value.shape[1] // 3) if value.ndim == 2 else None
        if piece.into == "patch_embed.proj.weight" and side and value.shape[1] == 3 * side**2:
            square = value.reshape(value.shape[0], 3, side, side)
            yield replace(piece, value=square, done="linear layer to a convolution")
        else:
            yield piece


STEPS = (shape_patches, shape_tokens)
