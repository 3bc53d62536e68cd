"""What is told of a network that the shapes of its weights do not tell: by a file beside it, by its
method, or by the user."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from torch import nn

#: activation functions of the MLPs by the names that Hugging Face's files have, as timm calls them
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "silu": "silu",
    "swish": "silu",
}


@final
@dataclass(frozen=True)
class Hints:
    """What is told of a network; None where nothing tells it.

    Attributes:
        heads: the number of attention heads.
        eps: what normalisations add to the variance.
        activation: the function in the MLPs: "gelu", "gelu_tanh", "quick_gelu" or "silu".
        image_size: the side in pixels of the images, for a network without a table of positions.
        width, blocks: the width of a transformer and the number of its blocks.

    >>> Hints(heads=12).over(Hints(heads=6, eps=1e-12))
    Hints(heads=12, eps=1e-12, activation=None, image_size=None, width=None, blocks=None)
    """

    heads: int | None = None
    eps: float | None = None
    activation: str | None = None
    image_size: int | None = None
    width: int | None = None
    blocks: int | None = None

    def over(self, other: "Hints") -> "Hints":
        """Return these hints, completed by those of `other`."""
        values = {}
        for entry in fields(self):
            own = getattr(self, entry.name)
            values[entry.name] = getattr(other, entry.name) if own is None else own
        return Hints(**values)


#: where nothing is told
NONE = Hints()


def read_hints(network: "nn.Module") -> tuple[int | None, Hints]:
    """Return the number of heads of a network, and what else it tells that its weights do not."""
    blocks = getattr(network, "blocks", None)
    if not blocks:
        return None, Hints()
    block = blocks[0]
    activation = getattr(getattr(block, "mlp", None), "act", None)
    named = {"QuickGELU": "quick_gelu", "GELUTanh": "gelu_tanh"}.get(type(activation).__name__)
    size = getattr(getattr(network, "patch_embed", None), "img_size", None)
    return getattr(getattr(block, "attn", None), "num_heads", None), Hints(
        eps=getattr(getattr(block, "norm1", None), "eps", None),
        activation=named or "gelu",
        image_size=size[0] if size else None,
    )
