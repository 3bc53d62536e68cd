"""torchvision's ConvNeXts: `features.N`, in which odd numbers are stages and even ones make the map
smaller."""

from sslens.zoo.claim import AFTER_POOLING, CLASSIFIER, Drops
from sslens.zoo.renaming import TORCHVISION_STAGES, Rules, flatten

TITLE = "a ConvNeXt in torchvision's names"
ANCHORS = ("features.0.0.weight", "features.1.0.block.0.", "features.7.0.layer_scale")
DROPS: Drops = ((r"classifier\.0\..*", AFTER_POOLING), (r"classifier\.2\..*", CLASSIFIER))
RULES: Rules = (
    (r"^features\.0\.", "stem."),
    *TORCHVISION_STAGES,
    (r"\.block\.0\.", ".conv_dw."),
    (r"\.block\.2\.", ".norm."),
    (r"\.block\.3\.", ".mlp.fc1."),
    (r"\.block\.5\.", ".mlp.fc2."),
    (r"\.layer_scale$", ".gamma"),
)
STEPS = (flatten(r"\.gamma$"),)  # from [C, 1, 1]
