"""How often a difference is called decided where there is none, on real models and images.

    python runs/false_decisions.py                      500 repetitions, about a minute of a core
    python runs/false_decisions.py --trials 100 --models scenes_mae scenes_mae_seed1 scenes_dino

Two models A and B are held against each other, and both against a third. In each repetition their
values are exchanged at random, image by image or minibatch by minibatch, so that no true difference
is left; everything after that is the code of the analyses. At most 5 % of the differences may be
decided (an interval that leaves out 0, `Estimate.sign`):

- the gain of A over B in 20-NN accuracy, and in the accuracy of a ridge probe;
- the mean gain of a family of two, A and the third less B and the third;
- the difference of tau, F1 and kappa, A with the third less B with the third;
- the difference of CKA, A with the third less B with the third, last block.

Nulls over trainings are in `runs/coverage.py trainings`.
"""

import argparse
from dataclasses import dataclass

import numpy as np
import torch

import sslens
from sslens.capture import Grams
from sslens.data.images import ImageSet
from sslens.measures.cka import Comparison
from sslens.probes.agreement import Draws, Predicted, agreement
from sslens.probes.knn import knn
from sslens.probes.ridge import ridge
from sslens.statistics.estimate import Estimate
from sslens.statistics.gains import estimate_gain
from sslens.statistics.sampled import Sampled


@dataclass(frozen=True, eq=False)
class Read:
    """What is read of a model: which images 20-NN has right, a probe's logits, and the Grams."""

    near: np.ndarray
    logits: torch.Tensor
    grams: Grams


def read(name: str, images: ImageSet, labels: np.ndarray) -> Read:
    """Pass the images through a model once for its features and once for its Grams."""
    model = sslens.load(name)
    features = sslens.features(model, images)
    values = features.read(features.taps[-1].name, "cls")
    classes = torch.tensor(labels)
    near = knn(values, values, classes, k=20, how="weighted", leave_one_out=True) == labels
    targets = torch.nn.functional.one_hot(classes).double()
    left_out = ridge(values, targets).left_out
    logits = left_out[int((left_out - targets).square().mean((1, 2)).argmin())]
    return Read(near, logits, sslens.grams(model, images).at("block"))


def exchange(one: torch.Tensor, other: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """The first, with the rows of the other where `rows` says so."""
    return torch.where(rows.view(-1, *[1] * (one.ndim - 1)), other, one)


@dataclass(frozen=True)
class Swapped:
    """A `Ratios` of one pair of taps, from its parts."""

    cross: torch.Tensor
    own_a: torch.Tensor
    own_b: torch.Tensor
    defined: torch.Tensor
    seen: None = None


def main() -> None:
    """Print the percentage of repetitions in which each difference is decided."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--models", nargs=3, default=["scenes_mae", "scenes_moco_v3", "scenes_dino"]
    )
    parser.add_argument("--images", default="scenes:1:480")
    parser.add_argument("--trials", type=int, default=500)
    arguments = parser.parse_args()
    images = sslens.open_images(arguments.images)
    labels = np.asarray(images.labels)
    a, b, third = (read(name, images, labels) for name in arguments.models)
    beside = [Comparison.of(one.grams, third.grams) for one in (a, b)]
    rng, draws = np.random.default_rng(0), Draws.of(len(labels))
    reference = Predicted.of(third.logits, labels, 5)
    decided: dict[str, list[bool]] = {}

    def note(name: str, estimate: Estimate) -> None:
        decided.setdefault(name, []).append(estimate.sign in (1, -1))

    right = [Predicted.of(one.logits, labels, 5).right for one in (a, b, third)]
    for _ in range(arguments.trials):
        swap = rng.random(len(labels)) < 0.5
        sign = np.where(swap, -1.0, 1.0)
        note("gain, 20-NN", estimate_gain(sign * (a.near.astype(float) - b.near)))
        gain = sign * (right[0].astype(float) - right[1])
        note("gain, probe", estimate_gain(gain))
        note("mean gain of two", estimate_gain(gain / 2))
        rows = torch.from_numpy(swap)
        logits = exchange(a.logits, b.logits, rows), exchange(b.logits, a.logits, rows)
        sides = [agreement(Predicted.of(one, labels, 5), reference, [5], draws) for one in logits]
        for key in sides[0]:
            low, high = (sides[0][key].sampled - sides[1][key].sampled).interval()
            estimate = Estimate(0.0, float(low), float(high), "images", sides[0][key].images)
            note(f"difference of {key.measure}, {key.images}", estimate)
        batches = torch.from_numpy(rng.random(beside[0].cross.shape[-1]) < 0.5)
        values = []
        for one, other in (beside, beside[::-1]):
            cross = torch.where(batches, other.cross[-1:, -1:], one.cross[-1:, -1:])
            own = torch.where(batches, other.own_a[-1:], one.own_a[-1:])
            parts = Swapped(cross, own, one.own_b[-1:], one.defined[-1:, -1:])
            values.append(Sampled.of(parts)[0])
        low, high = (values[0] - values[1]).interval()
        ends = float(low[0]), float(high[0])
        note("difference of CKA", Estimate(0.0, *ends, "minibatches", len(batches)))
    print(f"| {len(labels)} images, {' · '.join(arguments.models)} | decided, % |\n|---|---|")
    for name, outcomes in decided.items():
        print(f"| {name} | {100 * np.mean(outcomes):.1f} |")


if __name__ == "__main__":
    main()
