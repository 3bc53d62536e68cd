"""ResNets in torchvision's names, which nearly everybody keeps."""

from sslens.zoo.claim import Drops
from sslens.zoo.renaming import Rules

TITLE = "a ResNet in torchvision's names"
ANCHORS = ("layer1.0.conv1.weight", "conv1.weight", "layer4.0.")
DROPS: Drops = ()
RULES: Rules = ()
STEPS = ()
