"""BYOL (Grill et al., 2020) as it is written in PyTorch: an online and a target network."""

from sslens.zoo.claim import Claim
from sslens.zoo.claiming import claim_roles, find_roles
from sslens.zoo.files import Contents

TITLE = "BYOL"
PAIRS = (
    ("online_encoder", "target_encoder"),
    ("online_network", "target_network"),
    ("online_net", "target_net"),
    ("online", "target"),
)


def claim(contents: Contents) -> Claim | None:
    """Claim a file with a network called `online_…`, and its twin `target_…`. The online network is
    the one that the authors evaluate. The authors' own files are JAX's, which are not read."""
    for online, target in PAIRS:
        if online in find_roles(contents, (online,)):
            return claim_roles(
                contents,
                (online, target),
                method=TITLE,
                taken=online,
                objective="byol",
                drops=((r"(fc|head|projector|projection)\..*", "the projector"),),
            )
    return None
