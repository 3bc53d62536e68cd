"""torchvision's Swin Transformers: `features.N`, in which odd numbers are stages and even ones make
the map smaller."""

from sslens.zoo.claim import CLASSIFIER, Drops
from sslens.zoo.renaming import SWIN_TABLES, TORCHVISION_STAGES, Rules

TITLE = "a Swin Transformer in torchvision's names"
ANCHORS = (
    "features.1.0.attn.relative_position_bias_table",
    "features.0.0.weight",
    "features.2.reduction.",
)
DROPS: Drops = (*SWIN_TABLES, (r"head\..*", CLASSIFIER))
RULES: Rules = (
    (r"^features\.0\.0\.", "patch_embed.proj."),
    (r"^features\.0\.2\.", "patch_embed.norm."),
    *TORCHVISION_STAGES,
    (r"^stages\.", "layers."),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.3\.", ".mlp.fc2."),
)
STEPS = ()
