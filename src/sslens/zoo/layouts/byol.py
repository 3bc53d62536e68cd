"""BYOL (Grill et al., 2020) as it is written in PyTorch: an online and a target network."""

import re

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


#: parts beside the networks by which a training is known as BYOL's
_PARTS = re.compile(r"predict|project|(^|\.)(fc|head)\.\d")


def claim(contents: Contents) -> Claim | None:
    """Claim a file with a network called `online_…`, and its twin `target_…`. The online network is
    the one that the authors evaluate. The authors' own files are JAX's, which are not read.

    Without a predictor or a projector the names alone do not tell the objective.
    """
    keys = [key for weights in contents.states.values() for key in weights]
    is_known = any(_PARTS.search(key) for key in keys)
    for online, target in PAIRS:
        if online in find_roles(contents, (online,)):
            return claim_roles(
                contents,
                (online, target),
                method=TITLE if is_known else "an online network and its target, objective unknown",
                taken=online,
                objective="byol" if is_known else None,
                family="JE" if is_known else None,
                drops=((r"(fc|head|projector|projection)\..*", "the projector"),),
            )
    return None
