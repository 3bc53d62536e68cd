"""ConvNeXts and ConvNeXt-V2s in timm's names."""

from sslens.zoo.claim import AFTER_POOLING, CLASSIFIER, Drops
from sslens.zoo.renaming import Rules, make_linear

TITLE = "a ConvNeXt in timm's names"
ANCHORS = ("stages.0.blocks.0.conv_dw.weight", "stem.0.weight", "stages.3.blocks.0.")
DROPS: Drops = ((r"head\.norm\..*", AFTER_POOLING), (r"head\.fc\..*", CLASSIFIER))
RULES: Rules = ()
STEPS = (make_linear(r"\.mlp\.fc[12]\.weight$"),)  # as they are in small ConvNeXt-V2s of timm's
