"""Residual branches that are dropped at random by image: stochastic depth, of which all that is
random is given."""

from collections.abc import Iterator
from typing import final

from jaxtyping import Float
from torch import Tensor, nn

#: what timm calls the places of a block's branches
_PLACES = ("drop_path1", "drop_path2", "drop_path")


@final
class Branch(nn.Module):
    """A place of timm's `DropPath`: each image's branch is multiplied with that image's factor, in
    training alone."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.factors: Tensor | None = None

    def forward(self, x: Float[Tensor, "image ..."]) -> Float[Tensor, "image ..."]:
        """The branch as it is added."""
        if self.factors is None or not self.training:
            return x
        return x * self.factors.to(x.dtype).view(-1, *[1] * (x.ndim - 1))


def drop_branches(network: nn.Module, drop_path: float) -> list[Branch]:
    """Put a `Branch` where a network of timm's drops paths, in place; returns them in the order of
    computation.

    The rate rises linearly from 0 in the first block to `drop_path` in the last (Huang et al.,
    2016, arXiv:1603.09382); where a block has two branches both have its rate. State dicts stay as
    they are.

    >>> from sslens.models.vit import ViTArch
    >>> network = ViTArch.parse("vit_nano_patch8_32").build()
    >>> [round(branch.rate, 2) for branch in drop_branches(network, 0.3)]
    [0.0, 0.0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3]
    """
    found = list(_places(network))
    last = max(1, found[-1][0]) if found else 1
    branches = []
    for number, block, place in found:
        branches.append(Branch(drop_path * number / last))
        setattr(block, place, branches[-1])
    return branches


def count_branches(network: nn.Module) -> int:
    """How many branches `drop_branches` would find.

    >>> from sslens.models.cnn import CNNArch
    >>> count_branches(CNNArch.parse("resnet18").build())
    8
    """
    return len(list(_places(network)))


def _places(network: nn.Module) -> Iterator[tuple[int, nn.Module, str]]:
    """The number of a block, the block, and the name of a branch's place in it."""
    blocks = [
        module for module in network.modules() if any(hasattr(module, place) for place in _PLACES)
    ]
    for number, block in enumerate(blocks):
        yield from ((number, block, place) for place in _PLACES if hasattr(block, place))


def set_factors(branches: list[Branch], noise: Float[Tensor, "image branch"] | None) -> None:
    """Drop what a noise, uniform in [0, 1), says until it is set again: factor 0 where it is below
    the rate p, else 1 / (1 − p).

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
