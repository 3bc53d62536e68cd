"""Exact nearest neighbours by cosine: one matrix product, block by block, and the largest of each
row.

On a CPU each core has blocks of queries of its own. The product is written into memory that is kept
from block to block: new memory for each costs time (`bench/knn.py`). Of every 32 cosines of a row
only the largest is looked at first: the k nearest lie in the k groups with the largest maxima.
"""

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from sslens.cores import one_each
from sslens.processes import fast_products, gains_by_onednn

#: queries and rows of a bank; a core holds their cosines at a time: 67 MB
QUERIES, ROWS = 512, 2**15
#: rows of a bank that a CPU multiplies with at a time: a product is written in several passes,
#: which stay in its cache
AT_A_TIME = 2**13
#: numbers between two queries' cosines beside those: rows a power of two apart would share few
#: places of a cache
APART = 16
#: cosines of which the largest is looked at first, and then among those that were looked into; only
#: where there are at least so many groups for each of the k nearest
GROUPS, GROUPS_EACH = (32, 8), 2
#: columns by which rows that may be equal are found
LOOKED_AT = 16

Found = tuple[Int64[Tensor, "query k"], Float32[Tensor, "query k"]]


@final
class Bank:
    """Rows of features in which the nearest neighbours of queries are searched.

    Equal rows enter the matrix product only once, so that they have equal cosines. Otherwise their
    cosines would differ in the last bit on some machines, and the library would decide the tie.

    >>> bank = Bank(torch.tensor([[0.0, 1.0], [2.0, 0.0], [0.0, 1.0]]))
    >>> rows, cosines = bank.nearest(torch.tensor([[0.0, 3.0], [1.0, 1.0]]), k=2)
    >>> rows.tolist(), cosines[0].tolist()
    ([[0, 2], [0, 1]], [1.0, 1.0])
    """

    def __init__(self, rows: Float[Tensor, "bank dim"]) -> None:
        self.count = len(rows)
        unit = F.normalize(rows.float(), dim=1)
        self._first = _first_of_equals(unit)
        if self._first is not None:
            firsts, sizes = np.unique(self._first, return_counts=True)
            self._sizes, self._ends = sizes, np.cumsum(sizes)
            self._members = np.argsort(self._first, kind="stable")
            unit = unit[torch.from_numpy(firsts).to(unit.device)]
        self.unit = unit.contiguous()

    @fast_products()
    def nearest(self, queries: Float[Tensor, "query dim"], k: int) -> Found:
        """Return the k rows with the largest cosine to each query, and these cosines; of equal
        cosines the lower row comes first."""
        cores = torch.get_num_threads() if self.unit.device.type == "cpu" else 1
        blocks = cores * max(1, math.ceil(len(queries) / (cores * QUERIES)))
        size = max(1, math.ceil(len(queries) / blocks))

        def room() -> Float32[Tensor, " _"]:
            return self.unit.new_empty(size * (min(ROWS, len(self.unit)) + APART))

        work = functools.partial(self._block, k=k)
        found = one_each(work, queries.split(size), room, threads=cores)
        rows, cosines = zip(*found, strict=True)
        return torch.cat(rows), torch.cat(cosines)

    def _block(
        self, room: Float32[Tensor, " _"], queries: Float[Tensor, "query dim"], k: int
    ) -> Found:
        unit = F.normalize(queries.to(self.unit.device).float(), dim=1).contiguous()
        distinct = min(k, len(self.unit))
        rows = torch.empty(len(unit), 0, dtype=torch.int64, device=unit.device)
        cosines = unit.new_empty(len(unit), 0)
        for start in range(0, len(self.unit), ROWS):
            part = self.unit[start : start + ROWS]
            product = room[: len(unit) * (len(part) + APART)].view(len(unit), len(part) + APART)[
                :, : len(part)
            ]
            more, larger = _top(_mm(unit, part.T, product), min(distinct, len(part)))
            # those found before have lower rows, and come first among equals
            rows, cosines = torch.cat([rows, more + start], 1), torch.cat([cosines, larger], 1)
            cosines, order = cosines.sort(dim=1, descending=True, stable=True)
            rows, cosines = rows.gather(1, order)[:, :distinct], cosines[:, :distinct]
        rows, cosines = rows.cpu(), cosines.cpu()
        return (rows, cosines) if self._first is None else self._with_equals(rows, cosines, k)

    def _with_equals(
        self,
        distinct: Int64[Tensor, "query found"],
        cosines: Float32[Tensor, "query found"],
        k: int,
    ) -> Found:
        """The k nearest of all rows, from those of the distinct ones: each stands for all its
        equals.

        The first row of every group that has one of the k nearest is itself among the k first rows
        that are nearest.
        """
        groups, values = distinct.numpy(), cosines.numpy()
        sizes = np.minimum(self._sizes[groups], k).ravel()
        query = np.repeat(np.arange(len(groups)), sizes.reshape(groups.shape).sum(1))
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        begins = (self._ends - self._sizes)[groups].ravel()
        rows, value = (
            self._members[np.repeat(begins, sizes) + within],
            np.repeat(values.ravel(), sizes),
        )
        order = np.lexsort((rows, -value, query))
        first = np.searchsorted(
            query, np.arange(len(groups))
        )  # `query` is in order, and lexsort leaves it so
        chosen = order[first[:, None] + np.arange(k)]
        return torch.from_numpy(rows[chosen]), torch.from_numpy(value[chosen])


