"""torchvision's ConvNeXts: `features.N`, in which odd numbers are stages and even ones make the map
smaller."""

import re
from collections.abc import Iterator
from dataclasses import replace

from sslens.zoo.claim import AFTER_POOLING, CLASSIFIER, Drops, Piece, Weights
from sslens.zoo.renaming import rename

TITLE = "a ConvNeXt in torchvision's names"
ANCHORS = ("features.0.0.weight", "features.1.0.block.0.", "features.7.0.layer_scale")
DROPS: Drops = ((r"classifier\.0\..*", AFTER_POOLING), (r"classifier\.2\..*", CLASSIFIER))
_RULES = (
    (r"^features\.0\.", "stem."),
    (r"\.block\.0\.", ".conv_dw."),
    (r"\.block\.2\.", ".norm."),
    (r"\.block\.3\.", ".mlp.fc1."),
    (r"\.block\.5\.", ".mlp.fc2."),
    (r"\.layer_scale$", ".gamma"),
)
_PART = re.compile(r"features\.(\d)\.(\d+)\.(.*)")


def convert(weights: Weights) -> Iterator[Piece]:
    """Rename everything; layer scale loses two axes of size 1."""
    for piece in rename(weights, _RULES):
        into, value, done = piece.into, piece.value, piece.done
        if match := _PART.fullmatch(into):
            number = int(match[1])
            stage, inside = (number - 1) // 2, "blocks" if number % 2 else "downsample"
            stage += number % 2 == 0
            into = f"stages.{stage}.{inside}.{match[2]}.{match[3]}"
        if into.endswith(".gamma"):
            value, done = value.reshape(-1), "to one dimension"
        yield replace(piece, into=into, value=value, done=done)
