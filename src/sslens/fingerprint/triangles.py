"""Grams as their upper triangles, in float32, or in float16 with a scale a tap and an offset a
minibatch."""

import itertools
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float16, Float32, Float64, Int64
from torch import Tensor


def values(sizes: Sequence[int]) -> int:
    """Count the values in the upper triangles, diagonals included, of Grams of these sizes.

    >>> values([32] * 32)
    16896
    """
    return sum(n * (n + 1) // 2 for n in sizes)


def pack(
    grams: Float32[Tensor, "tap batch n n"], sizes: Sequence[int]
) -> Float32[Tensor, "tap value"]:
    """Take the upper triangles of Grams with their diagonals, row by row, one minibatch after the
    other, without the padding.

    A Gram is symmetric except for the rounding of a matrix product (1e-7 of its largest value), so
    its lower triangle is not kept.

    >>> pack(torch.tensor([[[[1.0, 2.0], [2.0, 3.0]], [[4.0, 0.0], [0.0, 0.0]]]]), [2, 1])
    tensor([[1., 2., 3., 4.]])
    """
    parts = []
    for first, count, n in _runs(sizes):
        row, column = torch.triu_indices(n, n)
        parts.append(grams[:, first : first + count, row, column].flatten(1))
    return torch.cat(parts, dim=1)


def unpack(
    triangles: Float32[Tensor, "tap value"], sizes: Sequence[int]
) -> Float32[Tensor, "tap batch n n"]:
    """Restore whole Grams from upper triangles; a minibatch shorter than the longest is padded with
    zeros.

    >>> unpack(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), [2, 1])
    tensor([[[[1., 2.],
              [2., 3.]],
    <BLANKLINE>
             [[4., 0.],
              [0., 0.]]]])
    """
    longest, taken = max(sizes), 0
    parts = []
    for _, count, n in _runs(sizes):
        width = n * (n + 1) // 2
        part = triangles[:, taken : taken + count * width].reshape(-1, width)
        whole = part.index_select(1, _places(n)).view(
            -1, count, n, n
        )  # of three dimensions it takes 60 times as long
        parts.append(
            torch.nn.functional.pad(whole, (0, longest - n, 0, longest - n))
            if n < longest
            else whole
        )
        taken += count * width
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def halve(
    triangles: Float32[Tensor, "tap value"], sizes: Sequence[int]
) -> tuple[Float16[Tensor, "tap value"], Float64[Tensor, " tap"], Float64[Tensor, "tap batch"]]:
    """Convert triangles to float16, with a scale for each tap and an offset for each minibatch; a
    value is read as half · scale + offset.

    The offset is the mean over pairs of different images of a minibatch. Unbiased CKA does not
    depend on it. But for features in many directions it can be ten times as large as the values
    that CKA depends on, and would use up float16's digits.

    The scale is the power of two that brings a tap's largest distance from the offset into [2¹⁴,
    2¹⁵). So nothing can overflow (float16 ends at 65,504), the scaling itself rounds nothing, and
    every distance down to 2⁻²⁹ of the largest keeps 11 significant bits, a relative error of 2⁻¹¹
    at most. Another scale would not make the error smaller.

    >>> half, scale, offset = halve(torch.tensor([[5.0, -1.0, 2.0]]), [2])
    >>> # 5 − (−1) = 6 = 0.75 · 2³, and 2³ / 2¹⁵ = 2⁻¹²
    >>> offset.tolist(), scale.tolist(), half.tolist()
    ([[-1.0]], [0.000244140625], [[24576.0, 0.0, 12288.0]])
    """
    offset = _offset(triangles, sizes)
    apart = triangles.double() - _spread(offset, sizes)
    peak = apart.abs().amax(1)
    scale = torch.where(peak > 0, torch.exp2(torch.frexp(peak).exponent.double() - 15), 1.0)
    return (apart / scale[:, None]).half(), scale, offset


def restore(
    half: Float16[Tensor, "tap value"],
    scale: Float64[Tensor, " tap"],
    offset: Float64[Tensor, "tap batch"],
    sizes: Sequence[int],
) -> Float32[Tensor, "tap value"]:
    """Convert the result of `halve` back to float32 values.

    >>> restore(*halve(torch.tensor([[5.0, -1.0, 2.0]]), [2]), [2])
    tensor([[ 5., -1.,  2.]])
    """
    return (half.double() * scale[:, None] + _spread(offset, sizes)).float()


def _offset(
    triangles: Float32[Tensor, "tap value"], sizes: Sequence[int]
) -> Float64[Tensor, "tap batch"]:
    """The mean over the pairs of different images of each minibatch; 0 where there is one image
    only."""
    means, taken = [], 0
    for _, count, n in _runs(sizes):
        width = n * (n + 1) // 2
        part = triangles[:, taken : taken + count * width].reshape(-1, count, width).double()
        row, column = torch.triu_indices(n, n)
        means.append(part[:, :, row < column].sum(-1) / max(1, width - n))
        taken += count * width
    return torch.cat(means, dim=1)


def _spread(
    offset: Float64[Tensor, "tap batch"], sizes: Sequence[int]
) -> Float64[Tensor, "tap value"]:
    """Each minibatch's offset at each of its values."""
    return offset.repeat_interleave(torch.tensor([n * (n + 1) // 2 for n in sizes]), dim=1)


def _runs(sizes: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Consecutive minibatches of one size: the number of the first, how many, and their size."""
    first = 0
    for n, run in itertools.groupby(sizes):
        count = len(list(run))
        yield first, count, n
        first += count


def _places(n: int) -> Int64[Tensor, " square"]:
    """Where each value of a whole n × n Gram, row by row, lies in its upper triangle."""
    row, column = torch.triu_indices(n, n)
    places = torch.empty(n, n, dtype=torch.int64)
    places[row, column] = places[column, row] = torch.arange(len(row))
    return places.flatten()
