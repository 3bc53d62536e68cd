"""Barlow Twins (Zbontar et al., 2021): a backbone, a projector, and the normalisation of its
features, `bn`."""

from sslens.zoo.claim import Claim
from sslens.zoo.claiming import claim_roles, find_roles
from sslens.zoo.files import Contents

TITLE = "Barlow Twins"


def claim(contents: Contents) -> Claim | None:
    """Claim a full checkpoint: `backbone.`, `projector.` and a batch normalisation without weights
    beside them, `bn.running_mean`. The released backbone is flat, as many files are."""
    trunk = find_roles(contents, ("backbone",)).get("backbone")
    if trunk is None:
        return None
    state, start = contents.states[trunk.state], trunk.prefix.removesuffix("backbone.")
    if f"{start}bn.running_mean" not in state or f"{start}projector.0.weight" not in state:
        return None
    return claim_roles(
        contents,
        ("backbone",),
        method=TITLE,
        taken="backbone",
        objective="barlow-twins",
        beside=((r"(module\.)?bn\.\w+", "the normalisation of the projector's features"),),
    )
