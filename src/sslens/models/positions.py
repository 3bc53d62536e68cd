"""Fixed positions of patches."""

import torch
from jaxtyping import Float
from torch import Tensor

from sslens.errors import InputError


def make_sincos_positions(
    dim: int, grid: int, *, transposed: bool = False
) -> Float[Tensor, "1 token {dim}"]:
    """Fixed two-dimensional sin-cos positions, a zero row for CLS first (MAE; Vaswani et al., 2017,
    in each direction).

    With ω_i = 10000^(−4i/dim), i < dim/4, a patch at column x and row y has [sin xω, cos xω, sin
    yω, cos yω]. `transposed` exchanges x and y, which is MoCo-v3's table.

    >>> table = make_sincos_positions(8, 2)
    >>> [round(v, 3) for v in table[0, 2].tolist()]  # x = 1, y = 0, ω = 1, 0.01
    [0.841, 0.01, 0.54, 1.0, 0.0, 0.0, 1.0, 1.0]
    """
    if dim % 4:
        raise InputError(f"Sin-cos positions need a width that is a multiple of 4, got {dim}.")
    omega = 10000.0 ** (-torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
    y, x = torch.meshgrid(*(torch.arange(grid, dtype=torch.float64),) * 2, indexing="ij")
    first, second = (y, x) if transposed else (x, y)
    angles = [place.reshape(-1, 1) * omega for place in (first, second)]
    table = torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)
    return torch.cat([torch.zeros(1, dim, dtype=torch.float64), table]).float()[None]
