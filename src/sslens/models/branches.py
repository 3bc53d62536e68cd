"""Stochastic depth: residual branches are dropped at random for each image, by noise that the
caller gives."""

from collections.abc import Iterator
from typing import final

from jaxtyping import Float
from torch import Tensor, nn

#: what timm calls the places of a block's branches
_PLACES = ("drop_path1", "drop_path2", "drop_path")


@final
class Branch(nn.Module):
    """A module in the place of timm's `DropPath`: in training it multiplies each image's branch by
    a factor of that image.

    Without factors, and in evaluation, it changes nothing.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.factors: Tensor | None = None

    def forward(self, x: Float[Tensor, "image ..."]) -> Float[Tensor, "image ..."]:
        """Multiply each image's branch by its factor."""
        if self.factors is None or not self.training:
            return x
        return x * self.factors.to(x.dtype).view(-1, *[1] * (x.ndim - 1))


def drop_branches(network: nn.Module, drop_path: float) -> list[Branch]:
    """Put a `Branch` in place of each `DropPath` of a network of timm's, and return the branches in
    the order of computation.

    The rate rises linearly from 0 in the first block to `drop_path` in the last (Huang et al.,
    2016, arXiv:1603.09382); both branches of a block have the block's rate. State dicts stay as
    they are.

    >>> from sslens.models.vit import ViTArch
    >>> network = ViTArch.parse("vit_nano_patch8_32").build()
    >>> [round(branch.rate, 2) for branch in drop_branches(network, 0.3)]
    [0.0, 0.0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3]
    """
    found = list(_list_places(network))
    last = max(1, found[-1][0]) if found else 1
    branches = []
    for number, block, place in found:
        branches.append(Branch(drop_path * number / last))
        setattr(block, place, branches[-1])
    return branches


def count_branches(network: nn.Module) -> int:
    """Count the branches that `drop_branches` would put into a network.

    >>> from sslens.models.cnn import CNNArch
    >>> count_branches(CNNArch.parse("resnet18").build())
    8
    """
    return len(list(_list_places(network)))


def _list_places(network: nn.Module) -> Iterator[tuple[int, nn.Module, str]]:
    """List each branch by the number of its block, the block, and the name of its place in it."""
    blocks = [
        module for module in network.modules() if any(hasattr(module, place) for place in _PLACES)
    ]
    for number, block in enumerate(blocks):
        yield from ((number, block, place) for place in _PLACES if hasattr(block, place))


def set_factors(branches: list[Branch], noise: Float[Tensor, "image branch"] | None) -> None:
    """Set the factors of branches from noise, until the next call; None sets no factors.

    A branch with rate p has the factor 0 where its noise is below p, else 1 / (1 − p).

    Args:
        branches: the branches that `drop_branches` returned.
        noise: uniform in [0, 1), one value for each image and branch.

    >>> import torch
    >>> branch = Branch(0.2)
    >>> set_factors([branch], torch.tensor([[0.1], [0.3]]))
    >>> branch(torch.ones(2, 1)).flatten().tolist()
    [0.0, 1.25]
    """
    for number, branch in enumerate(branches):
        branch.factors = (
            None if noise is None else (noise[:, number] >= branch.rate) / (1 - branch.rate)
        )
