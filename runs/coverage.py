"""How often the intervals of `sslens.statistics` hold the true value, and how wide they are.

    python runs/coverage.py                        all families of settings, some minutes
    python runs/coverage.py cka gains --trials 4000 --out coverage.md

A family is `cka` (ratios over minibatches), `gains` (paired accuracies), `means` (gains of several
models), `f1`, `tau`, `r2`, `probes` (data drawn anew and the probe trained anew) or `trainings` (an
objective's trainings drawn anew). Each row has a setting, the share of 95 % intervals that hold the
truth and their mean width, by the method of before and by today's, where there was another:

- cka: expanded percentiles of 400 bootstrap draws of minibatches, against the jackknife with t;
- gains: mean ± 1.96 standard errors, against the score interval with the exact test. Nothing is
  drawn: all tables of wins and losses are weighted by their probability;
- means: expanded percentiles, against the same score interval;
- f1, tau, r2: percentiles of 400 bootstrap draws of images, against the jackknife.

The truth is known: of `cka` it is the value of the whole pool of 30,000 minibatches that trials
draw from, of `f1` that of the joint distribution, of `tau` a sample of 40,000 images.
`probes` has two truths: the accuracy of the trained probe itself on 20,000 further images, which
its interval is about, and the mean accuracy over all training sets, which it is not about.
"""

import argparse
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.special import ndtr, stdtrit
from scipy.stats import binom

from sslens.measures.cka import u_centre
from sslens.probes.agreement import Draws, Predicted, agreement
from sslens.probes.ridge import classify, ridge
from sslens.statistics.estimate import Estimate
from sslens.statistics.explained import estimate_r2
from sslens.statistics.gains import compute_ends_of_counts, estimate_gain, hold_zero
from sslens.statistics.jackknife import compute_ends, compute_errors, compute_freedom
from sslens.statistics.proportions import wilson
from sslens.statistics.runs import difference_of_means
from sslens.statistics.trainings import estimate_over_trainings

#: draws of the bootstrap of the method of before, and minibatches that trials draw from
REPLICATES, POOL = 400, 30_000


@dataclass(frozen=True)
class Row:
    """A setting: the coverage in percent and the mean width, of before and of today."""

    setting: str
    old: tuple[float, float] | None
    new: tuple[float, float]

    def __str__(self) -> str:
        cells = [
            "– | –" if one is None else f"{one[0]:.1f} | {one[1]:.3g}"
            for one in (self.old, self.new)
        ]
        return f"| {self.setting} | {' | '.join(cells)} |"


def score(low: np.ndarray, high: np.ndarray, truth: float | np.ndarray) -> tuple[float, float]:
    """The percentage of intervals that hold the truth, and their mean width."""
    held = (low <= truth + 1e-12) & (truth - 1e-12 <= high)
    return 100 * float(held.mean()), float((high - low).mean())


