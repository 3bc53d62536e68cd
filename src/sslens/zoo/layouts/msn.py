"""MSN (Assran et al., 2022): an encoder, its target encoder, and prototypes."""

from sslens.zoo.claim import CLASSIFIER, Claim
from sslens.zoo.claiming import find_encoders
from sslens.zoo.files import Contents

TITLE = "MSN"


def claim(contents: Contents) -> Claim | None:
    """Claim a file with the state dicts `encoder` and `target_encoder`; the authors evaluate the
    target encoder.

    The networks have a projection head `fc`, and beside them are prototypes, or a classifier
    beside the target encoder alone. A file with neither is of another method and is not claimed.
    """
    branches = find_encoders(contents)
    if not branches:
        return None
    weights = next(iter(branches.values())).weights(contents.states)
    probed = "classifier" in contents.states
    telling = {
        "it has prototypes": "prototypes" in contents.states.get("", {}),
        "its networks have a projection head (fc.fc1.weight)": "fc.fc1.weight" in weights,
        "a classifier stands beside the target encoder": probed and "target_encoder" in branches,
    }
    if not any(telling.values()):
        return None
    return Claim(
        method=TITLE,
        form="linear evaluation of the target encoder" if probed else "training file",
        signs=(
            f"its networks are called {' and '.join(map(str, branches.values()))}",
            *(sign for sign, there in telling.items() if there),
        ),
        branches=branches,
        taken="target_encoder" if "target_encoder" in branches else None,
        objective="msn",
        family="JE",
        tuned="linear" if probed else False,
        drops=(
            (r"fc\..*", "the projection head"),
            (r"pred\..*", "the prediction head"),
            (r"scaling_.*", "a scale of the head"),
            (r"head\..*", CLASSIFIER),
        ),
        transform={"interpolation": "bilinear"},
        normless=probed,
    )