def _mm(
    x: Float32[Tensor, "m d"], y: Float32[Tensor, "d n"], out: Float32[Tensor, "m n"]
) -> Float32[Tensor, "m n"]:
    if out.device.type != "cpu":
        return torch.mm(x, y, out=out)
    for some, into in zip(y.split(AT_A_TIME, 1), out.split(AT_A_TIME, 1), strict=True):
        if _gains_by_numpy():
            np.matmul(x.numpy(), some.numpy(), out=into.numpy())
        else:
            torch.mm(x, some, out=into)
    return out


@functools.cache
def _gains_by_numpy() -> bool:
    """Whether NumPy's product is faster than torch's, by 3 to 20 %: torch's is Intel's, made for
    its own CPUs (`bench/knn.py`), where oneDNN does not take its place."""
    about = Path("/proc/cpuinfo")
    return about.exists() and "AuthenticAMD" in about.read_text() and not gains_by_onednn()


def _top(cosines: Float32[Tensor, "query bank"], k: int) -> Found:
    """The k largest of each row, the largest first, of equals that with the lower column."""
    columns, tied = _largest(cosines, k, GROUPS)
    if tied.any():
        columns[tied] = _first_of_ties(
            cosines[tied], cosines[tied].gather(1, columns[tied]).amin(1, keepdim=True), k
        )
    columns = columns.sort(dim=1).values
    values = cosines.gather(1, columns)
    order = values.sort(dim=1, descending=True, stable=True).indices
    return columns.gather(1, order), values.gather(1, order)


def _largest(
    values: Float32[Tensor, "query n"], k: int, groups: Sequence[int]
) -> tuple[Int64[Tensor, "query k"], Bool[Tensor, " query"]]:
    """The columns of the k largest, in any order, and whether others equal the last of them;
    `groups` are sizes to look by."""
    groups = [size for size in groups if values.shape[1] // size >= GROUPS_EACH * k]
    if not groups:
        largest, places = values.topk(min(k + 1, values.shape[1]), dim=1)
        others = largest.shape[1] > k
        return places[:, :k], (largest[:, k - 1] == largest[:, -1]) if others else places[:, 0] < 0
    size, *finer = groups
    whole = size * (values.shape[1] // size)
    grouped = values[:, :whole].unflatten(1, (-1, size))
    peaks = grouped.amax(2)
    within = peaks.topk(k, dim=1, sorted=False).indices
    query = torch.arange(len(within), device=within.device)[:, None]
    looked_into = torch.cat([grouped[query, within].flatten(1), values[:, whole:]], 1)
    places, tied = _largest(looked_into, k, finer)
    last = looked_into.gather(1, places).amin(1, keepdim=True)
    tied |= (peaks >= last).sum(
        1
    ) > k  # a group that was not looked into has one of the last's equals
    # what no group holds comes after k groups in `looked_into`, and after all of them in `values`
    begins = F.pad(size * within, (0, 1), value=whole)
    number = (places // size).clamp(max=k)
    return begins.gather(1, number) + places - size * number, tied


def _first_of_ties(
    values: Float32[Tensor, "query bank"], last: Float32[Tensor, "query 1"], k: int
) -> Int64[Tensor, "query k"]:
    """The columns of the values above `last`, and of so many that equal it as are wanting, from the
    left."""
    above, equal = values > last, values == last
    wanting = k - above.sum(1, keepdim=True)
    return (above | (equal & (equal.cumsum(1) <= wanting))).nonzero()[:, 1].view(-1, k)


def _first_of_equals(rows: Float32[Tensor, "bank dim"]) -> Int64[np.ndarray, " bank"] | None:
    """The first row that equals each row; None where all differ. Rows that differ in a few columns
    are not compared further."""
    columns = torch.linspace(
        0, rows.shape[1] - 1, min(LOOKED_AT, rows.shape[1]), device=rows.device
    ).long()
    bits = (rows[:, columns] + 0.0).contiguous().view(torch.int32).long()  # + 0.0: −0 equals 0
    odd = 2 * torch.arange(1, bits.shape[1] + 1, device=rows.device) + 1
    _, number, counts = (bits * odd**9).sum(1).unique(return_inverse=True, return_counts=True)
    alike = (counts[number] > 1).nonzero().flatten()
    first = np.arange(len(rows))
    seen: dict[bytes, int] = {}
    for start in range(0, len(alike), ROWS):
        some = alike[start : start + ROWS]
        for row, values in zip(some.tolist(), (rows[some] + 0.0).cpu().numpy(), strict=True):
            first[row] = seen.setdefault(values.tobytes(), row)
    return None if (first == np.arange(len(rows))).all() else first
