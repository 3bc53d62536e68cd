"""MoCo-v3 (Chen et al., 2021), ViT and ResNet: training files, which the released ones are, and
encoders taken from them."""

from sslens.zoo.claim import CLASSIFIER, Claim, Drops
from sslens.zoo.files import Contents
from sslens.zoo.trunks import Trunk, find_trunks, recognise_positions

TITLE = "MoCo-v3"
TWINS = ("base_encoder", "momentum_encoder")
#: the authors' ViT-S has 12 heads of width 32
HEADS = {384: 12}
TRANSFORM = {"interpolation": "bilinear"}
PROJECTOR: Drops = ((r"(head|fc)\..*", "the projector"),)
BESIDE: Drops = ((r"(module\.)?predictor\..*", "the predictor"),)


def claim(contents: Contents) -> Claim | None:
    """Claim a file with the two networks `base_encoder` and `momentum_encoder`, or with one ViT on
    MoCo-v3's fixed positions.

    The base encoder is the one that the authors evaluate.
    """
    trunks = find_trunks(contents.states)
    twins: dict[str, Trunk] = {}
    for branch in TWINS:
        for trunk in trunks:
            if trunk.prefix.endswith(f"{branch}.") and trunk.naming in ("vit", "resnet"):
                twins[branch] = trunk
    if twins:
        first = next(iter(twins.values()))
        return Claim(
            method=TITLE,
            form=(
                "training file, with both encoders"
                if len(twins) == 2
                else "training file, with one encoder"
            ),
            signs=(
                (
                    "its networks are called"
                    f" {' and '.join(t.prefix.rstrip('.') for t in twins.values())}"
                ),
            ),
            branches=twins,
            taken="base_encoder" if "base_encoder" in twins else None,
            objective="moco-v3",
            family="JE",
            drops=PROJECTOR,
            beside=BESIDE,
            heads=HEADS if first.naming == "vit" else {},
            transform=TRANSFORM,
        )
    return _claim_alone(
        contents,
        [trunk for trunk in trunks if trunk.naming == "vit" and trunk.prefix in ("", "module.")],
    )


def _claim_alone(contents: Contents, found: list[Trunk]) -> Claim | None:
    for trunk in found:
        weights = trunk.weights(contents.states)
        where = recognise_positions(weights.get("pos_embed"))
        if where.of != "moco-v3":
            continue
        headed = any(name.startswith("head.") for name in weights)
        return Claim(
            method=TITLE,
            form="encoder with a classifier" if headed else "encoder only",
            signs=(
                (
                    f"pos_embed {'is' if where.exact else 'started from'} MoCo-v3's fixed sin-cos"
                    " table (the grid transposed)"
                ),
            ),
            branches={trunk.state or "weights": trunk},
            taken=trunk.state or "weights",
            objective="moco-v3",
            family="JE",
            tuned=("linear" if where.exact else "fine-tuned") if headed else False,
            drops=((r"head\..*", CLASSIFIER),),
            heads=HEADS,
            transform=TRANSFORM,
            certain=False,
        )
    return None
