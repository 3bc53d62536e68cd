"""FCMAE (ConvNeXt-V2; Woo et al., 2023): dense files, files trained with sparse convolutions, and
fine-tuned ones."""

from sslens.zoo.claim import MASK, Claim
from sslens.zoo.files import Contents
from sslens.zoo.trunks import find_trunks, name_trunks

TITLE = "FCMAE"


def claim(contents: Contents) -> Claim | None:
    """Claim a ConvNeXt-V2 in the authors' names: `downsample_layers`, `dwconv`, `pwconv1`,
    `grn.gamma`.

    A file of the pre-training has the network under `encoder.`, in the names of its sparse layers
    (`.kernel`, `.linear.`, `.ln.`), with a decoder beside it. The released files are dense and have
    only the network. Files of the fine-tuning have `model` and its moving average `model_ema`; the
    authors' evaluation takes `model`.
    """
    trunks = [trunk for trunk in find_trunks(contents.states) if trunk.naming == "convnext"]
    if not trunks:
        return None
    weights = trunks[0].weights(contents.states)
    if not any(name.endswith("grn.gamma") for name in weights):
        return None  # the first version: the layout `convnext`
    sparse = any(name.endswith(".kernel") for name in weights)
    headed = "head.weight" in weights
    decoder = any(name.startswith("decoder.") for name in contents.states[trunks[0].state])
    form = ("sparse-trained" if sparse else "dense") + (
        ", fine-tuned with a classifier" if headed else ""
    )
    form += (", with the decoder" if decoder else "") + (
        ", a training file" if "optimizer" in contents.rest else ""
    )
    branches = name_trunks(trunks)
    return Claim(
        method=TITLE,
        form=form,
        signs=("its layers have ConvNeXt-V2's names (downsample_layers, dwconv, grn.gamma)",)
        + (("convolutions are stored as .kernel of sparse layers",) if sparse else ()),
        branches=branches,
        taken=(
            "model" if "model" in branches else next(iter(branches)) if len(branches) == 1 else None
        ),
        objective="fcmae",
        family="REC",
        tuned="fine-tuned" if headed else False,
        drops=(
            (r"decoder\..*", "the reconstruction decoder"),
            (r"(proj|pred)\..*", "the reconstruction decoder"),
            (r"mask_token", MASK),
        ),
        beside=((r"(decoder|proj|pred)\..*", "the reconstruction decoder"), (r"mask_token", MASK)),
    )
