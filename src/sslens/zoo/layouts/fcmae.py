"""FCMAE (ConvNeXt-V2; Woo et al., 2023): dense files, files trained with sparse convolutions, and
fine-tuned ones."""

import re
from collections.abc import Iterator

from sslens.errors import InputError
from sslens.zoo.arrays import Array
from sslens.zoo.claim import AFTER_POOLING, CLASSIFIER, MASK, Claim, Piece, Weights
from sslens.zoo.files import Contents
from sslens.zoo.trunks import find_trunks, name_trunks

TITLE = "FCMAE"
_RENAMED = (
    (r"downsample_layers\.0\.(\d)\.", r"stem.\1."),
    (r"downsample_layers\.(\d)\.(\d)\.", r"stages.\1.downsample.\2."),
    (r"stages\.(\d)\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"\.dwconv\.", ".conv_dw."),
    (r"\.pwconv([12])\.", r".mlp.fc\1."),
    (r"\.grn\.gamma$", ".mlp.grn.weight"),
    (r"\.grn\.beta$", ".mlp.grn.bias"),
    (r"\.(ln|linear)\.(weight|bias)$", r".\2"),
    (r"\.kernel$", ".weight"),
)


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
        raise InputError(
            f"{contents.path} holds a ConvNeXt of the first version (no grn.gamma): only"
            " ConvNeXt-V2 has taps here."
        )
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
            (r"norm\..*", AFTER_POOLING),
            (r"head\..*", CLASSIFIER),
            (r"decoder\..*", "the reconstruction decoder"),
            (r"(proj|pred)\..*", "the reconstruction decoder"),
            (r"mask_token", MASK),
        ),
        beside=((r"(decoder|proj|pred)\..*", "the reconstruction decoder"), (r"mask_token", MASK)),
        convert=convert_weights,
    )


def convert_weights(weights: Weights) -> Iterator[Piece]:
    """Convert weights to timm's names and to dense shapes.

    A sparse kernel is [place, in, out], or [place, channel] in a depthwise convolution. Its places
    run through the columns first: W[o, i, y, x] = kernel[x · k + y, i, o].
    """
    for name, value in weights.items():
        into = name
        for pattern, replacement in _RENAMED:
            into = re.sub(pattern, replacement, into)
        dense, done = value, ""
        if name.endswith(".kernel"):
            dense, done = _densify(value), "sparse kernel to dense"
        elif value.ndim > 1 and (into.endswith(".bias") or ".grn." in into):
            dense, done = value.reshape(-1), "to one dimension"
        yield Piece(into, dense, (name,), done)


def _densify(kernel: Array) -> Array:
    """The weight of a convolution from a sparse one's kernel.

    >>> import numpy as np
    >>> kernel = Array(np.arange(4.0)[:, None], "float64")
    >>> # of one channel: (0, 0), (1, 0), (0, 1), (1, 1) as (y, x)
    >>> _densify(kernel).values[0, 0].tolist()
    [[0.0, 2.0], [1.0, 3.0]]
    """
    side = round(kernel.shape[0] ** 0.5)
    if kernel.ndim == 2:
        kernel = kernel[:, None]
    return kernel.reshape(side, side, *kernel.shape[1:]).transpose(3, 2, 1, 0)
