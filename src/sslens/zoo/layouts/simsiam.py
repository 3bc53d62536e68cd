"""SimSiam (Chen & He, 2021): one encoder whose `fc` is the projector, and a predictor beside it."""

from sslens.zoo.claim import Claim
from sslens.zoo.claiming import claim_roles, find_roles
from sslens.zoo.files import Contents

TITLE = "SimSiam"


def claim(contents: Contents) -> Claim | None:
    """Claim a file with a ResNet under `encoder.`, a projector of three layers in the place of its
    classifier, and `predictor.` beside it."""
    roles = find_roles(contents, ("encoder",))
    if "encoder" not in roles:
        return None
    trunk = roles["encoder"]
    if "fc.6.weight" not in trunk.weights(contents.states):
        return None
    beside = trunk.prefix.replace("encoder.", "predictor.")
    if not any(key.startswith(beside) for key in contents.states[trunk.state]):
        return None
    return claim_roles(
        contents,
        ("encoder",),
        method=TITLE,
        taken="encoder",
        objective="simsiam",
        drops=((r"fc\..*", "the projector"),),
    )
