"""torchvision's Vision Transformers."""

from sslens.zoo.claim import CLASSIFIER, Drops
from sslens.zoo.renaming import Rules, unpack

TITLE = "a ViT in torchvision's names"
ANCHORS = ("encoder.layers.encoder_layer_0.ln_1.weight", "conv_proj.", "encoder.pos_embedding")
DROPS: Drops = ((r"heads\..*", CLASSIFIER),)
RULES: Rules = (
    (r"^class_token$", "cls_token"),
    (r"^conv_proj\.", "patch_embed.proj."),
    (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^encoder\.ln\.", "norm."),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
    (r"\.ln_(\d)\.", r".norm\1."),
    (r"\.self_attention\.", ".attn."),
    # older files have linear_1 in place of 0
    (r"\.mlp\.(?:0|linear_1)\.", ".mlp.fc1."),
    (r"\.mlp\.(?:3|linear_2)\.", ".mlp.fc2."),
)
STEPS = (unpack,)
