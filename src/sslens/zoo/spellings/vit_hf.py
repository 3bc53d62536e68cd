"""Vision Transformers in the names of Hugging Face's transformers: ViT, ViT-MAE, ViT-MSN, I-JEPA,
DINOv2, with and without registers.

Version 5 has other names in memory, `layers.N.attention.q_proj`; it writes the older ones, and both
are read.
"""

from sslens.zoo.claim import MASK, Drops
from sslens.zoo.dinov2 import convert_to_timm
from sslens.zoo.renaming import HF_EMBEDDINGS, HF_LAYERS, Rules, join_parts

TITLE = "a ViT in Hugging Face's names"
ANCHORS = (
    "embeddings.patch_embeddings.projection.weight",
    "encoder.layer.0.attention.",
    "embeddings.position_embeddings",
)
POOLER = "a layer on CLS that no backbone feature passes through"
DROPS: Drops = (
    (r"pooler\..*", POOLER),
    (r"embeddings\.mask_token", MASK),
)
RULES: Rules = (
    *HF_EMBEDDINGS,
    *HF_LAYERS,
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.weights_in\.", ".mlp.fc1."),
    (r"\.mlp\.weights_out\.", ".mlp.fc2."),
)
STEPS = (join_parts, convert_to_timm)
