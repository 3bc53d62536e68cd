"""ConvNeXts and ConvNeXt-V2s in OpenMMLab's names: `depthwise_conv`, `pointwise_conv1`."""

from sslens.zoo.claim import AFTER_POOLING, Drops
from sslens.zoo.renaming import Rules, make_linear

TITLE = "a ConvNeXt in OpenMMLab's names"
ANCHORS = (
    "downsample_layers.0.0.weight",
    "stages.0.0.depthwise_conv.",
    "stages.3.0.pointwise_conv1.",
)
DROPS: Drops = ((r"norm\d\..*", AFTER_POOLING),)
RULES: Rules = (
    (r"^downsample_layers\.0\.(\d)\.", r"stem.\1."),
    (r"^downsample_layers\.(\d)\.(\d)\.", r"stages.\1.downsample.\2."),
    (r"^stages\.(\d)\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"\.depthwise_conv\.", ".conv_dw."),
    (r"\.pointwise_conv([12])\.", r".mlp.fc\1."),
    (r"\.grn\.gamma$", ".mlp.grn.weight"),
    (r"\.grn\.beta$", ".mlp.grn.bias"),
)
STEPS = (make_linear(r"\.mlp\.fc[12]\.weight$"),)  # as they are in small ones
