"""DINO (Caron et al., 2021) and its kin that train a student on a teacher: iBOT, DINOv2's training
files."""

import re

from sslens.zoo.claim import HEADS, MASK, Claim
from sslens.zoo.files import Contents
from sslens.zoo.trunks import Trunk, find_trunks

TITLE = "DINO"
#: what a file is called that only says which of its networks is the student
UNKNOWN = "a student and its teacher, objective unknown"
BRANCHES = ("teacher", "student")
#: parts of DINO's projection heads, by which a training is known: others too have a student and a
#: teacher
_HEAD = re.compile(r"(^|\.)(dino_|ibot_)?head\.(mlp|last_layer\d*)\.")
#: where the networks are: in two state dicts, or in one (DINOv2)
_PLACE = re.compile(r"(?:[^/]*/)*(?:module\.)?(teacher|student)[/.](?:module\.)?(?:backbone\.)?")

#: Franca (Venkataramanan et al., 2025)
_RASA = "the head that predicts a patch's position"


def claim(contents: Contents) -> Claim | None:
    """Claim a full checkpoint: `student` and `teacher`, each with a backbone and heads. The teacher
    is the one that the authors evaluate.

    DINO and iBOT write two state dicts, and DINOv2 one with the blocks in chunks,
    `teacher.backbone.blocks.0.3.`. The backbone's own file is flat and has timm's names, as many
    other files have: the layout `timm` claims it. A file without DINO's heads and losses, and
    without DINOv2's blocks in chunks, is of some training with a student and a teacher: its
    objective is not known.
    """
    places = {
        match[1]: trunk
        for trunk in find_trunks(contents.states)
        if trunk.naming not in ("dinov3", "capi")  # which have layouts of their own
        and (match := _PLACE.fullmatch(f"{trunk.state}/{trunk.prefix}"))
    }
    branches: dict[str, Trunk] = {name: places[name] for name in BRANCHES if name in places}
    if not branches:
        return None
    keys = [key for weights in contents.states.values() for key in weights]
    losses = [name for name in [*contents.states, *contents.rest] if name.endswith("_loss")]
    losses = [name for name in losses if name.startswith(("dino", "ibot", "koleo"))]
    heads = next((key for key in keys if _HEAD.search(key)), None)
    weights = next(iter(branches.values())).weights(contents.states)
    chunked = "blocks.0.0.ls1.gamma" in weights
    scaled = "blocks.0.ls1.gamma" in weights or chunked
    is_known = heads is not None or bool(losses) or chunked
    dinov2 = scaled or any(re.search(r"(teacher|student)\.dino_head\.", key) for key in keys)
    objective = (
        "dinov2" if dinov2 else "ibot" if any(n.startswith("ibot") for n in losses) else "dino"
    )
    titles = {"dinov2": "DINOv2", "ibot": "iBOT", "dino": TITLE}
    return Claim(
        method=titles[objective] if is_known else UNKNOWN,
        form=f"{'full checkpoint' if is_known else 'training file'}, with {' and '.join(branches)}",
        signs=(
            f"its networks are called {' and '.join(str(trunk) for trunk in branches.values())}",
            *losses,
            *([f"DINO's projection head is beside them ({heads})"] if heads else []),
        ),
        branches=branches,
        taken="teacher" if "teacher" in branches else None,
        objective=objective if is_known else None,
        family="JE" if is_known else None,
        drops=(
            (r"masked_embed|mask_token", MASK),
            (r"(head|fc)\..*", "the projection head"),
            (r"rasa_head\..*", _RASA),
            *HEADS,
        ),
        beside=(
            (r"(.*\.)?(dino_|ibot_)?head\..*", "the projection head"),
            (r"(.*\.)?rasa_head\..*", _RASA),
            (r"(.*\.)?(dino|ibot|koleo)\w*_loss\..*", "a state of the loss"),
        ),
        strict=is_known,
    )
