"""Rotary positions of CAPI (Darcet et al., 2025): registers lie on the border of the image, and
turn as its patches do."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn


@final
class EdgeRotation(nn.Module):
    """Rotary positions of registers and patches, in the form that timm's attention takes.

    Rows and columns of patches lie evenly from 0 to 1, and a quarter of the registers on each side
    of this square, in turn. A token at the place p, with the frequencies F of the file, [2, width],
    turns the vector x of a head to

        x cos(p F) + y sin(p F),   y = (−x_{w/2}, …, −x_{w−1}, x_0, …, x_{w/2−1}).

    Args:
        width: of a head.
        grid: rows and columns of the patches.
        registers: the number of tokens before the patches, four or a multiple of it.

    >>> rotation = EdgeRotation(2, (2, 2), 4)
    >>> rotation.find_places().tolist()
    [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    >>> rotation.freqs = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    >>> [round(v, 3) for v in rotation.get_embed()[5].tolist()]  # of the second patch
    [0.841, 0.841, 0.54, 0.54]
    """

    freqs: Tensor

    def __init__(self, width: int, grid: tuple[int, int], registers: int) -> None:
        super().__init__()
        self.feat_shape = list(grid)
        self.registers = registers
        self.register_buffer("freqs", torch.zeros(2, width))

    def extra_repr(self) -> str:
        """The settings, which count in a model's digest."""
        return f"grid={self.feat_shape}, registers={self.registers}"

    def update_feat_shape(self, feat_shape: list[int] | tuple[int, int]) -> None:
        """Take another number of rows and columns."""
        self.feat_shape = list(feat_shape)

    def find_places(self) -> Float[Tensor, "token 2"]:
        """Return the place of each register, then of each patch, by row and column."""
        rows, columns = self.feat_shape
        at = self.freqs.device
        patches = torch.cartesian_prod(
            torch.linspace(0, 1, rows, device=at), torch.linspace(0, 1, columns, device=at)
        )
        side = self.registers // 4
        along = torch.arange(side, device=at) / max(side, 1)
        zeros, ones = torch.zeros(side, device=at), torch.ones(side, device=at)
        edges = ((along, zeros), (ones, along), (1 - along, ones), (zeros, 1 - along))
        border = torch.cat([torch.stack(edge, 1) for edge in edges])
        low, high = patches.min(0).values, patches.max(0).values  # of one row, all lie at 0
        return torch.cat([low + border * (high - low), patches])

    def get_embed(self, shape: list[int] | None = None) -> Float[Tensor, "token both"]:
        """Return the sines and then the cosines of every token.

        Args:
            shape: rows and columns, which are those of the table.
        """
        assert shape is None or list(shape) == self.feat_shape
        angles = self.find_places().to(self.freqs.dtype) @ self.freqs
        return torch.cat([angles.sin(), angles.cos()], 1)
