"""MSN (Assran et al., 2022): an encoder, its target encoder, and prototypes."""

from sslens.zoo.claim import CLASSIFIER, Claim
from sslens.zoo.files import Contents
from sslens.zoo.trunks import trunks

TITLE = "MSN"
BRANCHES = ("target_encoder", "encoder")


def claim(contents: Contents) -> Claim | None:
    """State dicts `encoder` and `target_encoder`, each with a projection head `fc`; the target encoder is what is evaluated."""
    branches = {
        trunk.state: trunk
        for trunk in trunks(contents.states)
        if trunk.state in BRANCHES and trunk.naming in ("vit", "resnet") and trunk.prefix in ("", "module.")
    }
    if not branches:
        return None
    prototypes = "prototypes" in contents.states.get("", {})
    probed = "classifier" in contents.states
    signs = [f"its networks are called {' and '.join(str(branches[name]) for name in BRANCHES if name in branches)}"]
    if prototypes:
        signs.append("it has prototypes")
    return Claim(
        method=TITLE,
        form="linear evaluation of the target encoder" if probed else "training file",
        signs=tuple(signs),
        branches={name: branches[name] for name in BRANCHES if name in branches},
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
    )
