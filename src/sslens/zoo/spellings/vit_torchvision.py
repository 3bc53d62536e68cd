"""torchvision's Vision Transformers."""

from collections.abc import Iterable

from sslens.zoo.claim import CLASSIFIER, Drops, Piece, Weights
from sslens.zoo.renaming import rename, unpack

TITLE = "a ViT in torchvision's names"
ANCHORS = ("encoder.layers.encoder_layer_0.ln_1.weight", "conv_proj.", "encoder.pos_embedding")
DROPS: Drops = ((r"heads\..*", CLASSIFIER),)
_RULES = (
    (r"^class_token$", "cls_token"),
    (r"^conv_proj\.", "patch_embed.proj."),
    (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^encoder\.ln\.", "norm."),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
    (r"\.ln_(\d)\.", r".norm\1."),
    (r"\.self_attention\.", ".attn."),
    (r"\.mlp\.(?:0|linear_1)\.", ".mlp.fc1."),
    (r"\.mlp\.(?:3|linear_2)\.", ".mlp.fc2."),
)


def convert(weights: Weights) -> Iterable[Piece]:
    """Rename everything; older files have `mlp.linear_1` in place of `mlp.0`."""
    return unpack(rename(weights, _RULES))
