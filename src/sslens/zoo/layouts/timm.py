"""timm's names, which DINO's backbones, torchvision's ResNets and many trainings share: a state
dict, flat or one level down."""

import re
from collections.abc import Iterator
from dataclasses import replace

from sslens.zoo.claim import (
    AFTER_POOLING,
    CLASSIFIER,
    MASK,
    Claim,
    Drops,
    Piece,
    Weights,
    keep_names,
)
from sslens.zoo.dinov2 import convert_to_timm
from sslens.zoo.files import Contents
from sslens.zoo.trunks import find_trunks, name_trunks

TITLE = "timm-names"
DROPS: Drops = (
    (r"head\.norm\..*", AFTER_POOLING),
    (r"(head|head_dist|fc|pre_logits)\..*", CLASSIFIER),
    (r"fc_norm\..*", AFTER_POOLING),
    (r"mask_token", MASK),
)
KINDS = {"vit": "ViT", "resnet": "ResNet", "convnext-timm": "ConvNeXt-V2"}
ALIKE = {
    "ViT": "DINO's, timm's and supervised files",
    "ResNet": "DINO's, torchvision's and many others' files",
    "ConvNeXt-V2": "pre-trained and supervised files of timm's",
}


def claim(contents: Contents) -> Claim | None:
    """Claim a network in timm's names, where no more specific layout claims it.

    DINO's, timm's and supervised backbones have exactly the same keys, so the objective is not
    known, except for DINOv2's own files, which have a mask token and layer scale. Where a file
    holds several networks, the user must choose one.
    """
    trunks = [trunk for trunk in find_trunks(contents.states) if trunk.naming in KINDS]
    if not trunks:
        return None
    branches = name_trunks(trunks)
    weights = trunks[0].weights(contents.states)
    # as DINOv2's own files have it, and no other that is known
    dinov2 = "mask_token" in weights and "blocks.0.ls1.gamma" in weights
    head = next(
        (
            weights[name]
            for name in ("head.weight", "fc.weight", "head.fc.weight")
            if name in weights
        ),
        None,
    )
    kind = KINDS[trunks[0].naming]
    notes: tuple[str, ...] = ()
    if not dinov2:
        notes = (
            (
                f"A {kind} in timm's names: {ALIKE[kind]} look like this, and the file does not say"
                " which."
            ),
        )
    if head is not None:
        notes += (
            (
                f"It has a classifier of {head.shape[0]} classes, so labels were used: supervised,"
                " fine-tuned or probed."
            ),
        )
    return Claim(
        method="DINOv2" if dinov2 else TITLE,
        form=f"a {kind}" + (", with a classifier" if head is not None else ", without a head"),
        signs=(f"its layers have timm's names under {', '.join(map(str, trunks))}",)
        + (("it has a mask token and layer scale, as DINOv2's own files",) if dinov2 else ()),
        branches=branches,
        taken=next(iter(branches)) if len(branches) == 1 else None,
        objective="dinov2" if dinov2 else None,
        family="JE" if dinov2 else None,
        tuned="fine-tuned" if head is not None else False,
        drops=DROPS,
        convert=convert_weights,
        transform=(
            {"resize": 518, "crop": 518}
            if dinov2 and weights["pos_embed"].shape[1] == 1 + 37**2
            else {}
        ),
        certain=False,
        notes=notes,
    )


def convert_weights(weights: Weights) -> Iterator[Piece]:
    """Convert weights in timm's names: in small ConvNeXt-V2s, timm has 1 × 1 convolutions in the
    MLPs, which become linear layers."""
    for piece in convert_to_timm(keep_names(weights)):
        if re.search(r"\.mlp\.fc[12]\.weight$", piece.into) and piece.value.ndim == 4:
            yield replace(
                piece,
                value=piece.value.reshape(len(piece.value.raw), -1),
                done="1 × 1 convolution to a linear layer",
            )
        else:
            yield piece
