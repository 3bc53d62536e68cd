"""Detectors on a plain Vision Transformer in detectron2's names (ViTDet; Li et al., 2022)."""

from sslens.errors import InputError
from sslens.zoo.claim import Claim, Drops
from sslens.zoo.files import Contents
from sslens.zoo.trunks import find_trunks, name_trunks

TITLE = "ViTDet"
#: where detectron2's detectors have their Vision Transformer
NETWORK = "backbone.net."
PYRAMID = "the feature pyramid; sslens.zoo.detectors.load_detector takes it"
HEADS = "the detection heads; sslens.zoo.detectors.load_detector takes them"
BESIDE: Drops = (
    (r"(module\.)?backbone\.simfp_\d\..*", PYRAMID),
    (r"(module\.)?(proposal_generator|roi_heads)\..*", HEADS),
    (r"(module\.)?pixel_(mean|std)", "the colours' means and spreads"),
)


def claim(contents: Contents) -> Claim | None:
    """Claim a detector with a Vision Transformer under `backbone.net.` and a simple feature pyramid
    beside it, `backbone.simfp_2.` and others.

    detectron2 releases such files as pickles of NumPy arrays (.pkl), and its trainings write
    `model`, with `optimizer` and `iteration` beside it. Which blocks have windows, and how many
    heads of attention there are, is told by the tables of relative positions.

    Raises:
        InputError: the Vision Transformer has no relative positions.
    """
    trunks = [
        trunk
        for trunk in find_trunks(contents.states)
        if trunk.naming == "vit" and trunk.prefix in (NETWORK, f"module.{NETWORK}")
    ]
    if not trunks:
        return None
    keys = contents.states[trunks[0].state]
    if not any(key.startswith(trunks[0].prefix.replace("net.", "simfp_")) for key in keys):
        return None
    if f"{trunks[0].prefix}blocks.0.attn.rel_pos_h" not in keys:
        raise InputError(
            f"{contents.path} is a ViTDet without relative positions: nothing in it tells which of"
            " its blocks attend by windows, and with others the features are wrong. Give the"
            " checkpoint that it was started from."
        )
    branches = name_trunks(trunks)
    cascade = any("roi_heads.box_head.0." in key for key in keys)
    return Claim(
        method=TITLE,
        form=("Cascade " if cascade else "") + "Mask R-CNN on a Vision Transformer, tuned",
        signs=(
            f"it has a Vision Transformer under {trunks[0].prefix}* and a simple feature pyramid",
        ),
        branches=branches,
        taken=next(iter(branches)) if len(branches) == 1 else None,
        tuned="fine-tuned",
        normless=True,
        beside=BESIDE,
        notes=(
            "Its blocks attend by windows, and no CLS token takes part. It was tuned on larger"
            " images than its position table is for; the default here is the table's size.",
        ),
    )
