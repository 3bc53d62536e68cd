"""VISSL's trainings: a trunk and heads, four dictionaries deep."""

from dataclasses import replace

from sslens.zoo.claim import Claim
from sslens.zoo.claiming import claim_trainer
from sslens.zoo.files import Contents
from sslens.zoo.trunks import find_trunks

TITLE = "VISSL"
PLACE = "base_model/model/trunk"


def claim(contents: Contents) -> Claim | None:
    """Claim a network in `classy_state_dict/base_model/model/trunk`; a ResNet has the prefix
    `_feature_blocks.` there. Heads, the loss and its momentum networks are in dictionaries of their
    own."""
    trunks = [t for t in find_trunks(contents.states) if t.state.endswith(PLACE)]
    if not trunks:
        return None
    state = trunks[0].state
    inside = replace(contents, states={state: contents.states[state]})
    return claim_trainer(
        inside,
        method=TITLE,
        signs=(f"its network is in {state}",),
        notes=("The file does not say what trained it.",),
    )
