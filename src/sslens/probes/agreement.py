"""Whether two models predict the same classes for the same images, and are right and wrong on the
same images; each number with the numbers without each image, for its interval.

The numbers are Kendall's tau of the rankings of classes (`rank`), F1 of one model's first choice
against the other's, F1 of being right, and error consistency. None of them should be read alone:
two models that are nearly always right agree whatever they have learnt. Error consistency subtracts
the agreement of two independent models with these accuracies. Tau over the images on which both
models are wrong cannot be explained by both being right.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy  # a part of scipy is loaded when it is first used
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.probes.rank import Rankings, tau, tau_by_position
from sslens.statistics.draws import Draws as Draws
from sslens.statistics.jackknife import Change, compute_freedom, compute_unit_ends
from sslens.statistics.proportions import Counts
from sslens.statistics.sampled import Sampled

#: the images that a tau is averaged over
SUBSETS = ("all", "both right", "both wrong")
#: pairs of different images that tell the tau of chance: to about 0.01
PAIRS = 2000


class F1(NamedTuple):
    """F1 averaged over classes in two ways.

    Attributes:
        macro: the mean over the classes that at least one of the models predicts.
        weighted: the mean weighted by how often the first model predicts the class.
    """

    macro: Float64[np.ndarray, "*draw"]
    weighted: Float64[np.ndarray, "*draw"]


def f1(first: Int64[np.ndarray, " image"], second: Int64[np.ndarray, " image"]) -> F1:
    """Compute F1 of the second model's predicted classes, with the first model's taken as the
    truth.

    For a class that the first model predicts n times, the second m times and both on h images, F1 =
    2h / (n + m), which is the same whichever model is first. The papers do not say how they average
    over classes. The macro mean is over the classes that at least one model predicts (a class that
    none predicts has no F1); it is the same both ways. The weighted mean weighs by n, and is not
    the same both ways. (The micro mean is the share of images for which both predict the same.)

    >>> f1(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]))  # class 0: 4/5, class 1: 2/3
    F1(macro=array(0.7333...), weighted=array(0.7666...))
    """
    classes = int(max(first.max(), second.max())) + 1
    counts = [
        np.bincount(x, minlength=classes).astype(float)
        for x in (first[first == second], first, second)
    ]
    return _f1(*counts)


def _f1(
    hits: Float64[np.ndarray, "*draw class"],
    first: Float64[np.ndarray, "*draw class"],
    second: Float64[np.ndarray, "*draw class"],
) -> F1:
    either = first + second
    each = np.divide(2 * hits, either, out=np.zeros_like(either), where=either > 0)
    macro = each.sum(-1) / (either > 0).sum(-1)
    return F1(np.asarray(macro), np.asarray((each * first).sum(-1) / first.sum(-1)))


def f1_of_being_right(
    right_a: Bool[np.ndarray, " image"], right_b: Bool[np.ndarray, " image"]
) -> float:
    """Compute F1 of the images that one model has right against those that the other has right.

    F1 = 2 P(both right) / (P_a + P_b), where P_a and P_b are the two models' accuracies. It is the
    same whichever model is first, and nan where neither model is ever right. The papers print an
    F1 "of top-1 predictions" of 0.93 and 0.88. At accuracies of 67.7 % and 76.7 % two models can
    name the same class for at most 91 % of the images, so a macro F1 (`f1`) of 0.88 would need
    almost all of their errors alike; this F1 does not.

    >>> a = np.array([True] * 6 + [False] * 4)
    >>> b = np.array([True] * 5 + [False] * 4 + [True])
    >>> round(f1_of_being_right(a, b), 4)  # both right on 5 of 10: 2 · 0.5 / (0.6 + 0.6)
    0.8333
    """
    return float(_f1_right(right_a.mean(), right_b.mean(), (right_a & right_b).mean()))


def _f1_right(
    a: Float64[np.ndarray, "*draw"] | float,
    b: Float64[np.ndarray, "*draw"] | float,
    both: Float64[np.ndarray, "*draw"] | float,
) -> Float64[np.ndarray, "*draw"]:
    """F1 from the shares of images that a, b and both have right."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.divide(2 * both, a + b))


