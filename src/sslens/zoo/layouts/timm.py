"""timm's names, which DINO's backbones, torchvision's ResNets and many trainings share: a state
dict, flat or one level down."""

from sslens.counts import spell_count
from sslens.zoo.claim import HEADS, MASK, Claim
from sslens.zoo.files import Contents
from sslens.zoo.trunks import choose_trunk, find_trunks, name_trunks

TITLE = "timm-names"
KINDS = {
    "vit": "ViT",
    "vit-chunked": "ViT",
    "resnet": "ResNet",
    "resnet-sequence": "ResNet",
    "convnext-timm": "ConvNeXt",
}
ALIKE = {
    "ViT": "DINO's, timm's and supervised files",
    "ResNet": "DINO's, torchvision's and many others' files",
    "ConvNeXt": "pre-trained and supervised files of timm's",
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
    scaled = "blocks.0.ls1.gamma" in weights or "blocks.0.0.ls1.gamma" in weights
    dinov2 = "mask_token" in weights and scaled
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
                f"It has a classifier of {spell_count(head.shape[0], 'class')}, so labels were"
                " used: supervised, fine-tuned or probed."
            ),
        )
    return Claim(
        method="DINOv2" if dinov2 else TITLE,
        form=f"a {kind}" + (", with a classifier" if head is not None else ", without a head"),
        signs=(f"its layers have timm's names under {', '.join(map(str, trunks))}",)
        + (("it has a mask token and layer scale, as DINOv2's own files",) if dinov2 else ()),
        branches=branches,
        taken=choose_trunk(branches),
        objective="dinov2" if dinov2 else None,
        family="JE" if dinov2 else None,
        tuned="fine-tuned" if head is not None else False,
        drops=(*HEADS, (r"mask_token", MASK)),
        beside=((r"n_averaged", "the number of networks in a moving average"),),
        transform=(
            {"resize": 518, "crop": 518}
            if dinov2 and weights["pos_embed"].shape[1] == 1 + 37**2
            else {}
        ),
        strict=dinov2,
        certain=False,
        notes=notes,
    )
