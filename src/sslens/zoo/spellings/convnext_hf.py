"""ConvNeXts and ConvNeXt-V2s in the names of Hugging Face's transformers."""

from collections.abc import Iterator
from dataclasses import replace

from sslens.zoo.claim import AFTER_POOLING, Drops, Piece, Weights
from sslens.zoo.renaming import rename

TITLE = "a ConvNeXt in Hugging Face's names"
ANCHORS = (
    "embeddings.patch_embeddings.weight",
    "encoder.stages.0.layers.0.dwconv.",
    "embeddings.layernorm.",
)
DROPS: Drops = ((r"layernorm\..*", AFTER_POOLING),)
_RULES = (
    (r"^embeddings\.patch_embeddings\.", "stem.0."),
    (r"^embeddings\.layernorm\.", "stem.1."),
    (r"^encoder\.stages\.(\d)\.downsampling_layer\.", r"stages.\1.downsample."),
    (r"^encoder\.stages\.(\d)\.layers\.", r"stages.\1.blocks."),
    (r"\.dwconv\.", ".conv_dw."),
    (r"\.layernorm\.", ".norm."),
    (r"\.pwconv([12])\.", r".mlp.fc\1."),
    (r"\.layer_scale_parameter$", ".gamma"),
    (r"\.grn\.(?:weight|gamma)$", ".mlp.grn.weight"),
    (r"\.grn\.(?:bias|beta)$", ".mlp.grn.bias"),
)


def convert(weights: Weights) -> Iterator[Piece]:
    """Rename everything; the numbers of GRN, [1, 1, 1, 4C], get one axis."""
    for piece in rename(weights, _RULES):
        if ".grn." in piece.into and piece.value.ndim > 1:
            yield replace(piece, value=piece.value.reshape(-1), done="to one dimension")
        else:
            yield piece
