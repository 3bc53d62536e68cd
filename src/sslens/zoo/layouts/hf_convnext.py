"""Hugging Face transformers: ConvNeXt, ConvNeXt-V2, and DINOv3's ConvNeXts."""

from sslens.zoo.claim import AFTER_POOLING, Claim
from sslens.zoo.claiming import claim_network
from sslens.zoo.files import Contents
from sslens.zoo.hints import Hints
from sslens.zoo.trunks import find_trunks

TITLE = "Hugging Face, ConvNeXt"
DINOV3 = "convnext-dinov3-hf"


def claim(contents: Contents) -> Claim | None:
    """Claim a ConvNeXt in Hugging Face's names: `encoder.stages.N.layers`, or in DINOv3's
    `stages.N.layers` with `depthwise_conv`."""
    namings = [t.naming for t in find_trunks(contents.states)]
    dinov3 = DINOV3 in namings
    return claim_network(
        contents,
        ("convnext-hf", DINOV3),
        method="Hugging Face, DINOv3" if dinov3 else TITLE,
        sign="its layers have Hugging Face's names "
        + ("(depthwise_conv)" if dinov3 else "(encoder.stages.0.layers.0.dwconv)"),
        objective="dinov3" if dinov3 else None,
        family="JE" if dinov3 else None,
        beside=((r"layer_?norm\..*", AFTER_POOLING),),
        classifier=r"classifier\..*",
        hints=Hints(image_size=224),
        transform={"ratio": 1.0} if dinov3 else {},
        notes=() if dinov3 else ("The file does not say what trained it.",),
    )
