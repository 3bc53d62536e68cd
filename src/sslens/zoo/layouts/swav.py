"""SwAV and DeepCluster-v2 (Caron et al., 2020): a ResNet with a projection head and prototypes of
its own."""

from sslens.zoo.claim import HEADS, Claim
from sslens.zoo.files import Contents
from sslens.zoo.trunks import choose_trunk, find_trunks, name_trunks

TITLE = "SwAV"


def claim(contents: Contents) -> Claim | None:
    """Claim a ResNet with `projection_head.` and `prototypes.` among its own parts. Several sets of
    prototypes are DeepCluster-v2's. Its first convolution pads by hand, to the same result."""
    trunks = [
        trunk
        for trunk in find_trunks(contents.states)
        if trunk.naming == "resnet"
        and any(
            key.startswith(f"{trunk.prefix}prototypes.") for key in contents.states[trunk.state]
        )
    ]
    if not trunks:
        return None
    weights = trunks[0].weights(contents.states)
    several = "prototypes.prototypes1.weight" in weights
    branches = name_trunks(trunks)
    return Claim(
        method="DeepCluster-v2" if several else TITLE,
        form="training file, with the projection head and the prototypes",
        signs=(
            "its ResNet has prototypes of its own "
            + ("(prototypes.prototypes0, prototypes1)" if several else "(prototypes.weight)"),
        ),
        branches=branches,
        taken=choose_trunk(branches),
        objective="deepcluster-v2" if several else "swav",
        family="JE",
        drops=(
            (r"projection_head\..*", "the projection head"),
            (r"prototypes\..*", "the prototypes"),
            *HEADS,
        ),
    )
