"""The vision tower of CLIP in OpenAI's names, which open_clip keeps: `transformer.resblocks.N`."""

from sslens.zoo.claim import Drops
from sslens.zoo.renaming import Rules, shape_tokens, unpack

TITLE = "a vision tower of CLIP in OpenAI's names"
ANCHORS = ("transformer.resblocks.0.ln_1.weight", "conv1.weight", "class_embedding")
DROPS: Drops = (
    (r"proj", "the projection to the space that images and texts share"),
    (r"attn_pool\..*", "the pooling by attention, which stands after the tokens"),
)
RULES: Rules = (
    (r"^class_embedding$", "cls_token"),
    (r"^positional_embedding$", "pos_embed"),
    (r"^conv1\.", "patch_embed.proj."),
    (r"^ln_pre\.", "norm_pre."),
    (r"^ln_post\.", "norm."),
    (r"^transformer\.resblocks\.(\d+)\.", r"blocks.\1."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)
STEPS = (unpack, shape_tokens)
