"""ConvNeXts and ConvNeXt-V2s in the authors' names: `downsample_layers`, `dwconv`, `pwconv1`;
dense, or as sparse convolutions are trained (`.kernel`, `.linear.`, `.ln.`)."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from sslens.zoo.claim import AFTER_POOLING, CLASSIFIER, Drops, Piece
from sslens.zoo.renaming import Rules, flatten

TITLE = "a ConvNeXt in the authors' names"
ANCHORS = ("downsample_layers.0.0.weight", "stages.0.0.dwconv.", "stages.3.0.pwconv1.")
DROPS: Drops = (
    (r"norms?\..*", AFTER_POOLING),
    (r"head\..*", CLASSIFIER),
)
RULES: Rules = (
    (r"^downsample_layers\.0\.(\d)\.", r"stem.\1."),
    (r"^downsample_layers\.(\d)\.(\d)\.", r"stages.\1.downsample.\2."),
    (r"^stages\.(\d)\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"\.dwconv\.", ".conv_dw."),
    (r"\.pwconv([12])\.", r".mlp.fc\1."),
    (r"\.grn\.gamma$", ".mlp.grn.weight"),
    (r"\.grn\.beta$", ".mlp.grn.bias"),
    (r"\.(ln|linear)\.(weight|bias)$", r".\2"),
)
_KERNEL = ".kernel"


def make_dense(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Make a sparse convolution's kernel a dense one.

    A sparse kernel is [place, in, out], or [place, channel] in a depthwise convolution. Its places
    run through the columns first: W[o, i, y, x] = kernel[x · k + y, i, o].

    >>> import numpy as np
    >>> from sslens.zoo.arrays import Array
    >>> kernel = Array(np.arange(4.0)[:, None], "float64")
    >>> # of one channel: (0, 0), (1, 0), (0, 1), (1, 1) as (y, x)
    >>> next(make_dense([Piece("a.kernel", kernel, ("a",))])).value.values[0, 0].tolist()
    [[0.0, 2.0], [1.0, 3.0]]
    """
    for piece in pieces:
        if not piece.into.endswith(_KERNEL):
            yield piece
            continue
        kernel = piece.value
        side = round(kernel.shape[0] ** 0.5)
        if kernel.ndim == 2:
            kernel = kernel[:, None]
        dense = kernel.reshape(side, side, *kernel.shape[1:]).transpose(3, 2, 1, 0)
        into = piece.into.replace(_KERNEL, ".weight")
        yield replace(piece, into=into, value=dense, done="sparse kernel to dense")


STEPS = (make_dense, flatten(r"\.bias$|\.grn\."))
