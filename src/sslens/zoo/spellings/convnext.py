"""ConvNeXts and ConvNeXt-V2s in the authors' names: `downsample_layers`, `dwconv`, `pwconv1`;
dense, or as sparse convolutions are trained (`.kernel`, `.linear.`, `.ln.`)."""

import re
from collections.abc import Iterator

from sslens.zoo.arrays import Array
from sslens.zoo.claim import AFTER_POOLING, CLASSIFIER, Drops, Piece, Weights

TITLE = "a ConvNeXt in the authors' names"
ANCHORS = ("downsample_layers.0.0.weight", "stages.0.0.dwconv.", "stages.3.0.pwconv1.")
DROPS: Drops = (
    (r"norms?\..*", AFTER_POOLING),
    (r"head\..*", CLASSIFIER),
)
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


def convert(weights: Weights) -> Iterator[Piece]:
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
