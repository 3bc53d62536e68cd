"""BEiT and data2vec in the names of Hugging Face's transformers."""

from sslens.zoo.claim import AFTER_POOLING, MASK, Drops
from sslens.zoo.renaming import HF_EMBEDDINGS, HF_LAYERS, INDEX, Rules, join_parts

TITLE = "BEiT's ViT in Hugging Face's names"
ANCHORS = (
    "embeddings.patch_embeddings.projection.weight",
    "encoder.layer.0.lambda_1",
    "encoder.layer.0.attention.attention.query.",
)
OVER = ("vit-hf",)
DROPS: Drops = (
    (r".*relative_position_index", INDEX),
    (r"embeddings\.mask_token", MASK),
    (r"pooler\..*", AFTER_POOLING),
)
RULES: Rules = (
    *HF_EMBEDDINGS,
    *HF_LAYERS,
    (r"\.lambda_([12])$", r".gamma_\1"),
    (r"\.attention\.attention\.relative_position_bias\.", ".attn."),
    (r"^encoder\.relative_position_bias\.", "rel_pos_bias."),
)
STEPS = (join_parts,)