def error_consistency(
    right_a: Bool[np.ndarray, " image"], right_b: Bool[np.ndarray, " image"]
) -> float:
    """Cohen's κ of being right: how much more often two models are right or wrong together than by
    chance.

    κ = (c − e) / (1 − e), where c is the share of images on which both are right or both wrong, and
    e = p_a p_b + (1 − p_a)(1 − p_b) is the expected share for independent models with accuracies
    p_a and p_b (Geirhos, Meding & Wichmann, 2020, arXiv:2006.16736). 0 is chance; nan where both
    are right on all images or both wrong on all.

    >>> a = np.array([True] * 6 + [False] * 4)
    >>> b = np.array([True] * 5 + [False] * 4 + [True])
    >>> round(error_consistency(a, b), 4)  # 8 of 10 together, e = 0.6 · 0.6 + 0.4 · 0.4 = 0.52
    0.5833
    """
    return float(_kappa(right_a.mean(), right_b.mean(), (right_a & right_b).mean()))


def _kappa(
    a: Float64[np.ndarray, "*draw"] | float,
    b: Float64[np.ndarray, "*draw"] | float,
    both: Float64[np.ndarray, "*draw"] | float,
) -> Float64[np.ndarray, "*draw"]:
    """κ from the shares of images that a, b and both have right."""
    together, expected = 1 - a - b + 2 * both, a * b + (1 - a) * (1 - b)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(
            expected < 1,
            (together - expected) / np.where(expected < 1, 1 - expected, np.nan),
            np.nan,
        )


class Asked(NamedTuple):
    """The key of one number about two models.

    Attributes:
        measure: "tau"; "tau first" (tau over the top classes of the first model, averaged over
            which model is first); "tau listed" (of the two lists of class numbers); "f1"; "f1
            weighted" (averaged as "tau first" is); "f1 right" (of being right); "same" (the share
            of images for which both predict the same class); or "kappa".
        k: the k of the top-k; 0 for measures of the first choice.
        images: the images over which the number is taken, one of `SUBSETS`.
    """

    measure: str
    k: int
    images: str


class Found(NamedTuple):
    """One number about two models.

    Attributes:
        sampled: the value, with the values without each group of images.
        images: the number of images over which the value is a mean.
        chance: the expected value if both models ignored the images, and predicted and ranked each
            class as often as they do.
        change: how one more image for which the two predict different classes changes the value;
            None for measures other than F1 and "same".
        counts: the images of which the value is a share, or F1 of such a share; None for other
            measures and for means over pairs of models.
    """

    sampled: Sampled
    images: int
    chance: float
    change: Change | None = None
    counts: Counts | None = None

    def interval(self) -> tuple[float, float]:
        """Compute the 95 % interval over images: exactly of `counts`, else with a
        `change` by `compute_unit_ends`."""
        if self.counts is not None:
            return self.counts.interval()
        if self.change is None:
            low, high = self.sampled.interval()
            return float(low), float(high)
        # F1 of few images is too small: half of a class's images may be missed, or all of them
        errors = np.asarray(np.hypot(self.sampled.errors(), self.sampled.biases()))
        freedom = compute_freedom(self.sampled.share)
        low, high = compute_unit_ends(self.sampled.value, errors, freedom, self.change)
        return float(low), float(high)


@dataclass(frozen=True, eq=False)
class Predicted:
    """A model's predictions for labelled images: rankings, first choices, and which of these are
    right.

    >>> import torch
    >>> Predicted.of(torch.tensor([[0.0, 1.0], [0.0, 1.0]]), np.array([1, 0]), 2).right.tolist()
    [True, False]
    """

    rankings: Rankings
    first: Int64[np.ndarray, " image"]
    right: Bool[np.ndarray, " image"]

    @classmethod
    def of(
        cls, logits: Float[Tensor, "image class"], labels: Int64[np.ndarray, " image"], k: int
    ) -> "Predicted":
        """Rank the k leading classes of each image.

        Raises:
            InputError: k is under 2 or over the number of classes, or a logit is nan.
        """
        rankings = Rankings.of(logits, k)
        first = rankings.top[:, 0].numpy()
        return cls(rankings, first, first == labels)


