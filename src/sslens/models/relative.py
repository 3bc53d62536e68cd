"""Attention with relative positions, over all patches of an image or inside windows."""

from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.layers import Attention
from torch import Tensor, nn


@final
class WindowAttention(nn.Module):
    """Self-attention of patches with relative positions, by windows or over the whole image (Li et
    al., 2022, arXiv:2203.16527, section 3 and appendix A.2, from MViTv2, arXiv:2112.01526).

    softmax_k(q·k / sqrt(d) + q·R_row[y_q − y_k] + q·R_column[x_q − x_k]) v for the patches k of the
    same window, with d the width of a head, and the rows R of two tables that all heads share and
    that begin at zero.

    A table for n rows has 2n − 1 entries; for another number of rows it is resampled linearly
    (half-pixel centres, without antialiasing). Where windows do not divide the grid, the grid is
    padded below and on the right with tokens that are zero before the attention, as in detectron2:
    queries see their keys, which are the bias of the keys, and their values.

    Differences from detectron2's Attention: tokens are [image, token, dim] and not [image, row,
    column, dim]; queries, keys and values of padding are the bias itself, and are not computed; the
    normalisations of queries and keys that some ViTs have are kept.

    Args:
        attention: the attention to take over; its parts are used, not copied.
        window: the side of a window in patches; 0 for the whole image.
        grid: the rows and columns of the image for which the tables are made, where `window` is 0.
        relative: whether there are relative positions.

    >>> attention = WindowAttention(Attention(8, num_heads=2), window=2, grid=(4, 4), relative=True)
    >>> [(name, tuple(value.shape)) for name, value in attention.state_dict().items()][:2]
    [('rel_pos_h', (3, 4)), ('rel_pos_w', (3, 4))]
    >>> attention(torch.zeros(1, 15, 8), (3, 5)).shape
    torch.Size([1, 15, 8])
    """

    def __init__(
        self, attention: Attention, *, window: int, grid: tuple[int, int], relative: bool
    ) -> None:
        super().__init__()
        self.num_heads, self.scale = attention.num_heads, attention.scale
        self.fused_attn = attention.fused_attn
        self.window, self.relative = window, relative
        self.qkv, self.proj = attention.qkv, attention.proj
        self.q_norm, self.k_norm, self.norm = attention.q_norm, attention.k_norm, attention.norm
        if relative:
            rows, columns = (window, window) if window else grid
            like = self.qkv.weight.new_zeros
            self.rel_pos_h = nn.Parameter(like(2 * rows - 1, attention.head_dim))
            self.rel_pos_w = nn.Parameter(like(2 * columns - 1, attention.head_dim))

    def extra_repr(self) -> str:
        """What tells two of them apart beside their weights."""
        return f"window={self.window}"

    def forward(
        self, x: Float[Tensor, "image token dim"], grid: tuple[int, int]
    ) -> Float[Tensor, "image token dim"]:
        """Attend; the tokens are the patches of an image row by row, and `grid` is the number of
        rows and columns."""
        qkv = self.qkv(x).unflatten(1, grid)
        if self.window:
            qkv = split_windows(pad_grid(qkv, self.window, self.qkv.bias), self.window)
        rows, columns = qkv.shape[1:3]
        heads = qkv.flatten(1, 2).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
        query, key = self.q_norm(query), self.k_norm(key)
        out = self._attend(query, key, value, (rows, columns)).transpose(1, 2).flatten(2)
        if self.window:
            out = join_windows(out.unflatten(1, (rows, columns)), grid).flatten(1, 2)
        attended: Tensor = self.proj(self.norm(out))
        return attended

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, grid: tuple[int, int]) -> Tensor:
        """softmax(logits) value, [window, head, token, head_dim].

        The logits are one product of longer queries and keys: q' = [q / sqrt(d), q·R_row, q·R_col]
        and k' = [k, one-hot row of k, one-hot column of k]. So the fused kernel, which takes no
        logits, can be used, and no sum over pairs of tokens is made in memory.
        """
        dim = value.shape[-1]
        longer = query * self.scale
        if self.relative:
            longer = torch.cat([longer, *self._relative(query, grid)], dim=-1)
            places = one_hot_places(grid, key).expand(*key.shape[:2], -1, -1)
            key = torch.cat([key, places], dim=-1)
        if not self.fused_attn:
            return (longer @ key.transpose(-2, -1)).softmax(dim=-1) @ value
        padded = F.pad(value, (0, key.shape[-1] - dim))  # the kernel wants one width for all three
        return F.scaled_dot_product_attention(longer, key, padded, scale=1.0)[..., :dim]

    def _relative(self, query: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """q·R_row for each row of keys, and q·R_column for each column."""
        places = query.unflatten(2, grid)
        by_row, by_column = (
            spread_table(table, count).to(query.dtype)
            for table, count in zip((self.rel_pos_h, self.rel_pos_w), grid, strict=True)
        )
        rows = torch.einsum("bnyxd,ykd->bnyxk", places, by_row)
        columns = torch.einsum("bnyxd,xkd->bnyxk", places, by_column)
        return rows.flatten(2, 3), columns.flatten(2, 3)


def spread_table(
    table: Float[Tensor, "entry dim"], count: int
) -> Float[Tensor, "{count} {count} dim"]:
    """Return the entry of each pair of a query's and a key's place along one axis of `count`
    places: `table[query − key + count − 1]`, after resampling to 2 · count − 1 entries.

    >>> spread_table(torch.tensor([[-1.0], [0.0], [1.0]]), 2)[..., 0]
    tensor([[ 0., -1.],
            [ 1.,  0.]])
    >>> spread_table(torch.tensor([[0.0], [3.0], [6.0]]), 3)[:, 0, 0]  # of 0, 1.2, 3, 4.8, 6
    tensor([3.0000, 4.8000, 6.0000])
    """
    entries = 2 * count - 1
    if len(table) != entries:
        table = F.interpolate(table.T[None], size=entries, mode="linear")[0].T
    place = torch.arange(count, device=table.device)
    return table[place[:, None] - place + count - 1]


def one_hot_places(grid: tuple[int, int], like: Tensor) -> Float[Tensor, "token rows_and_columns"]:
    """Return the one-hot row and the one-hot column of each place of a grid, side by side, of the
    type and on the device of `like`.

    >>> one_hot_places((2, 1), torch.zeros(1))
    tensor([[1., 0., 1.],
            [0., 1., 1.]])
    """
    rows, columns = (torch.eye(count, dtype=like.dtype, device=like.device) for count in grid)
    return torch.cat([rows.repeat_interleave(grid[1], dim=0), columns.repeat(grid[0], 1)], dim=1)


def pad_grid(
    x: Float[Tensor, "image row column dim"], window: int, fill: Float[Tensor, " dim"] | None
) -> Float[Tensor, "image padded_row padded_column dim"]:
    """Pad a grid below and on the right to a multiple of the window, with `fill` at each new place;
    None stands for zero.

    >>> pad_grid(torch.ones(1, 1, 1, 1), 2, torch.tensor([5.0]))[0, :, :, 0]
    tensor([[1., 5.],
            [5., 5.]])
    """
    below, right = (-side % window for side in x.shape[1:3])
    if not (below or right):
        return x
    if fill is None:
        return F.pad(x, (0, 0, 0, right, 0, below))
    images, rows, columns, _ = x.shape
    fill = fill.to(x.dtype)
    x = torch.cat([x, fill.expand(images, rows, right, -1)], dim=2)
    return torch.cat([x, fill.expand(images, below, columns + right, -1)], dim=1)


def split_windows(
    x: Float[Tensor, "image row column dim"], window: int
) -> Float[Tensor, "part {window} {window} dim"]:
    """Cut a grid into windows that do not overlap, row by row of windows, image by image."""
    parts = x.unflatten(2, (-1, window)).unflatten(1, (-1, window))
    return parts.transpose(2, 3).flatten(0, 2)


def join_windows(
    parts: Float[Tensor, "part window window dim"], grid: tuple[int, int]
) -> Float[Tensor, "image row column dim"]:
    """Join the windows of `split_windows` to grids of these rows and columns, without padding.

    >>> x = torch.arange(24.0).view(1, 6, 4, 1)
    >>> bool((join_windows(split_windows(x, 2), (6, 4)) == x).all())
    True
    """
    window = parts.shape[1]
    down, across = (-(-side // window) for side in grid)
    x = parts.unflatten(0, (-1, down, across)).transpose(2, 3)
    return x.flatten(3, 4).flatten(1, 2)[:, : grid[0], : grid[1]]
