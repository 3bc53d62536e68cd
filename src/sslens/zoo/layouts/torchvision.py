"""torchvision's ViTs, ConvNeXts and Swins; its ResNets have the names of all others', and the
layout `timm` claims them."""

from sslens.zoo.claim import Claim
from sslens.zoo.claiming import claim_network
from sslens.zoo.files import Contents
from sslens.zoo.trunks import find_trunks

TITLE = "torchvision"
KINDS = {
    "vit-torchvision": "ViT",
    "convnext-torchvision": "ConvNeXt",
    "swin-torchvision": "Swin",
}


def claim(contents: Contents) -> Claim | None:
    """Claim a network in torchvision's names, `encoder.layers.encoder_layer_0` or `features.0.0`.
    The file does not say what trained it; torchvision's own weights are supervised."""
    kinds = [t.naming for t in find_trunks(contents.states) if t.naming in KINDS]
    if not kinds:
        return None
    return claim_network(
        contents,
        tuple(KINDS),
        method=TITLE,
        sign=f"it is a {KINDS[kinds[0]]} in torchvision's names",
        classifier=r"(heads?|classifier\.2)\..*",
        notes=("The file does not say what trained it; torchvision's own weights are supervised.",),
    )
