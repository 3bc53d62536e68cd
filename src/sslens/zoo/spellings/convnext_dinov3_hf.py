"""DINOv3's ConvNeXts in the names of Hugging Face's transformers."""

from sslens.zoo.claim import AFTER_POOLING, Drops
from sslens.zoo.renaming import Rules

TITLE = "DINOv3's ConvNeXt in Hugging Face's names"
ANCHORS = (
    "stages.0.downsample_layers.0.weight",
    "stages.0.layers.0.depthwise_conv.",
    "stages.3.layers.0.pointwise_conv1.",
)
DROPS: Drops = ((r"layer_norm\..*", AFTER_POOLING),)
RULES: Rules = (
    (r"^stages\.0\.downsample_layers\.", "stem."),
    (r"\.downsample_layers\.", ".downsample."),
    (r"^stages\.(\d)\.layers\.", r"stages.\1.blocks."),
    (r"\.depthwise_conv\.", ".conv_dw."),
    (r"\.layer_norm\.", ".norm."),
    (r"\.pointwise_conv([12])\.", r".mlp.fc\1."),
)
STEPS = ()
