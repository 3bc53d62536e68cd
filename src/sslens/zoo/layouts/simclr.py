"""SimCLR (Chen et al., 2020) as it is written in PyTorch: a ResNet whose `fc` is the projector, two
layers."""

from dataclasses import replace

from sslens.zoo.claim import Claim
from sslens.zoo.claiming import claim_network
from sslens.zoo.files import Contents
from sslens.zoo.trunks import find_trunks

TITLE = "SimCLR"


def claim(contents: Contents) -> Claim | None:
    """Claim a single ResNet under `backbone.` with the projector in the place of its classifier,
    `fc.0` and `fc.2`. The authors' own files are TensorFlow's, which are not read."""
    trunks = [
        trunk
        for trunk in find_trunks(contents.states)
        if trunk.naming == "resnet" and trunk.prefix.removeprefix("module.") == "backbone."
    ]
    if len(trunks) != 1:
        return None
    weights = trunks[0].weights(contents.states)
    if "fc.0.weight" not in weights or "fc.2.weight" not in weights:
        return None
    claimed = claim_network(
        contents,
        ("resnet",),
        method=TITLE,
        sign="a projector of two layers stands in place of the classifier (backbone.fc.0, fc.2)",
        objective="simclr",
        family="JE",
        drops=((r"fc\..*", "the projector"),),
        certain=True,
    )
    return claimed and replace(claimed, form="training file, with the projector")
