"""A tap's output as vectors: a choice of its tokens, or their means."""

from jaxtyping import Float
from torch import Tensor


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


def pool(
    output: Float[Tensor, "image ..."], prefix: int | None
) -> dict[str, Float[Tensor, "image dim"]]:
    """Pool a tap's output into one vector for each image, by every pooling that the output has.

    The poolings are "cls", "mean" (of all tokens, or of all places of a map), "patch" (the mean of
    the patch tokens), and "flat" (other outputs, flattened).

    >>> import torch
    >>> {k: v.tolist() for k, v in pool(torch.tensor([[[1.0], [3.0], [8.0]]]), prefix=1).items()}
    {'cls': [[1.0]], 'mean': [[4.0]], 'patch': [[5.5]]}
    """
    if output.ndim == 4:
        return {"mean": output.mean((2, 3))}
    if output.ndim != 3:
        return {"flat": output.flatten(1)}
    poolings = {"mean": output.mean(1)}
    if prefix:
        poolings = {"cls": output[:, 0], **poolings, "patch": output[:, prefix:].mean(1)}
    return poolings
