"""solo-learn (da Costa et al., 2022): `backbone`, for some methods `momentum_backbone`, with a
projector and an online classifier."""

from sslens.zoo.claim import Claim
from sslens.zoo.claiming import LIGHTNING, claim_trainer, find_roles
from sslens.zoo.files import Contents

TITLE = "solo-learn"
#: solo-learn's parts beside its networks, for which a training with labels has no use; SimCLR and
#: Barlow Twins have a projector alone, which such a training may have too
PARTS = ("predictor.", "momentum_projector.", "momentum_classifier.", "prototypes.")


def claim(contents: Contents) -> Claim | None:
    """Claim a file of Lightning's with `backbone.` or `momentum_backbone.`, solo-learn's online
    classifier, `classifier.weight` at the top, and a predictor, prototypes or momentum's parts.

    A backbone with a classifier and at most a projector may be anyone's, trained with labels: it is
    Lightning's, and its family is not told. The momentum backbone is taken where there is one;
    solo-learn's own linear evaluation reads the other.
    """
    state = contents.states.get("state_dict", {})
    roles = find_roles(contents, ("momentum_backbone", "backbone"))
    if not roles or LIGHTNING not in contents.rest:
        return None
    own = next((key for key in state if key.startswith(PARTS)), None)
    if own is None or state.get("classifier.weight") is None:
        return None
    if any(key.startswith(("callbacks_modules.", "projection_head.")) for key in state):
        return None
    return claim_trainer(
        contents,
        method=TITLE,
        signs=(
            f"its networks are called {' and '.join(map(str, roles.values()))}",
            f"an online classifier and solo-learn's parts are beside them ({own})",
        ),
        family="JE",
    )
