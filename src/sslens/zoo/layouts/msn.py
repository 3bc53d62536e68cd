"""MSN (Assran et al., 2022): an encoder, its target encoder, and prototypes; and I-JEPA (2023),
which is written alike."""

from sslens.zoo.claim import CLASSIFIER, Claim
from sslens.zoo.files import Contents
from sslens.zoo.trunks import find_trunks

TITLE = "MSN"
BRANCHES = ("target_encoder", "encoder")


def claim(contents: Contents) -> Claim | None:
    """Claim a file with the state dicts `encoder` and `target_encoder`; the authors evaluate the
    target encoder.

    MSN's files have a projection head `fc` and prototypes, or a classifier beside the target
    encoder. I-JEPA's files have no CLS token, and a predictor beside the encoders. A file with
    neither is of another method and is not claimed.
    """
    trunks = {
        trunk.state: trunk
        for trunk in find_trunks(contents.states)
        if trunk.state in BRANCHES
        and trunk.naming in ("vit", "resnet")
        and trunk.prefix in ("", "module.")
    }
    if not trunks:
        return None
    branches = {name: trunks[name] for name in BRANCHES if name in trunks}
    weights = next(iter(branches.values())).weights(contents.states)
    probed = "classifier" in contents.states
    telling = {
        "it has prototypes": "prototypes" in contents.states.get("", {}),
        "its networks have a projection head (fc.fc1.weight)": "fc.fc1.weight" in weights,
        "a classifier stands beside the target encoder": probed and "target_encoder" in branches,
    }
    jepa = "predictor" in contents.states and "cls_token" not in weights
    if not jepa and not any(telling.values()):
        return None
    signs = [f"its networks are called {' and '.join(map(str, branches.values()))}"]
    signs += (
        ["they have no CLS token, and a predictor stands beside them"]
        if jepa
        else [s for s, yes in telling.items() if yes]
    )
    return Claim(
        method="I-JEPA" if jepa else TITLE,
        form="linear evaluation of the target encoder" if probed else "training file",
        signs=tuple(signs),
        branches=branches,
        taken="target_encoder" if "target_encoder" in branches else None,
        objective="ijepa" if jepa else "msn",
        family="JE",
        tuned="linear" if probed else False,
        drops=(
            (r"fc\..*", "the projection head"),
            (r"pred\..*", "the prediction head"),
            (r"scaling_.*", "a scale of the head"),
            (r"head\..*", CLASSIFIER),
        ),
        transform={} if jepa else {"interpolation": "bilinear"},
    )
