"""VICReg (Bardes et al., 2022): a backbone, and an expander of three layers, of which the last has
no bias."""

from sslens.zoo.claim import Claim
from sslens.zoo.claiming import claim_roles, find_roles
from sslens.zoo.files import Contents

TITLE = "VICReg"


def claim(contents: Contents) -> Claim | None:
    """Claim a full checkpoint: the state dict `model` with `backbone.` and `projector.`, whose
    first layer has a bias and whose last one has none. The released backbone is flat."""
    trunk = find_roles(contents, ("backbone",)).get("backbone")
    if trunk is None or trunk.state != "model":
        return None
    state, start = contents.states[trunk.state], trunk.prefix.removesuffix("backbone.")
    projector = sorted(key for key in state if key.startswith(f"{start}projector."))
    outside = [key for key in state if not key.startswith((trunk.prefix, f"{start}projector."))]
    biases = {key for key in projector if key.endswith(".bias")}
    if f"{start}projector.0.bias" not in biases or outside:
        return None
    last = max((key for key in projector if key.endswith(".weight")), key=_count)
    if last.replace(".weight", ".bias") in biases:
        return None
    return claim_roles(contents, ("backbone",), method=TITLE, taken="backbone", objective="vicreg")


def _count(key: str) -> int:
    """The number of a layer in a sequence."""
    number = key.split(".")[-2]
    return int(number) if number.isdecimal() else -1
