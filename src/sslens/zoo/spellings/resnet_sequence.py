"""ResNets without their classifier as a sequence of numbered parts, `nn.Sequential(*list(
resnet.children())[:-1])`, as lightly's examples and many others write them."""

from sslens.zoo.claim import Drops
from sslens.zoo.renaming import Rules

TITLE = "a ResNet as a sequence of numbered parts"
ANCHORS = ("4.0.conv1.weight", "0.weight", "7.0.")
DROPS: Drops = ()
#: 0 and 1 are the first convolution and its normalisation, 4 to 7 the stages
RULES: Rules = (
    (r"^0\.", "conv1."),
    (r"^1\.", "bn1."),
    (r"^4\.", "layer1."),
    (r"^5\.", "layer2."),
    (r"^6\.", "layer3."),
    (r"^7\.", "layer4."),
)
STEPS = ()
