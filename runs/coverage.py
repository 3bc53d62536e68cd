"""How often the intervals of `sslens.statistics` hold the true value, and how wide they are.

    python runs/coverage.py                        all families of settings, some minutes
    python runs/coverage.py f1 tau --trials 8000
    python runs/coverage.py cka gains --before 500 --out coverage.md

A family is `cka` (ratios over minibatches), `gains` (paired accuracies), `means` (gains of several
models), `f1` (of predictions and of being right), `tau` (and error consistency), `r2`, `probes`
(data drawn anew and the probe trained anew) or `trainings` (an objective's trainings drawn anew).
Each row has a setting, the images on which two models are expected to differ, the share of 95 %
intervals that hold the truth and their mean width. Below the table stand the rows that break a
limit: under 93 %, or over 98 % where ten images or more are expected to differ. The method of
before, where there was another, is run with `--before` trials; it takes longest:

- cka: expanded percentiles of 400 bootstrap draws of minibatches, against the jackknife with t;
- gains: mean ± 1.96 standard errors, against the score interval with the exact test. Nothing is
  drawn: all tables of wins and losses are weighted by their probability;
- means: expanded percentiles, against the same score interval;
- f1, r2: percentiles of 400 bootstrap draws of images, against the jackknife; F1 of being right and
  the share of the same choices: the jackknife, against the exact interval of a share.

The truth is known: of `cka` and `tau` it is the value of the whole pool of 30,000 minibatches or
100,000 images that trials draw from, of `f1` that of the joint distribution. Where this script
computes a number for all trials at once and the package for one, both are held against each other.
`probes` has two truths: the accuracy of the trained probe itself on 20,000 further images, which
its interval is about, and the mean accuracy over all training sets, which it is not about.
"""

import argparse
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import betaincinv, ndtr, stdtrit
from scipy.stats import binom

from sslens.measures.cka import u_centre
from sslens.probes.agreement import Asked, Draws, Predicted, agreement
from sslens.probes.rank import tau
from sslens.probes.ridge import classify, ridge
from sslens.statistics.estimate import Estimate
from sslens.statistics.explained import compute_r2, estimate_r2
from sslens.statistics.gains import compute_ends_of_counts, hold_zero
from sslens.statistics.jackknife import (
    Change,
    compute_ends,
    compute_errors,
    compute_freedom,
    compute_unit_ends,
)
from sslens.statistics.proportions import wilson
from sslens.statistics.runs import difference_of_means
from sslens.statistics.trainings import estimate_over_trainings

#: draws of the bootstrap of the method of before, and minibatches and ranked images that trials
#: draw from
REPLICATES, POOL, RANKED = 400, 30_000, 100_000
#: the least coverage in percent, and the most where ten or more images are expected to differ
LEAST, MOST = 93.0, 98.0


@dataclass(frozen=True)
class Row:
    """A setting: the coverage in percent and the mean width, of before and of today.

    Attributes:
        setting: name of the setting.
        old: by the method of before; None if there was none.
        new: by today's method.
        differ: the expected number of images that differ; None where images do not differ or not.
        promised: whether the interval is about the truth of this row, and may not fall short of it.
    """

    setting: str
    old: tuple[float, float] | None
    new: tuple[float, float]
    differ: float | None = None
    promised: bool = True

    @property
    def fault(self) -> str:
        """Which limit the row breaks; empty if none."""
        if self.promised and self.new[0] < LEAST:
            return f"under {LEAST:g} %"
        several = self.differ is not None and self.differ >= 10
        return f"over {MOST:g} %" if several and self.new[0] > MOST else ""

    def __str__(self) -> str:
        cells = [
            "– | –" if one is None else f"{one[0]:.1f} | {one[1]:.3g}"
            for one in (self.old, self.new)
        ]
        differ = "" if self.differ is None else f"{self.differ:.3g}"
        return f"| {self.setting} | {differ} | {' | '.join(cells)} |"


def score(low: np.ndarray, high: np.ndarray, truth: float | np.ndarray) -> tuple[float, float]:
    """The percentage of intervals that hold the truth, and their mean width."""
    held = (low <= truth + 1e-12) & (truth - 1e-12 <= high)
    return 100 * float(held.mean()), float((high - low).mean())


