"""CAPI (Darcet et al., 2025): an encoder that predicts, behind masks, to which cluster its moving
average assigns each patch."""

from dataclasses import replace

from sslens.zoo.claim import Claim
from sslens.zoo.claiming import PARTS, claim_network, find_roles
from sslens.zoo.files import Contents
from sslens.zoo.hints import Hints

TITLE = "CAPI"
#: the networks of a training, the one first that the authors evaluate
_ROLES = ("student_ema", "teacher", "student")


def claim(contents: Contents) -> Claim | None:
    """Claim an encoder whose blocks have two residuals, under `backbone.`; in the state of a
    training there are the student, its moving average, and this one again as the teacher."""
    made = claim_network(
        contents,
        ("capi",),
        method=TITLE,
        sign="its blocks have two residuals (encoder.blocks.0.residual1.fn.q_proj.weight)",
        objective="capi",
        family="JE",
        beside=PARTS,
        hints=Hints(eps=1e-5),
        certain=True,
        normless=True,
    )
    if made is None or len(made.branches) == 1:
        return made
    roles = find_roles(contents, _ROLES)
    return replace(made, branches=roles, taken=next(iter(roles), None)) if roles else made
