"""ConvNeXts and ConvNeXt-V2s in the names of Hugging Face's transformers."""

from sslens.zoo.claim import AFTER_POOLING, Drops
from sslens.zoo.renaming import Rules, flatten

TITLE = "a ConvNeXt in Hugging Face's names"
ANCHORS = (
    "embeddings.patch_embeddings.weight",
    "encoder.stages.0.layers.0.dwconv.",
    "embeddings.layernorm.",
)
DROPS: Drops = ((r"layernorm\..*", AFTER_POOLING),)
RULES: Rules = (
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
STEPS = (flatten(r"\.grn\."),)  # from [1, 1, 1, 4C]
