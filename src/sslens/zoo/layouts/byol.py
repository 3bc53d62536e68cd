"""BYOL (Grill et al., 2020) as it is written in PyTorch: an online and a target network."""

import re

from sslens.zoo.claim import Claim
from sslens.zoo.claiming import claim_roles, find_roles
from sslens.zoo.files import Contents
from sslens.zoo.trunks import AVERAGED

TITLE = "BYOL"
#: what may stand after "online" and after the word for its moving average
ENDS = ("_encoder", "_network", "_net", "")


#: the part beside the networks by which a training is known as BYOL's
_PREDICTOR = re.compile(r"predict")


def claim(contents: Contents) -> Claim | None:
    """Claim a file with a network called `online_…`, and its moving average, `target_…` or another
    word for one. The online network is the one that the authors evaluate. The authors' own files
    are JAX's, which are not read.

    Without a predictor the names alone do not tell the objective.
    """
    keys = [key for weights in contents.states.values() for key in weights]
    is_known = any(_PREDICTOR.search(key) for key in keys)
    for end in ENDS:
        online = f"online{end}"
        if online in find_roles(contents, (online,)):
            return claim_roles(
                contents,
                (online, *(f"{word}{end}" for word in AVERAGED)),
                method=TITLE if is_known else "an online network and its target, objective unknown",
                taken=online,
                objective="byol" if is_known else None,
                family="JE" if is_known else None,
                drops=((r"(fc|head|projector|projection)\..*", "the projector"),),
            )
    return None
