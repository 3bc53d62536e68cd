"""A tap's output as vectors: a choice of its tokens, or their means."""

from jaxtyping import Float
from torch import Tensor

from sslens.models.backbone import Backbone
from sslens.models.taps import Tap


def choose_tokens(
    output: Float[Tensor, "image ..."], prefix: int | None, tokens: str
) -> Tensor | None:
    """Return all tokens, the CLS token or the patch tokens of a tap's output; None where the output
    has no such tokens.

    Args:
        output: the output of a tap.
        prefix: the number of tokens before the patches; None where outputs are not tokens or there
            is no CLS.
        tokens: "all", "cls" or "patch".
    """
    if tokens == "all":
        return output
    if output.ndim != 3 or not prefix:
        return None
    return output[:, 0] if tokens == "cls" else output[:, prefix:]


def pool_tap(
    model: Backbone, tap: Tap, output: Float[Tensor, "image ..."]
) -> dict[str, Float[Tensor, "image dim"]]:
    """Pool the output of a model's tap as `pool` does.

    >>> import sslens, torch
    >>> model = sslens.load("random:vit_nano_patch8_32")
    >>> list(pool_tap(model, model.taps["norm"], torch.zeros(2, 17, 64)))
    ['cls', 'mean', 'patch']
    """
    return pool(output, model.prefix, channels_last=model.has_channels_last(tap))


def pool(
    output: Float[Tensor, "image ..."], prefix: int | None, *, channels_last: bool = False
) -> dict[str, Float[Tensor, "image dim"]]:
    """Pool a tap's output into one vector for each image, by every pooling that the output has.

    The poolings are "cls", "mean" (of all tokens, or of all places of a map), "patch" (the mean of
    the patch tokens), and "flat" (other outputs, flattened).

    Args:
        output: the output of a tap.
        prefix: as of `choose_tokens`.
        channels_last: whether a map is [image, row, column, channel] and not [image, channel, row,
            column].

    >>> import torch
    >>> {k: v.tolist() for k, v in pool(torch.tensor([[[1.0], [3.0], [8.0]]]), prefix=1).items()}
    {'cls': [[1.0]], 'mean': [[4.0]], 'patch': [[5.5]]}
    """
    if output.ndim == 4:
        return {"mean": output.mean((1, 2) if channels_last else (2, 3))}
    if output.ndim != 3:
        return {"flat": output.flatten(1)}
    poolings = {"mean": output.mean(1)}
    if prefix:
        poolings = {"cls": output[:, 0], **poolings, "patch": output[:, prefix:].mean(1)}
    return poolings
