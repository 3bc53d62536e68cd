"""Kendall's tau of two models' rankings of the classes, over the top of these rankings.

For an image let a and b be two models' logits and S a set of classes. Over the pairs of classes {c,
d} in S

    τ_b = Σ sign(a_c − a_d) sign(b_c − b_d) / √(Σ sign²(a_c − a_d) · Σ sign²(b_c − b_d))

(Kendall, 1945, Biometrika 33:239). It is 1 where both order S in the same way, and −1 where the
orders are opposite. A pair that a model ties counts as neither, and where a model ties all of S, τ
is undefined. The papers say "the top-k class predictions" and not what S is. Here S is either

- "union": the classes in the top k of either model. It is the same whichever model is first, and no
  class that one of them puts high is passed over; but classes that one alone has in its top are in
  opposite order, so that unrelated rankings have a tau below 0: −0.55 in the mean over the top 5 of
  1,000 classes; or
- "first": the top k of the first model, over which unrelated rankings have 0.

A third reading takes no S: `tau_by_position` ranks the two lists of class numbers, leading class
first, as if the numbers themselves were measurements.

Rankings are never quite unrelated: probes of anything like some classes more than others.
`agreement` therefore gives with each tau the tau of the two models' rankings of different images.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from sslens.counts import spell_count
from sslens.errors import InputError

Over = Literal["union", "first"]

#: values of one model that are compared at a time: they stay in a core's cache
BLOCK = 1 << 18


@dataclass(frozen=True, eq=False)
class Rankings:
    """One model's logits of images, and each image's leading classes; of equal logits, the class
    with the lower number comes first.

    >>> Rankings.of(torch.tensor([[1.0, 3.0, 2.0, 3.0]]), 3).top.tolist()
    [[1, 3, 2]]
    """

    logits: Float[Tensor, "image class"]
    top: Int64[Tensor, "image k"]

    def at(self, rows: Int64[np.ndarray, " row"]) -> "Rankings":
        """Return the rankings of some images, in this order."""
        return Rankings(self.logits[rows], self.top[rows])

    @classmethod
    def of(cls, logits: Float[Tensor, "image class"], k: int) -> "Rankings":
        """Find the k leading classes of each image, for tau over the top k and over every smaller
        top.

        Raises:
            InputError: k is under 2 or over the number of classes, or a logit is nan.
        """
        count = logits.shape[1]
        if not 2 <= k <= count:
            raise InputError(
                f"The top {k} of {count} classes cannot be ranked: give a k between 2 and {count},"
                " the number of classes."
            )
        top = torch.empty(len(logits), k, dtype=torch.int64)
        for start in range(0, len(logits), max(1, BLOCK // count)):
            part = logits[start : start + max(1, BLOCK // count)]
            broken = torch.isnan(part).any(1).nonzero().flatten()
            if len(broken):
                raise InputError(
                    f"The logits of image {start + int(broken[0])} (of {len(logits)}) hold nan,"
                    " which has no place in a ranking: the probe or its features are broken."
                )
            top[start : start + len(part)] = _find_leading(part, k)
        return cls(logits, top)


def _find_leading(logits: Float[Tensor, "image class"], k: int) -> Int64[Tensor, "image k"]:
    values, top = logits.topk(k, dim=1)
    # topk may order equal logits as it likes, and take any of those that equal the last
    tied = (values[:, 1:] == values[:, :-1]).any(1) | ((logits >= values[:, -1:]).sum(1) > k)
    if tied.any():
        top[tied] = logits[tied].sort(dim=1, descending=True, stable=True).indices[:, :k]
    return top


def tau(a: Rankings, b: Rankings, k: int, over: Over = "union") -> Float64[np.ndarray, " image"]:
    """Compute Kendall's τ_b of two models' logits over the top k classes of each image; nan where a
    model ties all of them.

    It works on a block of images at a time, so that memory is bounded.

    Args:
        a, b: the rankings of the two models.
        k: the number of leading classes.
        over: "union" (the top k of either model) or "first" (the top k of `a`).

    Raises:
        InputError: the two are of other images or other classes, or k is under 2 or above the k of
            the rankings.

    >>> a = Rankings.of(torch.tensor([[4.0, 3.0, 2.0, 1.0]]), 2)  # its top 2 are classes 0 and 1
    >>> b = Rankings.of(torch.tensor([[3.0, 1.0, 4.0, 2.0]]), 2)  # 2 and 0
    >>> tau(a, b, 2).round(4).tolist()  # pairs 01 concordant, 02 and 12 discordant: (1 − 2) / 3
    [-0.3333]
    >>> tau(a, b, 2, "first").tolist()
    [1.0]
    """
    _require_same(a, b, k)
    found = np.empty(len(a.logits))
    step = max(1, BLOCK // (2 * k))
    for start in range(0, len(found), step):
        rows = slice(start, start + step)
        found[rows] = _tau(*_select_classes(a, b, k, over, rows))
    return found


def tau_by_position(a: Rankings, b: Rankings, k: int) -> Float64[np.ndarray, " image"]:
    """Compute Kendall's τ of the two lists of the k leading classes' numbers, position by position.

        τ = 2 / (k(k − 1)) · Σ_{i<j} sign(A_i − A_j) sign(B_i − B_j),

    where A_i is the number of the class that the first model puts in place i, and B_i that of the
    second. It is what a library's Kendall's tau makes of two lists of predicted classes. It is 1
    for equal lists, and 0 in the mean for unrelated ones; but it depends on how the classes are
    numbered, and two lists of quite different classes can have 1 too.

    Args:
        a, b: the rankings of the two models.
        k: the number of leading classes.

    Raises:
        InputError: for the same reasons as `tau`.

    >>> a = Rankings.of(torch.tensor([[4.0, 3.0, 2.0, 1.0]]), 3)  # classes 0, 1, 2
    >>> b = Rankings.of(torch.tensor([[1.0, 4.0, 2.0, 3.0]]), 3)  # classes 1, 3, 2
    >>> tau_by_position(a, b, 3).round(4).tolist()  # 01 and 02 alike, 12 opposite: (2 − 1) / 3
    [0.3333]
    """
    _require_same(a, b, k)
    return _tau(*(x.top[:, :k].T.double().numpy() for x in (a, b)))


def _require_same(a: Rankings, b: Rankings, k: int) -> None:
    """Refuse rankings of other images or classes, and a k that they do not have."""
    if a.logits.shape != b.logits.shape:
        raise InputError(
            f"Rankings of {spell_count(a.logits.shape[0], 'image')} and {a.logits.shape[1]} classes"
            f" cannot be held against those of {spell_count(b.logits.shape[0], 'image')} and"
            f" {spell_count(b.logits.shape[1], 'class')}: both models need the same."
        )
    most = min(a.top.shape[1], b.top.shape[1])
    if not 2 <= k <= most:
        raise InputError(
            f"Kendall's tau over the top {k} needs a k between 2 and the {most} leading classes at"
            " hand."
        )


def _select_classes(
    a: Rankings, b: Rankings, k: int, over: Over, rows: slice
) -> tuple[np.ndarray, np.ndarray]:
    """Both models' logits `[member image]` of the classes of S; nan for a class that both models
    have in their top, once."""
    classes = a.top[rows, :k]
    again = None
    if over == "union":
        others = b.top[rows, :k]
        leads = torch.zeros(a.logits[rows].shape, dtype=torch.bool).scatter_(1, classes, True)
        again = leads.gather(1, others).T.numpy()
        classes = torch.cat([classes, others], 1)
    found = []
    for model in (a, b):
        logits = model.logits[rows]
        wide = logits if logits.dtype in (torch.float32, torch.float64) else logits.float()
        values = wide.gather(1, classes).T.contiguous().numpy()
        if again is not None:
            values[k:][again] = np.nan
        found.append(values)
    return found[0], found[1]


def _tau(
    a: Float[np.ndarray, "member image"], b: Float[np.ndarray, "member image"]
) -> Float64[np.ndarray, " image"]:
    """τ_b over the members that are not nan: a nan is neither above nor below anything, and so
    counts in no sum."""
    both, only_a, only_b = (np.zeros(a.shape[1], np.int64) for _ in range(3))
    for i in range(1, len(a)):
        sign_a, sign_b = (
            (x[:i] > x[i]).view(np.int8) - (x[:i] < x[i]).view(np.int8) for x in (a, b)
        )
        both += (sign_a * sign_b).sum(0, dtype=np.int32)
        only_a += (sign_a != 0).sum(0, dtype=np.int32)
        only_b += (sign_b != 0).sum(0, dtype=np.int32)
    with np.errstate(invalid="ignore"):  # 0/0 where a model ties all
        return both / np.sqrt(
            only_a * only_b
        )  # the root of n² is n, so that a ranking has exactly 1 with itself