def agreement(a: Predicted, b: Predicted, ks: Sequence[int], draws: Draws) -> dict[Asked, Found]:
    """Compute all numbers about two models' predictions, with the jackknife over images.

    A number is nan where no image is left for it (no image that both get wrong, or none with a
    defined tau).

    Raises:
        InputError: the predictions or the draws are of other images, or a k is above the k of the
            rankings.

    >>> import torch
    >>> logits = torch.tensor([[3.0, 2.0, 1.0], [1.0, 3.0, 2.0], [3.0, 2.0, 1.0]])
    >>> one = Predicted.of(logits, np.array([0, 1, 2]), 3)
    >>> other = Predicted.of(logits[:, [0, 2, 1]], np.array([0, 1, 2]), 3)
    >>> found = agreement(one, other, [3], Draws.of(3))
    >>> values = {asked: float(each.sampled.value.round(4)) for asked, each in found.items()}
    >>> # F1 of 1, 0 and 0
    >>> values["tau", 3, "all"], values["tau", 3, "both right"], values["f1", 0, "all"]
    (0.3333, 0.3333, 0.3333)
    """
    if not len(a.first) == len(b.first) == draws.drawn[0]:
        raise InputError(
            f"Predictions of {len(a.first)} and of {spell_count(len(b.first), 'image')}, drawn from"
            f" {draws.drawn[0]}, are not of the same images."
        )
    return _taus(a, b, ks, draws) | _choices(a, b, draws)


def _taus(a: Predicted, b: Predicted, ks: Sequence[int], draws: Draws) -> dict[Asked, Found]:
    members = {
        "all": np.ones_like(a.right),
        "both right": a.right & b.right,
        "both wrong": ~a.right & ~b.right,
    }
    asked, columns, chances = [], [], []
    for k, (measure, rank) in itertools.product(ks, RANKED):
        value = rank(a.rankings, b.rankings, k)
        for subset in SUBSETS:
            counted = members[subset] & np.isfinite(value)
            asked.append(Asked(measure, k, subset))
            columns += [np.where(counted, value, 0), counted.astype(float)]
            mixed = mixed_up(np.flatnonzero(counted), draws.drawn[2])
            others = rank(*(x.rankings.at(rows) for x, rows in zip((a, b), mixed, strict=True)), k)
            chances.append(float(others.mean()) if len(others) else np.nan)
    if not asked:
        return {}
    sums = draws.sums(np.stack(columns, 1))
    with np.errstate(invalid="ignore"):
        means = sums[:, 0::2] / sums[:, 1::2]
    return {
        each: Found(
            draws.sampled(means[:, i], sums[:, 2 * i + 1]), int(sums[0, 2 * i + 1]), chances[i]
        )
        for i, each in enumerate(asked)
    }


def either_first(a: Rankings, b: Rankings, k: int) -> Float64[np.ndarray, " image"]:
    """Compute tau over the top k of the first model, averaged over both choices of the first
    model."""
    return (tau(a, b, k, "first") + tau(b, a, k, "first")) / 2


#: the readings of "Kendall's tau over the top k", by the name of the measure
RANKED = (("tau", tau), ("tau first", either_first), ("tau listed", tau_by_position))


def mixed_up(
    rows: Int64[np.ndarray, " image"], seed: int
) -> tuple[Int64[np.ndarray, " pair"], Int64[np.ndarray, " pair"]]:
    """Draw pairs of two different images from `rows`: comparing one model's ranking of one image
    with the other model's ranking of the other gives the agreement by chance.

    There are no pairs where `rows` has fewer than two images.

    >>> one, other = mixed_up(np.array([3, 5]), seed=0)
    >>> alone = mixed_up(np.array([3]), seed=0)
    >>> set((one + other).tolist()), len(one) == PAIRS, [len(part) for part in alone]
    ({8}, True, [0, 0])
    """
    n, rng = len(rows), np.random.default_rng(seed)
    if n < 2:
        return rows[:0], rows[:0]
    first = rng.integers(0, n, PAIRS)
    return rows[first], rows[(first + rng.integers(1, n, PAIRS)) % n]


