"""ConvNeXt (Liu et al., 2022) of the first version in the authors' names, and DINOv3's ConvNeXts,
which have the same network."""

from sslens.zoo.claim import Claim
from sslens.zoo.claiming import claim_network
from sslens.zoo.files import Contents
from sslens.zoo.hints import Hints
from sslens.zoo.trunks import find_trunks

TITLE = "ConvNeXt"


def claim(contents: Contents) -> Claim | None:
    """Claim a ConvNeXt with layer scale, `gamma`, and without GRN. DINOv3's have their last
    normalisation twice, as `norm` and `norms.3`."""
    trunks = [t for t in find_trunks(contents.states) if t.naming == "convnext"]
    if not trunks:
        return None
    weights = trunks[0].weights(contents.states)
    if any(name.endswith("grn.gamma") for name in weights):
        return None
    dinov3 = "norms.3.weight" in weights
    return claim_network(
        contents,
        ("convnext",),
        method="DINOv3" if dinov3 else TITLE,
        sign="its layers have ConvNeXt's names (downsample_layers, dwconv, gamma)"
        + (", with DINOv3's norms.3" if dinov3 else ""),
        objective="dinov3" if dinov3 else None,
        family="JE" if dinov3 else None,
        classifier=r"head\..*",
        hints=Hints(image_size=256) if dinov3 else Hints(),
        transform={"ratio": 1.0} if dinov3 else {},
        notes=() if dinov3 else ("The file does not say what trained it.",),
    )
