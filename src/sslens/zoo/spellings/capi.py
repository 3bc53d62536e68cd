"""CAPI's encoders: each half of a block is a residual with its norm and its function, and each
block keeps the same frequencies of rotary positions."""

import re
from collections.abc import Iterable, Iterator

import numpy as np

from sslens.zoo.claim import MASK, Drops, Piece
from sslens.zoo.renaming import Rules, join_parts

TITLE = "CAPI's encoder"
ANCHORS = ("encoder.blocks.0.residual1.fn.q_proj.weight", "registers", "patch_embed.")
DROPS: Drops = (
    (r"decoder\..*", "the predictor of masked patches"),
    (r"mask_token", MASK),
)
RULES: Rules = (
    (r"^registers$", "reg_token"),
    (r"^patch_embed\.", "patch_embed.proj."),
    (r"^encoder\.blocks\.", "blocks."),
    (r"\.residual([12])\.norm\.", r".norm\1."),
    (r"\.residual1\.fn\.(q|k|v)_proj\.", r".attn.\1."),
    (r"\.residual1\.fn\.", ".attn."),
    (r"\.residual2\.fn\.", ".mlp."),
)
_FREQUENCIES = re.compile(r"blocks\.\d+\.attn\.rope\.freqs")


def share_frequencies(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Keep the frequencies once, where they are the same in all blocks: they are not trained."""
    held: list[Piece] = []
    for piece in pieces:
        if _FREQUENCIES.fullmatch(piece.into):
            held.append(piece)
        else:
            yield piece
    if held and all(np.array_equal(one.value.values, held[0].value.values) for one in held):
        sources = tuple(source for one in held for source in one.sources)
        yield Piece("rope.freqs", held[0].value, sources, "the same in all blocks")
    else:
        yield from held


STEPS = (join_parts, share_frequencies)
