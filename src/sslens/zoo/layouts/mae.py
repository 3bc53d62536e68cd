"""MAE (He et al., 2022) and what its authors' scripts make of it: encoder only, with decoder,
fine-tuned, linear-probed."""

from dataclasses import replace

from sslens.cards import Tuned
from sslens.zoo.claim import AFTER_POOLING, CLASSIFIER, MASK, Claim
from sslens.zoo.files import Contents
from sslens.zoo.trunks import Trunk, find_key, find_trunks, name_trunks, recognise_positions

TITLE = "MAE"
PREFIXES = ("", "module.")
#: of methods that keep their networks elsewhere
FOREIGN = ("student", "teacher", "encoder", "target_encoder")


def claim(contents: Contents) -> Claim | None:
    """Claim a ViT in timm's names with a reconstruction decoder beside it, or with MAE's fixed
    positions.

    A fine-tuned encoder has `fc_norm` after the pooling in place of the final `norm`. A
    linear-probed encoder has a head behind a BatchNorm, `head.0` and `head.1`.
    """
    trunks = [
        t
        for t in find_trunks(contents.states)
        if t.naming == "vit" and t.prefix in PREFIXES and t.state not in FOREIGN
    ]
    read = {
        branch: claimed
        for branch, trunk in name_trunks(trunks).items()
        if (claimed := _read_fine_tuned(contents, trunk))
    }
    if not read:
        return None
    branches = {branch: claimed.branches["it"] for branch, claimed in read.items()}
    return replace(
        next(iter(read.values())),
        branches=branches,
        taken=next(iter(read)) if len(read) == 1 else None,
    )


def _read_fine_tuned(contents: Contents, trunk: Trunk) -> Claim | None:
    weights = trunk.weights(contents.states)
    where = recognise_positions(weights.get("pos_embed"))
    decoder = find_key(
        contents.states, trunk, "decoder_embed.", "decoder_blocks.", "decoder_pos_embed"
    )
    if decoder is None and where.of != "mae":
        return None
    signs = []
    if decoder:
        signs.append(f"it has MAE's decoder ({decoder})")
    if where.of == "mae":
        signs.append(
            f"pos_embed {'is' if where.exact else 'started from'} MAE's fixed sin-cos table"
        )
    probed = "head.0.running_mean" in weights
    headed = any(name.startswith("head.") for name in weights)
    frozen = probed or (where.exact and "fc_norm.weight" not in weights)
    tuned: Tuned = (
        False
        if not headed and "fc_norm.weight" not in weights
        else "linear"
        if frozen
        else "fine-tuned"
    )
    if decoder:
        form = "pre-training, with the decoder"
    elif probed:
        form = "linear probe on a frozen encoder"
    elif "fc_norm.weight" in weights:
        form = "fine-tuned on the mean of the patches (fc_norm in place of the final norm)"
    else:
        form = "encoder with a classifier" if headed else "encoder only"
    if "optimizer" in contents.rest:
        form += ", a training file"
    return Claim(
        method=TITLE,
        form=form,
        signs=tuple(signs),
        branches={"it": trunk},
        taken=None,
        objective="mae",
        family="REC",
        tuned=tuned,
        drops=(
            (r"decoder_.*", "the reconstruction decoder"),
            (r"mask_token", MASK),
            (r"fc_norm\..*", AFTER_POOLING),
            (r"head\..*", CLASSIFIER),
        ),
        strict=decoder is not None,  # others too have fixed positions
        certain=decoder is not None,
    )
