"""ConvNeXts and ConvNeXt-V2s in timm's names."""

import re
from collections.abc import Iterator
from dataclasses import replace

from sslens.zoo.claim import AFTER_POOLING, CLASSIFIER, Drops, Piece, Weights, keep_names

TITLE = "a ConvNeXt in timm's names"
ANCHORS = ("stages.0.blocks.0.conv_dw.weight", "stem.0.weight", "stages.3.blocks.0.")
DROPS: Drops = ((r"head\.norm\..*", AFTER_POOLING), (r"head\.fc\..*", CLASSIFIER))


def convert(weights: Weights) -> Iterator[Piece]:
    """Keep all names; in small ConvNeXt-V2s, timm has 1 × 1 convolutions in the MLPs, which become
    linear layers."""
    for piece in keep_names(weights):
        if re.search(r"\.mlp\.fc[12]\.weight$", piece.into) and piece.value.ndim == 4:
            flat = piece.value.reshape(len(piece.value.raw), -1)
            yield replace(piece, value=flat, done="1 × 1 convolution to a linear layer")
        else:
            yield piece
