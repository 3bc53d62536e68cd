"""solo-learn (da Costa et al., 2022): `backbone`, for some methods `momentum_backbone`, with a
projector and an online classifier."""

from sslens.zoo.claim import Claim
from sslens.zoo.claiming import LIGHTNING, claim_trainer, find_roles
from sslens.zoo.files import Contents

TITLE = "solo-learn"


def claim(contents: Contents) -> Claim | None:
    """Claim a file of Lightning's with `backbone.` or `momentum_backbone.` and solo-learn's online
    classifier, `classifier.weight` at the top.

    The momentum backbone is taken where there is one; solo-learn's own linear evaluation reads the
    other.
    """
    state = contents.states.get("state_dict", {})
    roles = find_roles(contents, ("momentum_backbone", "backbone"))
    if not roles or LIGHTNING not in contents.rest:
        return None
    if "momentum_backbone" not in roles and state.get("classifier.weight") is None:
        return None
    if any(key.startswith(("callbacks_modules.", "projection_head.")) for key in state):
        return None
    return claim_trainer(
        contents,
        method=TITLE,
        signs=(f"its networks are called {' and '.join(map(str, roles.values()))}",),
        family="JE",
    )
