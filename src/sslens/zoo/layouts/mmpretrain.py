"""OpenMMLab's trainings, mmpretrain and mmcls: `backbone`, a neck and a head."""

from sslens.zoo.claim import Claim
from sslens.zoo.claiming import claim_trainer
from sslens.zoo.files import Contents
from sslens.zoo.trunks import find_trunks

TITLE = "mmpretrain"
_OWN = ("vit-mmpretrain", "convnext-mmpretrain")
_MAE = "neck.decoder_embed.weight"


def claim(contents: Contents) -> Claim | None:
    """Claim a network in OpenMMLab's names, or a ResNet under `backbone.` in a file with
    OpenMMLab's `meta` beside the weights."""
    trunks = find_trunks(contents.states)
    own = [t for t in trunks if t.naming in _OWN]
    written = "meta" in contents.rest
    resnets = [t for t in trunks if written and t.naming == "resnet" and "backbone." in t.prefix]
    if not own and not resnets:
        return None
    sign = (
        "its layers have OpenMMLab's names (layers.0.ln1, depthwise_conv)"
        if own
        else "OpenMMLab's meta stands beside a backbone"
    )
    mae = any(_MAE in weights for weights in contents.states.values())
    return claim_trainer(
        contents,
        method=TITLE,
        signs=(sign, *(["it has MAE's decoder"] if mae else [])),
        objective="mae" if mae else None,
        family="REC" if mae else None,
        certain=bool(own),
    )
