"""Vision Transformers in OpenMMLab's names, mmpretrain and mmcls: `layers.N.ln1`,
`ffn.layers.0.0`."""

from sslens.zoo.claim import AFTER_POOLING, MASK, Drops
from sslens.zoo.renaming import INDEX, Rules, join_parts

TITLE = "a ViT in OpenMMLab's names"
ANCHORS = (
    "layers.0.ln1.weight",
    "layers.0.ffn.layers.0.0.",
    "patch_embed.projection.",
)
DROPS: Drops = (
    (r"mask_token", MASK),
    (r"ln2\..*", AFTER_POOLING),
    (r".*relative_position_index", INDEX),
)
RULES: Rules = (
    (r"^patch_embed\.projection\.", "patch_embed.proj."),
    (r"^pre_norm\.", "norm_pre."),
    (r"^ln1\.", "norm."),
    (r"^layers\.", "blocks."),
    (r"\.ln([12])\.", r".norm\1."),
    (r"\.attn\.gamma1\.weight$", ".ls1.gamma"),
    (r"\.ffn\.gamma2\.weight$", ".ls2.gamma"),
    (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
    (r"\.attn\.(q|v)_bias$", r".attn.\1.bias"),
)
STEPS = (join_parts,)  # of BEiTs, with zeros for the biases of keys
