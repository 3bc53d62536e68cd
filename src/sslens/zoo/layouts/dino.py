"""DINO (Caron et al., 2021) and its kin that train a student on a teacher: iBOT, DINOv2's training
files."""

from sslens.zoo.claim import MASK, Claim, keep_names
from sslens.zoo.dinov2 import convert_to_timm
from sslens.zoo.files import Contents
from sslens.zoo.trunks import Trunk, find_trunks

TITLE = "DINO"
BRANCHES = ("teacher", "student")


def claim(contents: Contents) -> Claim | None:
    """Claim a full checkpoint: state dicts `student` and `teacher`, each with a backbone and a
    head. The teacher is the one that the authors evaluate.

    The backbone's own file is flat and has timm's names, as many other files have: the layout
    `timm` claims it.
    """
    branches: dict[str, Trunk] = {}
    for branch in BRANCHES:
        for trunk in find_trunks(contents.states):
            if trunk.state.split("/")[-1] == branch and trunk.naming in ("vit", "resnet"):
                branches[branch] = trunk
    if not branches:
        return None
    losses = [name for name in [*contents.states, *contents.rest] if name.endswith("_loss")]
    objective = "ibot" if any(name.startswith("ibot") for name in losses) else "dino"
    return Claim(
        method="iBOT" if objective == "ibot" else TITLE,
        form=f"full checkpoint, with {' and '.join(branches)}",
        signs=(
            f"its networks are called {' and '.join(str(trunk) for trunk in branches.values())}",
            *losses,
        ),
        branches=branches,
        taken="teacher" if "teacher" in branches else None,
        objective=objective,
        family="JE",
        drops=((r"masked_embed|mask_token", MASK), (r"(head|fc)\..*", "the projection head")),
        convert=lambda weights: convert_to_timm(keep_names(weights)),
        beside=((r"(module\.)?(dino_|ibot_)?head\..*", "the projection head"),),
    )
