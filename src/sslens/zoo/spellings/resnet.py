"""ResNets in torchvision's names, which nearly everybody keeps."""

from collections.abc import Iterable

from sslens.zoo.claim import Drops, Piece, Weights, keep_names

TITLE = "a ResNet in torchvision's names"
ANCHORS = ("layer1.0.conv1.weight", "conv1.weight", "layer4.0.")
DROPS: Drops = ()


def convert(weights: Weights) -> Iterable[Piece]:
    """Keep all names."""
    return keep_names(weights)
