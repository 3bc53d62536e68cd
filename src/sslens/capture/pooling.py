"""A tap's output as vectors: a choice of its tokens, or their means."""

from collections.abc import Collection

from jaxtyping import Float
from torch import Tensor

from sslens.models.backbone import Backbone
from sslens.models.outputs import Output
from sslens.models.taps import Tap

#: the poolings of `pool`, the usual one of a model without a classifier first
POOLINGS = ("cls", "mean", "patch", "flat")


def choose_pooling(there: Collection[str], read: str | None) -> str:
    """Choose the usual pooling of a model: the one that its own classifier read, else the first of
    `POOLINGS`, which is the CLS token where there is one, else the mean, and "flat" of raw pixels.

    Args:
        there: the poolings that there are.
        read: the pooling that the model's classifier read; None where it is not known.

    >>> choose_pooling(("cls", "mean", "patch"), None), choose_pooling(("cls", "patch"), "patch")
    ('cls', 'patch')
    >>> choose_pooling(("mean",), "patch")  # of a CNN, the mean over places
    'mean'
    """
    if read is not None and read in there:
        return read
    return next(pooling for pooling in POOLINGS if pooling in there)


def choose_tokens(output: Float[Tensor, "image ..."], how: Output, tokens: str) -> Tensor | None:
    """Return all tokens, the CLS token or the patch tokens of a tap's output; None where the output
    has no such tokens.

    Args:
        output: the output of a tap.
        how: how it is read.
        tokens: "all", "cls" or "patch"; all but those before the patches.

    >>> import torch
    >>> two = torch.tensor([[[1.0], [2.0], [3.0]]])
    >>> choose_tokens(two, Output(before=2), "patch").flatten().tolist()
    [3.0]
    """
    if tokens == "all":
        return output
    if output.ndim != 3 or (tokens == "cls" and not how.cls):
        return None
    return output[:, 0] if tokens == "cls" else output[:, how.before :]


def pool_tap(
    model: Backbone, tap: Tap, output: Float[Tensor, "image ..."]
) -> dict[str, Float[Tensor, "image dim"]]:
    """Pool the output of a model's tap as `pool` does.

    >>> import sslens, torch
    >>> model = sslens.load("random:vit_nano_patch8_32")
    >>> list(pool_tap(model, model.taps["norm"], torch.zeros(2, 17, 64)))
    ['cls', 'mean', 'patch']
    """
    return pool(output, model.output_of(tap))


def pool(output: Float[Tensor, "image ..."], how: Output) -> dict[str, Float[Tensor, "image dim"]]:
    """Pool a tap's output into one vector for each image, by every pooling that the output has.

    The poolings are "cls", "mean" (of all tokens, or of all places of a map), "patch" (the mean of
    the tokens after those before the patches, where there are such), and "flat" (other outputs,
    flattened).

    Args:
        output: the output of a tap.
        how: how it is read.

    >>> import torch
    >>> tokens = torch.tensor([[[1.0], [3.0], [8.0]]])
    >>> {k: v.tolist() for k, v in pool(tokens, Output(before=1, cls=True)).items()}
    {'cls': [[1.0]], 'mean': [[4.0]], 'patch': [[5.5]]}
    >>> list(pool(tokens, Output(before=1))), list(pool(tokens, Output()))
    (['mean', 'patch'], ['mean'])
    """
    if output.ndim == 4:
        return {"mean": output.mean((1, 2) if how.channels_last else (2, 3))}
    if output.ndim != 3:
        return {"flat": output.flatten(1)}
    cls = {"cls": output[:, 0]} if how.cls else {}
    patch = {"patch": output[:, how.before :].mean(1)} if how.before else {}
    return cls | {"mean": output.mean(1)} | patch