def _choices(a: Predicted, b: Predicted, draws: Draws) -> dict[Asked, Found]:
    n = draws.drawn[0]
    shared = a.first == b.first
    columns = [a.right, b.right, a.right & b.right, shared, np.ones(n)]
    sums = draws.sums(np.stack(columns, 1).astype(float))
    with np.errstate(invalid="ignore"):  # 0/0 without the only group
        shares = sums / sums[:, 4:]
    classes = a.rankings.logits.shape[1]
    first, second = (draws.sums(_one_hot(x.first, np.ones(n), classes)) for x in (a, b))
    hits = draws.sums(_one_hot(a.first, shared.astype(float), classes))
    by_chance = first[0] * second[0] / n
    right_a, right_b = shares[0, :2]
    found = {
        "f1": (_f1(hits, first, second).macro, _f1(by_chance, first[0], second[0]).macro),
        "f1 weighted": (_weighted(hits, first, second), _weighted(by_chance, first[0], second[0])),
        "f1 right": (
            _f1_right(*shares.T[:3]),
            float(_f1_right(right_a, right_b, right_a * right_b)),
        ),
        "same": (shares[:, 3], by_chance.sum() / n),
        "kappa": (_kappa(*shares.T[:3]), 0.0),
    }
    either = (first[0] + second[0]) / (2 * n)
    lost = _lose(hits[0], first[0] + second[0])
    changes: dict[str, Change | None] = {
        "f1": _change(lost / (either > 0).sum(), either),
        "f1 weighted": _change(lost * either, either),
        "same": _dilute(float(shares[0, 3]), float(n)),
    }
    if sums[0, :2].any():
        changes["f1 right"] = _dilute(float(found["f1 right"][0][0]), float(sums[0, :2].sum()))
    right = int((a.right & b.right).sum())
    counts = {
        "same": Counts(int(shared.sum()), n),
        "f1 right": Counts(right, int((a.right | b.right).sum()), f1=True),
    }
    return {
        Asked(measure, 0, "all"): Found(
            draws.sampled(values), n, float(chance), changes.get(measure), counts.get(measure)
        )
        for measure, (values, chance) in found.items()
    }


def _dilute(value: float, count: float) -> Change:
    """How one different image more changes a share of `count` images (or of answers)."""
    lost = value / (count + 1)
    return Change(-lost, lost**2)


def _lose(
    hits: Float64[np.ndarray, " class"], either: Float64[np.ndarray, " class"]
) -> Float64[np.ndarray, " class"]:
    """How F1 of each class changes if one of the models predicts it for one more image."""
    present = np.maximum(either, 1)
    return 2 * hits / (present + 1) - 2 * hits / present


def _change(
    lost: Float64[np.ndarray, " class"], often: Float64[np.ndarray, " class"]
) -> Change | None:
    """How an image changes F1 for which the models predict two different classes i and j, which
    have the probability ∝ p_i p_j: by `lost[i]` + `lost[j]`. None if there is one class only."""
    unlike = 1 - float((often**2).sum())
    if unlike < 1e-12:
        return None
    alone = (lost * often * (1 - often)).sum()
    square = (lost**2 * often * (1 - often)).sum()
    both = (lost * often).sum() ** 2 - ((lost * often) ** 2).sum()
    return Change(float(2 * alone / unlike), float(2 * (square + both) / unlike))


def _weighted(
    hits: Float64[np.ndarray, "*draw class"],
    first: Float64[np.ndarray, "*draw class"],
    second: Float64[np.ndarray, "*draw class"],
) -> Float64[np.ndarray, "*draw"]:
    """The weighted F1, the mean of either model being first."""
    return np.asarray((_f1(hits, first, second).weighted + _f1(hits, second, first).weighted) / 2)


def _one_hot(
    classes: Int64[np.ndarray, " image"], values: Float64[np.ndarray, " image"], count: int
) -> "scipy.sparse.csr_array[np.float64]":
    """The values of images in the columns of their classes."""
    return scipy.sparse.csr_array(
        (values, (np.arange(len(classes)), classes)), shape=(len(classes), count)
    )
