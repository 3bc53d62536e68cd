"""DINOv3's Vision Transformers in the authors' names: rotary positions, `storage_tokens`, masked
biases of keys."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from sslens.zoo.arrays import Array
from sslens.zoo.claim import MASK, Drops, Piece
from sslens.zoo.renaming import Rules

TITLE = "DINOv3's ViT"
ANCHORS = ("rope_embed.periods", "blocks.0.norm1.", "blocks.0.mlp.", "patch_embed.")
OVER = ("vit",)
DROPS: Drops = (
    (r"mask_token", MASK),
    (r"rope_embed\.periods", "the wavelengths of the positions, which are computed anew"),
    (r"local_cls_norm\..*", "a normalisation of small crops, which is used in training alone"),
    (r"projectors\..*", "a projector of the distillation"),
)
RULES: Rules = (
    (r"^storage_tokens$", "reg_token"),
    (r"\.ls([12])\.gamma$", r".gamma_\1"),
    (r"\.mlp\.w1\.", ".mlp.fc1_g."),
    (r"\.mlp\.w2\.", ".mlp.fc1_x."),
    (r"\.mlp\.w3\.", ".mlp.fc2."),
)
_MASK = ".bias_mask"


def apply_masks(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Multiply each bias by its mask.

    The mask is 1 for queries and values and 0 for keys. Where a file was written before the mask
    was initialised, its values are no numbers; then keys get 0 and the others 1.
    """
    masks: dict[str, Piece] = {}
    plain: list[Piece] = []
    for piece in pieces:
        if piece.into.endswith(_MASK):
            masks[piece.into.removesuffix(_MASK)] = piece
        else:
            plain.append(piece)
    for piece in plain:
        layer = piece.into.removesuffix(".bias")
        if layer not in masks or layer == piece.into:
            yield piece
            continue
        bias, mask = (one.value.as_float32() for one in (piece, masks[layer]))
        third = bias.size // 3
        usual = (np.arange(bias.size) // max(third, 1) != 1).astype(np.float32)
        factor = np.where(np.isnan(mask.values), usual, mask.values)
        masked = np.where(factor == 0, 0, bias.values * factor).astype(np.float32)
        done = "multiplied by its mask, which is 0 for keys"
        sources = (*piece.sources, *masks[layer].sources)
        yield replace(piece, value=Array(masked, "float32"), sources=sources, done=done)


STEPS = (apply_masks,)
