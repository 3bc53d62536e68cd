"""MoCo v1 and v2 (He et al., 2020; Chen et al., 2020): an encoder of queries, one of keys, and a
queue."""

from sslens.zoo.claim import Claim
from sslens.zoo.claiming import claim_roles, find_roles
from sslens.zoo.files import Contents

TITLE = "MoCo"


def claim(contents: Contents) -> Claim | None:
    """Claim a file with the networks `encoder_q` and `encoder_k`. The encoder of queries is the one
    that the authors evaluate. In v2 its projector has two layers, `fc.0` and `fc.2`."""
    roles = find_roles(contents, ("encoder_q", "encoder_k"))
    if not roles:
        return None
    weights = next(iter(roles.values())).weights(contents.states)
    second = "fc.2.weight" in weights
    return claim_roles(
        contents,
        ("encoder_q", "encoder_k"),
        method="MoCo-v2" if second else TITLE,
        taken="encoder_q",
        objective="moco-v2" if second else "moco",
        drops=((r"(fc|head)\..*", "the projector"),),
        beside=((r"(.*\.)?queue(_ptr)?", "the queue of other images' features"),),
    )