def expand(draws: np.ndarray, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """The expanded percentile interval of before (Hesterberg, 2015); draws stand last."""
    far = ndtr(-((parts / (parts - 1)) ** 0.5) * stdtrit(parts - 1, 0.975))
    low, high = np.quantile(draws, [far, 1 - far], axis=-1)
    return low, high


def bootstrap(draw: Callable[[], np.ndarray], parts: int, truth: float) -> tuple[float, float]:
    """Score the method of before, from a function that draws the value of each trial anew."""
    return score(*expand(np.stack([draw() for _ in range(REPLICATES)], 1), parts), truth)


# ------------------------------------------------------------------------------------------------
# CKA over minibatches


def make_pool(sigma: float, seed: int) -> np.ndarray:
    """HSIC of four models with each other on minibatches of 32 images.

    A model has 20 features of 6 shared numbers and of noise. All features of an image are scaled by
    exp(σ z), the same in all models.
    """
    source = torch.Generator().manual_seed(seed)
    mixing = torch.randn(4, 6, 20, generator=source, dtype=torch.float64)
    pool = []
    for _ in range(POOL // 1000):
        shared = torch.randn(1000, 32, 6, generator=source, dtype=torch.float64)
        scale = (sigma * torch.randn(1000, 32, 1, generator=source, dtype=torch.float64)).exp()
        centred = []
        for mix in mixing:
            noise = torch.randn(1000, 32, 20, generator=source, dtype=torch.float64)
            x = scale * (shared @ mix / 6**0.5 + noise)
            centred.append(u_centre(x @ x.mT).flatten(1))
        stacked = torch.stack(centred, 1)
        pool.append(stacked @ stacked.mT)
    return torch.cat(pool).numpy()


#: values as sums of signed CKAs of two models
CONTRASTS = {
    "one CKA": {(0, 1): 1.0},
    "paired difference": {(0, 1): 1.0, (2, 3): -1.0},
    "paired difference, a model in common": {(0, 1): 1.0, (0, 2): -1.0},
    "difference of families": {
        **dict.fromkeys([(0, 1), (0, 2), (1, 2)], 1 / 3),
        **dict.fromkeys([(0, 3), (1, 3), (2, 3)], -1 / 3),
    },
}


def take(sums: np.ndarray, contrast: dict[tuple[int, int], float]) -> np.ndarray:
    """The value of a contrast from sums [..., model, model] over minibatches."""
    ratios = [
        sign * sums[..., i, j] / np.sqrt(sums[..., i, i] * sums[..., j, j])
        for (i, j), sign in contrast.items()
    ]
    return np.asarray(sum(ratios))


def draw_cka(
    parts: np.ndarray, contrast: dict[tuple[int, int], float], rng: np.random.Generator
) -> np.ndarray:
    """Draw minibatches [trial, minibatch, model, model] anew, and take a contrast of them."""
    trials, batches = parts.shape[:2]
    counts = rng.multinomial(batches, np.full(batches, 1 / batches), size=trials)
    return take(np.einsum("tn,tnij->tij", counts, parts), contrast)


def cover_cka(trials: int, before: int) -> Iterator[Row]:
    """CKA of minibatches that are equal (σ = 0) and of log-normal scale (σ = 0.5 and 1)."""
    rng = np.random.default_rng(0)
    for sigma in (0.0, 0.5, 1.0):
        pool = make_pool(sigma, seed=1)
        for (name, contrast), batches in itertools.product(CONTRASTS.items(), (8, 16, 32)):
            truth = float(take(pool.mean(0), contrast))
            parts = pool[rng.integers(0, len(pool), (trials, batches))]
            sums = parts.sum(1)
            share = np.mean(
                [
                    (
                        parts[..., i, i] / sums[:, None, i, i]
                        + parts[..., j, j] / sums[:, None, j, j]
                    )
                    / 2
                    for i, j in contrast
                ],
                axis=0,
            )
            errors = compute_errors(take(sums[:, None] - parts, contrast))
            ends = compute_ends(take(sums, contrast), errors, compute_freedom(share))
            draw = partial(draw_cka, parts[:before], contrast, rng)
            old = bootstrap(draw, batches, truth) if before else None
            yield Row(f"{name}, σ = {sigma:g}, {batches} minibatches", old, score(*ends, truth))


# ------------------------------------------------------------------------------------------------
# gains of accuracy


def cover_gains(trials: int, before: int) -> Iterator[Row]:
    """Paired accuracies, exactly; wins are 50, 75 and 90 % of the images that differ."""
    for images, unlike, share in itertools.product(
        (40, 100, 400, 2000), (0.007, 0.03, 0.1, 0.3), (0.5, 0.75, 0.9)
    ):
        p, q = unlike * share, unlike * (1 - share)
        most = int(images * unlike + 8 * (images * unlike) ** 0.5 + 8)
        wins, losses = (part.ravel() for part in np.mgrid[: most + 1, : most + 1])
        chance = binom.pmf(wins, images, p) * binom.pmf(losses, images - wins, q / (1 - p))
        wins, losses, chance = (
            x[(chance > 1e-7) & (wins + losses <= images)] for x in (wins, losses, chance)
        )
        chance = chance / chance.sum()
        ties = images - wins - losses
        counts = np.stack([losses, ties, wins], 1).astype(float)
        low, high = compute_ends_of_counts(counts, np.array([-1.0, 0.0, 1.0]))
        held = [
            hold_zero(np.repeat([-1.0, 1.0], [down, up]), a, b)
            for down, up, a, b in zip(losses, wins, low.tolist(), high.tolist(), strict=True)
        ]
        low, high = (np.array(side) for side in zip(*held, strict=True))
        mean = (wins - losses) / images
        error = 1.96 * np.sqrt((wins + losses - images * mean**2) / (images - 1) / images)
        truth = p - q
        rows = []
        for one, other in ((mean - error, mean + error), (low, high)):
            inside = (one <= truth + 1e-12) & (truth - 1e-12 <= other)
            rows.append((100 * float(chance[inside].sum()), float(chance @ (other - one))))
        name = f"{images} images, {100 * unlike:g} % differ, {100 * share:g} % of them won"
        yield Row(name, rows[0], rows[1], images * unlike)


def cover_means(trials: int, before: int) -> Iterator[Row]:
    """Gains of three models averaged image by image; the models' gains are half in common."""
    rng = np.random.default_rng(0)
    levels = np.arange(-3, 4) / 3
    for images, unlike, share in itertools.product(
        (40, 100, 400), (0.03, 0.1, 0.3), (0.5, 0.8, 0.95)
    ):
        chances = np.array([unlike * (1 - share), 1 - unlike, unlike * share])
        truth = float(chances[2] - chances[0])
        counts = rng.multinomial(images, compute_mean_chances(chances), trials)
        unique, place = np.unique(counts, axis=0, return_inverse=True)
        low, high = compute_ends_of_counts(unique.astype(float), levels)
        held = [
            hold_zero(np.repeat(levels, row), *ends)
            for row, *ends in zip(unique, low.tolist(), high.tolist(), strict=True)
        ]
        ends = np.array(held)[place.ravel()]
        few = counts[:before] / images
        draw = partial(draw_means, few, images, levels, rng)
        name = f"three models, {images} images, {100 * unlike:g} % differ, {100 * share:g} % won"
        differ = images * float(1 - compute_mean_chances(chances)[3])
        old = bootstrap(draw, images, truth) if before else None
        yield Row(name, old, score(*ends.T, truth), differ)


def draw_means(
    shares: np.ndarray, images: int, levels: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draw as many images anew, from the share of images [trial, level] of each gain."""
    return np.asarray(rng.multinomial(images, shares) @ levels / images)


def compute_mean_chances(chances: np.ndarray) -> np.ndarray:
    """Probabilities of the seven means of three gains −1, 0 or 1 of these `chances`.

    On half of the images all three models have one gain in common, and else each its own.
    """
    own = np.convolve(np.convolve(chances, chances), chances)
    common = np.zeros(7)
    common[::3] = chances
    return np.asarray((own + common) / 2)


# ------------------------------------------------------------------------------------------------
# agreement of predictions, and factors


class Leaving(NamedTuple):
    """A statistic of each trial, and the same without an image of each kind.

    Attributes:
        value: of all images.
        left_out: without an image, by the kind of this image.
        change: how one more image on which the models differ changes the value.
    """

    value: np.ndarray
    left_out: np.ndarray
    change: Change

    def ends(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The ends of `agreement.Found.interval`, from the number of images of each kind."""
        images = counts.sum(1)
        mean = (counts * self.left_out).sum(1) / images
        variance = (images - 1) / images * (counts * (self.left_out - mean[:, None]) ** 2).sum(1)
        bias = (images - 1) * (mean - self.value)
        return compute_unit_ends(self.value, np.sqrt(variance + bias**2), images - 1.0, self.change)


def compute_macro_f1(tables: np.ndarray) -> Leaving:
    """Macro F1 of tables [trial, class, class] of two models' first choices."""
    hits, either = np.diagonal(tables, axis1=1, axis2=2), tables.sum(1) + tables.sum(2)

    def divide(hits: np.ndarray, either: np.ndarray) -> np.ndarray:
        return np.where(either > 0, 2 * hits / np.maximum(either, 1), 0.0)

    f1, present = divide(hits, either), (either > 0).sum(1)
    lost = divide(hits, either - 1) - f1  # a model chose the class and the other did not
    gone = (either == 1).astype(float)
    pairs, number = (
        total[:, None, None] + part[:, :, None] + part[:, None, :]
        for total, part in ((f1.sum(1), lost), (present, -gone))
    )
    left_out = pairs / np.maximum(number, 1)
    same = f1.sum(1)[:, None] + divide(hits - 1, either - 2) - f1
    kinds = np.arange(f1.shape[1])
    left_out[:, kinds, kinds] = same / np.maximum(present[:, None] - (either == 2), 1)
    often = either / either.sum(1, keepdims=True)
    present = present[:, None]
    lost = (2 * hits / (np.maximum(either, 1) + 1) - 2 * hits / np.maximum(either, 1)) / present
    unlike = 1 - (often**2).sum(1)
    alone = (lost * often * (1 - often)).sum(1)
    square = (lost**2 * often * (1 - often)).sum(1)
    both = (lost * often).sum(1) ** 2 - ((lost * often) ** 2).sum(1)
    change = Change(2 * alone / unlike, 2 * (square + both) / unlike)
    return Leaving(f1.sum(1) / present[:, 0], left_out.reshape(len(tables), -1), change)


def compute_right_f1(counts: np.ndarray) -> Leaving:
    """F1 of being right of trials [trial, 4]: both right, the first, the second, none."""
    both, right = counts[:, 0], 2 * counts[:, 0] + counts[:, 1] + counts[:, 2]
    value = 2 * both / right
    without = 2 * both / (right - 1)
    left_out = np.stack([2 * (both - 1) / (right - 2), without, without, value], 1)
    lost = value / (right + 1)
    return Leaving(value, left_out, Change(-lost, lost**2))


def compute_exact_ends(hits: np.ndarray, misses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the exact interval of a share of images, of trials [trial]."""
    with np.errstate(invalid="ignore"):
        low = np.where(hits > 0, betaincinv(hits, misses + 1, 0.025), 0)
        return low, np.where(misses > 0, betaincinv(hits + 1, misses, 0.975), 1)


def compare_with_package(cells: np.ndarray, classes: int, measure: str) -> tuple[float, float]:
    """The interval of `agreement` for images of these cells class · classes + class.

    For F1 of being right the right class is always 0.
    """
    firsts = [torch.from_numpy(x) for x in (cells // classes, cells % classes)]
    labels = np.zeros(len(cells), int)
    models = [
        Predicted.of(torch.eye(classes, dtype=torch.float64)[first], labels, 2) for first in firsts
    ]
    numbers = agreement(*models, [], Draws.of(len(cells)))
    return numbers[Asked(measure, 0, "all")].interval()


def join(often: np.ndarray, same: float) -> np.ndarray:
    """Probabilities [class, class] of two models' choices, the same one with probability `same`."""
    other = np.tile(often, (len(often), 1))
    np.fill_diagonal(other, 0)
    joint = often[:, None] * (1 - same) * other / other.sum(1, keepdims=True)
    return np.asarray(joint + np.diag(often * same))


def find_f1(joint: np.ndarray) -> float:
    """Macro F1 of a joint distribution."""
    return float((2 * joint.diagonal() / (joint.sum(0) + joint.sum(1))).mean())


def draw_f1(shares: np.ndarray, images: int, rng: np.random.Generator) -> np.ndarray:
    """Draw as many images anew, from the share of images [trial, cell] of each pair of classes."""
    return compute_macro_f1(rng.multinomial(images, shares).reshape(-1, 10, 10)).value


def cover_f1(trials: int, before: int) -> Iterator[Row]:
    """F1 of two models' predictions and of being right, shares of the same choices, and the
    difference of two F1."""
    rng = np.random.default_rng(0)
    for balance, same, images in itertools.product((1.0, 0.1), (0.5, 0.75, 0.9, 0.97), (100, 500)):
        often = np.geomspace(1, balance, 10)
        joint = join(often / often.sum(), same)
        counts = rng.multinomial(images, joint.ravel(), trials)
        found = compute_macro_f1(counts.reshape(-1, 10, 10))
        ends = found.ends(counts)
        cells = np.repeat(np.arange(100), counts[0])
        np.testing.assert_allclose([x[0] for x in ends], compare_with_package(cells, 10, "f1"))
        truth = find_f1(joint)
        name = f"F1, {100 * same:g} % alike, classes 1 : {1 / balance:g}, {images} images"
        draw = partial(draw_f1, counts[:before] / images, images, rng)
        old = bootstrap(draw, images, truth) if before else None
        yield Row(name, old, score(*ends, truth), images * (1 - same))
    for right, overlap, images in itertools.product((0.3, 0.7, 0.95), (0.3, 0.9), (100, 500)):
        both = right**2 + overlap * right * (1 - right)
        chances = np.array([both, right - both, right - both, 1 - 2 * right + both])
        counts = rng.multinomial(images, chances, trials)
        low, high = compute_exact_ends(counts[:, 0], counts[:, 1:3].sum(1))
        ends = 2 * low / (1 + low), 2 * high / (1 + high)
        # both, the first, the second and none are right: class 0 is, and class 1 or 2 is not
        cells = np.repeat([0, 1, 3, 4], counts[0])
        np.testing.assert_allclose([x[0] for x in ends], compare_with_package(cells, 3, "f1 right"))
        name = f"F1 of being right, {100 * right:g} % right, κ = {overlap:g}, {images} images"
        old = score(*compute_right_f1(counts).ends(counts), both / right) if before else None
        yield Row(name, old, score(*ends, both / right), images * 2 * (right - both))
    for same, images in itertools.product((0.5, 0.9, 0.97), (100, 500)):
        alike = rng.binomial(images, same, trials)
        ends = compute_exact_ends(alike, images - alike)
        cells = np.repeat([0, 1], [alike[0], images - alike[0]])
        np.testing.assert_allclose([x[0] for x in ends], compare_with_package(cells, 2, "same"))
        name = f"share of images of the same choice, {100 * same:g} %, {images} images"
        yield Row(name, None, score(*ends, same), images * (1 - same))
    yield from cover_f1_differences(trials, rng)
    yield from cover_f1_of_many(trials, rng)


def cover_f1_differences(trials: int, rng: np.random.Generator) -> Iterator[Row]:
    """The paired difference of F1 of a model with two others, by the jackknife with t."""
    often = np.full(10, 0.1)
    for same, images in itertools.product(((0.9, 0.75), (0.75, 0.5)), (100, 500)):
        joints = [join(often, each) for each in same]
        first = rng.integers(0, 10, (trials, images))
        left_out, values = [], []
        for each in same:
            other = (first + rng.integers(1, 10, first.shape)) % 10
            other = np.where(rng.random(first.shape) < each, first, other)
            cells = first * 10 + other
            tables = np.bincount((np.arange(trials)[:, None] * 100 + cells).ravel())
            found = compute_macro_f1(np.resize(tables, (trials, 10, 10)))
            left_out.append(np.take_along_axis(found.left_out, cells, 1))
            values.append(found.value)
        errors = compute_errors(left_out[0] - left_out[1])
        ends = compute_ends(values[0] - values[1], errors, np.array(images - 1.0))
        truth = find_f1(joints[0]) - find_f1(joints[1])
        percents = " and ".join(f"{100 * each:g} %" for each in same)
        name = f"difference of F1, {percents} alike, {images} images"
        yield Row(name, None, score(*ends, truth), images * (1 - same[0]))


def cover_f1_of_many(trials: int, rng: np.random.Generator) -> Iterator[Row]:
    """Macro F1 of a hundred classes, which have five images each, or one."""
    for same, images in ((0.75, 500), (0.9, 500), (0.9, 100)):
        joint = join(np.full(100, 0.01), same)
        counts = rng.multinomial(images, joint.ravel(), min(trials, 1000))
        ends = compute_macro_f1(counts.reshape(-1, 100, 100)).ends(counts)
        name = f"F1, {100 * same:g} % alike, a hundred classes, {images} images"
        covered = score(*ends, find_f1(joint))
        yield Row(name, None, covered, images * (1 - same), promised=images > 100)


class LeftOut(NamedTuple):
    """A number of two pairs of models in each trial, and the same without each image.

    Attributes:
        value: [pair, trial].
        left_out: [pair, trial, image].
        share: the weight of each image in the number.
        truth: the number of the whole pool.
    """

    value: np.ndarray
    left_out: np.ndarray
    share: np.ndarray
    truth: np.ndarray

    def cover(self, name: str) -> Iterator[Row]:
        """Rows of the first pair, and of the paired difference of both (`sampled.Sampled`)."""
        fine = np.isfinite(self.left_out).all(-1)
        first = fine[0]
        ends = compute_ends(
            self.value[0, first],
            compute_errors(self.left_out[0, first]),
            compute_freedom(self.share[0, first]),
        )
        yield Row(name, None, score(*ends, self.truth[0]))
        both = fine.all(0)
        ends = compute_ends(
            self.value[0, both] - self.value[1, both],
            compute_errors(self.left_out[0, both] - self.left_out[1, both]),
            compute_freedom(self.share[:, both].mean(0)),
        )
        yield Row(f"difference of {name}", None, score(*ends, self.truth[0] - self.truth[1]))


def leave_means(values: np.ndarray, members: np.ndarray, rows: np.ndarray) -> LeftOut:
    """Means [pair] over the members among a pool's images, of the images in `rows`."""
    counted = members[:, rows].astype(float)
    sums = np.where(members, values, 0)[:, rows]
    total, number = sums.sum(-1, keepdims=True), counted.sum(-1, keepdims=True)
    truth = np.array([x[chosen].mean() for x, chosen in zip(values, members, strict=True)])
    with np.errstate(divide="ignore", invalid="ignore"):
        left_out = (total - sums) / (number - counted)
        return LeftOut((total / number)[..., 0], left_out, counted / number, truth)


def leave_kappa(right: np.ndarray, rows: np.ndarray) -> LeftOut:
    """Error consistency of the first model with the others."""

    def kappa(a: np.ndarray, b: np.ndarray, both: np.ndarray) -> np.ndarray:
        together, expected = 1 - a - b + 2 * both, a * b + (1 - a) * (1 - b)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((together - expected) / (1 - expected))

    parts = [np.broadcast_to(right[0], right[1:].shape), right[1:], right[0] & right[1:]]
    columns = [part[:, rows].astype(float) for part in parts]
    images = rows.shape[1]
    left_out = kappa(*((x.sum(-1, keepdims=True) - x) / (images - 1) for x in columns))
    share = np.full_like(left_out, 1 / images)
    truth = kappa(*(part.mean(-1) for part in parts))
    return LeftOut(kappa(*(x.mean(-1) for x in columns)), left_out, share, truth)


def cover_tau(trials: int, before: int) -> Iterator[Row]:
    """Kendall's tau over the top five of ten classes, κ, and the difference of two of each.

    Trials draw images from a pool, which three models rank; the first two have more in common.
    """
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, RANKED)
    known = np.eye(10)[labels] * 1.5 + 0.5 * rng.standard_normal((RANKED, 10))
    shared = known + 0.5 * rng.standard_normal((RANKED, 10))
    logits = [x + 0.6 * rng.standard_normal((RANKED, 10)) for x in (shared, shared, known)]
    models = [Predicted.of(torch.from_numpy(x), labels, 5) for x in logits]
    taus = np.stack([tau(models[0].rankings, models[j].rankings, 5) for j in (1, 2)])
    right = np.stack([one.right for one in models])
    members = {
        "all images": np.ones_like(right[1:]),
        "images that both have right": right[0] & right[1:],
        "images that both have wrong": ~right[0] & ~right[1:],
    }
    for images in (40, 100, 500):
        rows = rng.integers(0, RANKED, (trials, images))
        for name, chosen in members.items():
            number = f"tau of {name}, {images} images"
            yield from leave_means(taus, chosen, rows).cover(number)
        yield from leave_kappa(right, rows).cover(f"κ, {images} images")


#: a number with errors of which one in twenty is so much larger
OUTLYING, OUTLIER = "a number with outliers", 4.0


def draw_r2(
    kind: str, r2: float, images: int, trials: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Squared errors and squared distances from the mean [trial, image], of a true R²."""
    shape = (trials, images, 2 if kind == "an angle" else 1)
    if kind == "an angle":
        angle = rng.uniform(0, 2 * np.pi, shape[:2])
        y = np.stack([np.sin(angle), np.cos(angle)], 2)
        noise = rng.standard_normal(shape) / 2**0.5
    else:
        y = rng.uniform(-1, 1, shape) * 3**0.5
        noise = rng.laplace(size=shape) / 2**0.5
    if kind == OUTLYING:
        far = np.where(rng.random(shape) < 0.05, OUTLIER, 1.0)
        noise = rng.standard_normal(shape) * far / (0.95 + 0.05 * OUTLIER**2) ** 0.5
    predicted = r2 * y + (r2 * (1 - r2)) ** 0.5 * noise
    spread = ((y - y.mean(1, keepdims=True)) ** 2).sum(2)
    return ((y - predicted) ** 2).sum(2), spread


def draw_r2_anew(
    errors: np.ndarray, spread: np.ndarray, r2: float, rng: np.random.Generator
) -> tuple[float, float]:
    """Score the percentiles of R² of images that are drawn anew."""
    images, ends = errors.shape[1], []
    for one, other in zip(errors, spread, strict=True):
        rows = rng.integers(0, images, (REPLICATES, images))
        lost = one[rows].sum(1) / other[rows].sum(1)
        ends.append(np.quantile(1 - lost, [0.025, 0.975]))
    return score(*np.array(ends).T, r2)


def cover_r2(trials: int, before: int) -> Iterator[Row]:
    """R² of a number (errors of Laplace's distribution, or outliers) and of an angle."""
    rng = np.random.default_rng(0)
    settings = [
        *itertools.product(("a number", "an angle"), (0.05, 0.3, 0.9, 0.99), (60, 100, 500)),
        *itertools.product((OUTLYING,), (0.3, 0.9), (100, 500, 2000)),
    ]
    for kind, r2, images in settings:
        errors, spread = draw_r2(kind, r2, images, min(trials, 4_000_000 // images), rng)
        found = compute_r2(errors, spread)
        yield Row(
            f"R² = {r2:g} of {kind}, {images} images",
            draw_r2_anew(errors[:before], spread[:before], r2, rng) if before else None,
            score(found.low, found.high, r2),
            promised=kind != OUTLYING or images >= 2000,
        )


# ------------------------------------------------------------------------------------------------
# probes and trainings


def cover_probes(trials: int, before: int) -> Iterator[Row]:
    """Ridge probes whose training and test images are drawn anew in each trial."""
    rng = np.random.default_rng(0)
    middle = 0.55 * rng.standard_normal((10, 16))
    weights = rng.standard_normal((16, 1)) / 4

    def draw(images: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        labels = rng.integers(0, 10, images)
        x = middle[labels] + rng.standard_normal((images, 16))
        factor = x @ weights + 0.5 * rng.standard_normal((images, 1))
        return torch.from_numpy(x), torch.from_numpy(labels), torch.from_numpy(factor)

    far = draw(20_000)
    for train, test in ((100, 100), (500, 100), (500, 500)):
        ends, own, r2_ends, r2_own = [], [], [], []
        for _ in range(max(150, trials // 8)):
            x, labels, factor = draw(train)
            asked, truth, target = draw(test)
            both = torch.cat([asked, far[0]])
            right = (classify(x, labels, both)[0] == torch.cat([truth, far[1]])).numpy()
            ends.append(wilson(int(right[:test].sum()), test))
            own.append(right[test:].mean())
            said = ridge(x, factor, [1e-3]).predict(both)[0].numpy()
            estimate = estimate_r2(target.numpy(), said[:test])
            r2_ends.append((estimate.low, estimate.high))
            r2_own.append(estimate_r2(far[2].numpy(), said[test:]).value)
        name = f"{train} training and {test} test images"
        for what, pairs, truths in (("accuracy", ends, own), ("R²", r2_ends, r2_own)):
            two = np.array(pairs).T
            yield Row(f"{what} of the trained probe, {name}", None, score(*two, np.array(truths)))
            mean = score(*two, float(np.mean(truths)))
            yield Row(f"mean {what} over training sets, {name}", None, mean, promised=False)


def cover_trainings(trials: int, before: int) -> Iterator[Row]:
    """The null over trainings: images within trainings within objectives, all means equal.

    A training's number is normal about its objective's mean, and measured on images with an error.
    The intervals over images alone miss the trainings; those over both hold.
    """
    rng = np.random.default_rng(0)
    for sizes, ratio in itertools.product(((2, 2), (3, 3), (4, 4), (2, 2, 4)), (0.0, 1.0, 3.0)):
        alone, both, decided, welch = [], [], [], []
        for _ in range(trials):
            groups = [ratio * rng.standard_normal(n) for n in sizes]
            image = rng.standard_normal()  # the error of the images, of the difference
            je, rec = groups[:-1], groups[-1]
            value = float(np.mean([group.mean() for group in je]) - rec.mean() + image)
            over = Estimate(value, value - 1.96, value + 1.96, "images", 1000)
            center = np.mean([group.mean() for group in je])
            named = {
                f"o{k}": [
                    float((center * len(je) - group.mean() + x) / len(je) - rec.mean())
                    for x in group
                ]
                for k, group in enumerate(je)
            }
            sides = {"JE": named, "REC": {"mae": [float(center - x) for x in rec]}}
            estimate = estimate_over_trainings(over, sides)
            alone.append((over.low, over.high))
            both.append((estimate.low, estimate.high))
            decided.append(estimate.sign in (1, -1))
            if ratio:
                numbers = {f"o{k}": group.tolist() for k, group in enumerate(je)}
                own = difference_of_means(numbers, {"mae": rec.tolist()})
                welch.append((own.low, own.high))
        defined = np.array(
            [pair for pair in both if np.isfinite(pair).all()] or [(-np.inf, np.inf)]
        )
        name = f"{' and '.join(map(str, sizes))} trainings, their SD {ratio:g} × the images'"
        yield Row(
            f"{name}; wrongly decided {100 * np.mean(decided):.1f} %",
            score(*np.array(alone).T, 0.0),
            score(*defined.T, 0.0),
        )
        if welch:
            own = score(*np.array(welch).T, 0.0)
            yield Row(f"{name}; Welch, without images", None, own, promised=False)


FAMILIES: dict[str, Callable[[int, int], Iterator[Row]]] = {
    "cka": cover_cka,
    "gains": cover_gains,
    "means": cover_means,
    "f1": cover_f1,
    "tau": cover_tau,
    "r2": cover_r2,
    "probes": cover_probes,
    "trainings": cover_trainings,
}


def main() -> None:
    """Measure the chosen families and print their table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("families", nargs="*", choices=[*FAMILIES, []], default=[])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--before", type=int, default=0, help="trials of the method of before")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    lines = [
        "| setting | images that differ | before, % | width | now, % | width |",
        "|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    faults = []
    for name in arguments.families or FAMILIES:
        rows = []
        for row in FAMILIES[name](arguments.trials, arguments.before):
            rows.append(row)
            lines.append(str(row))
            print(row, flush=True)
        shares = [row.new[0] for row in rows if row.promised]
        print(f"\n{name}: {min(shares):.1f} to {max(shares):.1f} %\n", flush=True)
        faults += [f"{row.fault}: {row.setting}" for row in rows if row.fault]
    print("\n".join(faults) or "all within the limits")
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
