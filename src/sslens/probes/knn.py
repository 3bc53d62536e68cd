"""k-NN classification by cosine similarity, as DINO evaluates it."""

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from sslens.errors import InputError

Vote = Literal["weighted", "majority"]

#: values of the similarity matrix that are held at a time
BLOCK = 1 << 24


def neighbours(
    queries: Float[Tensor, "query dim"], bank: Float[Tensor, "bank dim"], k: int, *, leave_one_out: bool = False
) -> tuple[Int64[Tensor, "query k"], Float[Tensor, "query k"]]:
    """The k rows of `bank` with the largest cosine to each query, nearest first, and the cosines.

    Equal cosines are ordered by row, so that the result does not depend on how a library sorts (but on some CPUs the
    cosines of equal rows differ in their last bit). With `leave_one_out`
    queries and bank are the same rows, and none is its own neighbour.

    Raises:
        InputError: k is not under the number of rows to choose from.

    >>> neighbours(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0], [2.0, 0.0], [3.0, 0.0]]), k=2)[0].tolist()
    [[1, 2]]
    """
    rows = len(bank) - leave_one_out
    if not 1 <= k <= rows:
        raise InputError(f"{k} neighbours cannot be chosen among {rows} images: give k between 1 and {rows}.")
    bank = F.normalize(bank.float(), dim=1)
    found = []
    for start, block in _blocks(queries, len(bank)):
        # never one query alone: a vector times a matrix rounds equal rows of the bank apart, and they would not tie
        unit = F.normalize(block.float(), dim=1).expand(max(2, len(block)), -1)
        cosines = (unit @ bank.T)[: len(block)]
        if leave_one_out:
            own = torch.arange(len(block))
            cosines[own, own + start] = -torch.inf
        found.append(_top(cosines, k))
    rows_found, values = zip(*found, strict=True)
    return torch.cat(rows_found), torch.cat(values)


def _blocks(queries: Tensor, width: int) -> list[tuple[int, Tensor]]:
    size = max(1, BLOCK // width)
    return [(start, queries[start : start + size]) for start in range(0, len(queries), size)]


def _top(cosines: Float[Tensor, "query bank"], k: int) -> tuple[Int64[Tensor, "query k"], Float[Tensor, "query k"]]:
    values, rows = cosines.topk(k, dim=1)
    tied = (cosines >= values[:, -1:]).sum(1) > k  # topk may have taken any of those that equal the last
    if tied.any():
        rows[tied] = cosines[tied].sort(dim=1, descending=True, stable=True).indices[:, :k]
    rows = rows.sort(dim=1).values
    values = cosines.gather(1, rows)
    order = values.sort(dim=1, descending=True, stable=True).indices
    return rows.gather(1, order), values.gather(1, order)


def vote(
    labels: Int64[Tensor, "query k"],
    cosines: Float[Tensor, "query k"],
    classes: int,
    *,
    how: Vote = "weighted",
    temperature: float = 0.07,
) -> Int64[np.ndarray, " query"]:
    """The class with the most votes of each query's neighbours; of classes with equally many, the first.

    A neighbour with cosine s has exp(s/τ) votes ("weighted", as DINO's evaluation), or one ("majority"). The largest
    cosine of a query is subtracted before exp, which scales all its votes alike.

    >>> vote(torch.tensor([[0, 1, 1]]), torch.tensor([[0.9, 0.1, 0.1]]), 2).tolist()
    [0]
    >>> vote(torch.tensor([[0, 1, 1]]), torch.tensor([[0.9, 0.1, 0.1]]), 2, how="majority").tolist()
    [1]
    """
    weights = torch.ones_like(cosines)
    if how == "weighted":
        weights = ((cosines - cosines[:, :1]) / temperature).exp()
    votes = torch.zeros(len(labels), classes, dtype=torch.float64).scatter_add_(1, labels, weights.double())
    return votes.numpy().argmax(axis=1)


def knn(
    queries: Float[Tensor, "query dim"],
    bank: Float[Tensor, "bank dim"],
    bank_labels: Int64[Tensor, " bank"],
    *,
    k: int = 20,
    how: Vote = "weighted",
    temperature: float = 0.07,
    leave_one_out: bool = False,
) -> Int64[np.ndarray, " query"]:
    """The predicted class of each query: the vote of its k nearest neighbours in the bank.

    Raises:
        InputError: too few images for k, or features that are not finite.

    >>> bank = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
    >>> knn(torch.tensor([[0.1, 1.0]]), bank, torch.tensor([0, 0, 1]), k=3).tolist()
    [1]
    """
    for name, x in (("queries", queries), ("bank", bank)):
        if not torch.isfinite(x).all():
            raise InputError(
                f"The features of the {name} hold values that are not finite: the model or its input is broken."
            )
    rows, cosines = neighbours(queries, bank, k, leave_one_out=leave_one_out)
    classes = int(bank_labels.max()) + 1
    return vote(bank_labels[rows], cosines, classes, how=how, temperature=temperature)


def wilson(correct: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % interval of a share by Wilson's score (1927), which holds near 0 and 1 and for few images.

    >>> [round(end, 4) for end in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    share = correct / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    return middle - half, middle + half
