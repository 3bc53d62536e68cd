"""How often five kinds of bootstrap intervals of average precision cover, on simulated detections.

    python runs/trials/bootstrap.py 130 1 5 300
    python runs/trials/bootstrap.py 300 10 0.35 300
    python runs/trials/bootstrap.py 200 40 0.15 200

The arguments are images, classes, objects of a class an image, and trials. Two detectors find the
objects of the same images, of which some are harder for both; classes are of unequal number. Each
line gives, for one detector, the other and their difference: the score of 60,000 images ("all"),
the mean score of so many images ("expected"), and by kind of interval how often it holds the one
and the other. "normal" is the kind that `sslens.statistics.bootstrap` has.
"""

import sys

import numpy as np

from sslens.scoring.matches import Matches
from sslens.statistics.bootstrap import draw_weights

DRAWS = 400
ALL = 60_000


def make(
    generator: np.random.Generator, images: int, classes: int, objects: float
) -> list[Matches]:
    """The matches of two detectors on the same images."""
    rates = 1 / np.arange(1, classes + 1)
    rates *= objects / rates.mean()
    image, label = list_units(generator.poisson(rates, (images, classes)))
    ease = generator.normal(0, 1, images)
    base = (np.linspace(-1, 1, classes) if classes > 1 else np.zeros(1))[label]
    base = base + ease[image] + 0.7 * generator.normal(0, 1, len(image))
    made = []
    for skill in (0.0, 0.3):
        found = base + skill + generator.logistic(0, 0.5, len(image)) > 0
        sure = base + skill + generator.normal(0, 1, len(image))
        wrong = rates * np.exp(-0.3 * ease[:, None] - 0.3 * skill)
        wrong_image, wrong_label = list_units(generator.poisson(wrong))
        images_, labels = (
            np.concatenate(pair)
            for pair in ((image[found], wrong_image), (label[found], wrong_label))
        )
        scores = np.concatenate([sure[found], generator.normal(-0.8, 1, len(wrong_image))])
        order = np.lexsort((images_, -scores, labels))
        true = (np.arange(len(images_)) < found.sum())[order][None, None]
        counted = np.ones((1, len(image)), bool)
        made.append(Matches(images_[order], labels[order], true, ~true, image, label, counted))
    return made


def list_units(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Image and class of each of so many things."""
    image, label = np.nonzero(counts)
    return np.repeat(image, counts[image, label]), np.repeat(label, counts[image, label])


def compute_ap(matches: Matches, weights: np.ndarray, classes: int) -> np.ndarray:
    """The mean over classes that a draw holds."""
    return np.asarray(np.nanmean(matches.average_precisions(weights, classes)[0, 0], axis=0))


def main(images: int, classes: int, objects: float, trials: int) -> None:
    """Print the coverage of each kind of interval."""
    generator = np.random.default_rng(1)
    everything = make(generator, ALL, classes, objects)
    truth = [float(compute_ap(one, np.ones((ALL, 1)), classes)[0]) for one in everything]
    truth.append(truth[1] - truth[0])
    rows = []
    for trial in range(trials):
        pair = make(generator, images, classes, objects)
        weights = np.concatenate([np.ones((images, 1)), draw_weights(images, DRAWS, trial)], axis=1)
        both = [compute_ap(one, weights, classes) for one in pair]
        rows.append([*both, both[1] - both[0]])
    values = np.array(rows)  # trial, thing, undrawn and drawn
    for at, name in enumerate(("one", "other", "difference")):
        value, draws = values[:, at, 0], values[:, at, 1:]
        low, high = np.quantile(draws, [0.025, 0.975], axis=1)
        bias, error = draws.mean(1) - value, draws.std(1)
        ends = {
            "percentile": (low, high),
            "reflected": (2 * value - high, 2 * value - low),
            "shifted": (low - bias, high - bias),
            "corrected": (low - 2 * bias, high - 2 * bias),
            "normal": (value - 1.96 * error, value + 1.96 * error),
        }
        shares = ", ".join(
            f"{kind} {share(one, truth[at]):.3f} {share(one, value.mean()):.3f}"
            for kind, one in ends.items()
        )
        print(
            f"{images} images, {classes} classes, {name}: all {truth[at]:.4f}, expected"
            f" {value.mean():.4f}, sd {value.std():.4f}, of draws {error.mean():.4f}; {shares}"
        )


def share(ends: tuple[np.ndarray, np.ndarray], value: float) -> float:
    """How many of the intervals hold a value."""
    return float(((ends[0] <= value) & (value <= ends[1])).mean())


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
