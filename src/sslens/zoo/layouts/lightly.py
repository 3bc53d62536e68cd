"""Trainings with lightly's modules, as its examples are written: `backbone` and `projection_head`,
with `…_momentum` or `teacher_…` beside them."""

from sslens.zoo.claim import Claim
from sslens.zoo.claiming import claim_trainer, find_roles
from sslens.zoo.files import Contents

TITLE = "lightly"
NETWORKS = (
    "backbone_momentum",
    "teacher_backbone",
    "student_backbone",
    "momentum_backbone",
    "backbone",
)
#: heads that lightly's examples have beside the backbone
_HEADS = (
    "projection_head.",
    "projection_head_momentum.",
    "prediction_head.",
    "student_head.",
    "teacher_head.",
)


def claim(contents: Contents) -> Claim | None:
    """Claim a file with a backbone and lightly's heads beside it; of a network and its momentum
    twin, the twin is taken."""
    roles = find_roles(contents, NETWORKS)
    heads = {
        head
        for weights in contents.states.values()
        for key in weights
        for head in _HEADS
        if key.removeprefix("module.").startswith(head)
    }
    if not roles or not heads:
        return None
    return claim_trainer(
        contents,
        method=TITLE,
        signs=(
            f"its networks are called {' and '.join(map(str, roles.values()))}",
            f"heads by the names of lightly's are beside them ({', '.join(sorted(heads))}*)",
        ),
        strict=False,  # others too call their heads so
    )
