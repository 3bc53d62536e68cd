"""I-JEPA (Assran et al., 2023): an encoder, its target encoder, and a predictor between them."""

from sslens.zoo.claim import CLASSIFIER, Claim
from sslens.zoo.claiming import find_encoders
from sslens.zoo.files import Contents

TITLE = "I-JEPA"


def claim(contents: Contents) -> Claim | None:
    """Claim a file with the state dicts `encoder`, `target_encoder` and `predictor`, the networks
    without a CLS token; the authors evaluate the target encoder."""
    branches = find_encoders(contents)
    if not branches or "predictor" not in contents.states:
        return None
    if "cls_token" in next(iter(branches.values())).weights(contents.states):
        return None
    return Claim(
        method=TITLE,
        form="training file",
        signs=(
            f"its networks are called {' and '.join(map(str, branches.values()))}",
            "they have no CLS token, and a predictor stands beside them",
        ),
        branches=branches,
        taken="target_encoder" if "target_encoder" in branches else None,
        objective="ijepa",
        family="JE",
        drops=((r"head\..*", CLASSIFIER),),
    )