def expand(draws: np.ndarray, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """The expanded percentile interval of before (Hesterberg, 2015); draws stand last."""
    far = ndtr(-((parts / (parts - 1)) ** 0.5) * stdtrit(parts - 1, 0.975))
    low, high = np.quantile(draws, [far, 1 - far], axis=-1)
    return low, high


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


def cover_cka(trials: int) -> Iterator[Row]:
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
            few = parts[: max(200, trials // 4)]
            draws = np.empty((len(few), REPLICATES))
            for k in range(REPLICATES):
                counts = rng.multinomial(batches, np.full(batches, 1 / batches), size=len(few))
                draws[:, k] = take(np.einsum("tn,tnij->tij", counts, few), contrast)
            old = score(*expand(draws, batches), truth)
            yield Row(f"{name}, σ = {sigma:g}, {batches} minibatches", old, score(*ends, truth))


# ------------------------------------------------------------------------------------------------
# gains of accuracy


def cover_gains(trials: int) -> Iterator[Row]:
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
        expected = f"{100 * unlike:g} % differ ({images * unlike:.1f})"
        name = f"{images} images, {expected}, {100 * share:g} % of them won"
        yield Row(name, rows[0], rows[1])


def cover_means(trials: int) -> Iterator[Row]:
    """Gains of three models averaged image by image; the models' gains are half in common."""
    rng = np.random.default_rng(0)
    trials = max(200, trials // 8)
    for images, unlike, share in itertools.product((40, 100, 400), (0.03, 0.1, 0.3), (0.5, 0.8)):
        chances = [unlike * (1 - share), 1 - unlike, unlike * share]
        truth, ends, old = unlike * (2 * share - 1), [], []
        for _ in range(trials):
            own = rng.choice([-1.0, 0, 1], p=chances, size=(3, images))
            common = rng.choice([-1.0, 0, 1], p=chances, size=images)
            gains = np.where(rng.random(images) < 0.5, common, own).mean(0)
            estimate = estimate_gain(gains)
            ends.append((estimate.low, estimate.high))
            draws = gains[rng.integers(0, images, (REPLICATES, images))].mean(1)
            old.append(expand(draws, images))
        name = f"three models, {images} images, {100 * unlike:g} % differ, {100 * share:g} % won"
        yield Row(name, score(*np.array(old).T, truth), score(*np.array(ends).T, truth))


# ------------------------------------------------------------------------------------------------
# agreement of predictions, and factors


def cover_f1(trials: int) -> Iterator[Row]:
    """F1 of two models' predictions: ten classes, alike often or as 1 : 10."""
    rng = np.random.default_rng(0)
    trials = max(200, trials // 4)
    for balance, same, images in itertools.product((1.0, 0.1), (0.5, 0.75, 0.9, 0.97), (100, 500)):
        often = np.geomspace(1, balance, 10)
        often /= often.sum()
        other = np.tile(often, (10, 1))
        np.fill_diagonal(other, 0)
        joint = often[:, None] * (1 - same) * other / other.sum(1, keepdims=True)
        joint += np.diag(often * same)
        truth = float((2 * joint.diagonal() / (joint.sum(0) + joint.sum(1))).mean())
        draws, ends, old = Draws.of(images), [], []
        for _ in range(trials):
            cells = rng.choice(100, p=joint.ravel(), size=images)
            models = [
                Predicted.of(
                    torch.eye(10, dtype=torch.float64)[torch.from_numpy(x)], cells // 10, 2
                )
                for x in (cells // 10, cells % 10)
            ]
            numbers = agreement(*models, [], draws)
            ends.append(next(one for key, one in numbers.items() if key.measure == "f1").interval())
            if len(old) < 200:
                tables = rng.multinomial(
                    images, np.bincount(cells, minlength=100) / images, REPLICATES
                )
                tables = tables.reshape(-1, 10, 10)
                total = tables.sum(1) + tables.sum(2)
                f1 = 2 * np.diagonal(tables, axis1=1, axis2=2) / np.maximum(total, 1)
                old.append(expand(f1.sum(1) / (total > 0).sum(1), images))
        name = f"F1, {100 * same:g} % alike, classes 1 : {1 / balance:g}, {images} images"
        yield Row(name, score(*np.array(old).T, truth), score(*np.array(ends).T, truth))


def draw_rankings(images: int, rng: np.random.Generator) -> list[Predicted]:
    """Three models that rank ten classes; the first two have more in common."""
    labels = rng.integers(0, 10, images)
    known = np.eye(10)[labels] * 1.5 + 0.5 * rng.standard_normal((images, 10))
    shared = known + 0.5 * rng.standard_normal((images, 10))
    logits = [x + 0.6 * rng.standard_normal((images, 10)) for x in (shared, shared, known)]
    return [Predicted.of(torch.from_numpy(x), labels, 10) for x in logits]


def cover_tau(trials: int) -> Iterator[Row]:
    """Kendall's tau over the top five of ten classes, and the difference of two."""
    rng = np.random.default_rng(0)
    many = draw_rankings(40_000, rng)
    whole = [agreement(many[0], many[j], [5], Draws.of(40_000, 50)) for j in (1, 2)]
    for images in (40, 100, 500):
        draws = Draws.of(images)
        ends: dict[str, list[tuple[float, float]]] = {}
        truths = {}
        for _ in range(max(150, trials // 8)):
            models = draw_rankings(images, rng)
            near, far = (agreement(models[0], models[j], [5], draws) for j in (1, 2))
            for key in near:
                if key.measure == "tau" or key.measure == "kappa":
                    name = f"{key.measure} of images that are {key.images}"
                    ends.setdefault(name, []).append(near[key].interval())
                    truths[name] = float(whole[0][key].sampled.value)
                    low, high = (near[key].sampled - far[key].sampled).interval()
                    ends.setdefault(f"difference of {name}", []).append((float(low), float(high)))
                    truths[f"difference of {name}"] = truths[name] - float(
                        whole[1][key].sampled.value
                    )
        for name, pairs in ends.items():
            defined = np.array([pair for pair in pairs if np.isfinite(pair).all()])
            yield Row(f"{name}, {images} images", None, score(*defined.T, truths[name]))


def cover_r2(trials: int) -> Iterator[Row]:
    """R² of a number (errors of Laplace's distribution) and of an angle."""
    rng = np.random.default_rng(0)
    trials = max(200, trials // 4)
    for kind, r2, images in itertools.product(
        ("number", "angle"), (0.3, 0.9, 0.99), (60, 100, 500)
    ):
        ends, old = [], []
        for _ in range(trials):
            if kind == "number":
                y = rng.uniform(-1, 1, (images, 1)) * 3**0.5
                noise = rng.laplace(size=(images, 1)) / 2**0.5
            else:
                angle = rng.uniform(0, 2 * np.pi, images)
                y = np.stack([np.sin(angle), np.cos(angle)], 1)
                noise = rng.standard_normal((images, 2)) / 2**0.5
            predicted = r2 * y + (r2 * (1 - r2)) ** 0.5 * noise
            estimate = estimate_r2(y, predicted)
            ends.append((estimate.low, estimate.high))
            rows = rng.integers(0, images, (REPLICATES, images))
            errors = ((y - predicted) ** 2).sum(1)[rows].sum(1)
            spread = (y[rows] - y[rows].mean(1, keepdims=True)) ** 2
            old.append(np.quantile(1 - errors / spread.sum((1, 2)), [0.025, 0.975]))
        yield Row(
            f"R² = {r2:g} of a {kind}, {images} images",
            score(*np.array(old).T, r2),
            score(*np.array(ends).T, r2),
        )


# ------------------------------------------------------------------------------------------------
# probes and trainings


def cover_probes(trials: int) -> Iterator[Row]:
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
            yield Row(
                f"mean {what} over training sets, {name}", None, score(*two, float(np.mean(truths)))
            )


def cover_trainings(trials: int) -> Iterator[Row]:
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
            yield Row(f"{name}; Welch, without images", None, score(*np.array(welch).T, 0.0))


FAMILIES: dict[str, Callable[[int], Iterator[Row]]] = {
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
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    lines = ["| setting | before, % | width | now, % | width |", "|---|---|---|---|---|"]
    print("\n".join(lines))
    for name in arguments.families or FAMILIES:
        for row in FAMILIES[name](arguments.trials):
            lines.append(str(row))
            print(row, flush=True)
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
