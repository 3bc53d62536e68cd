"""The default linear probe beside scikit-learn's logistic regression, on the features of models.

    python bench/logistic.py  # every card scenes_*: a minute each on one thread
    python bench/logistic.py runs/mae runs/moco --images cifar10:train --train 4000
    python bench/logistic.py --synthetic --device cuda  # 768 dimensions, 10,000 images

Of each model: seconds of the whole path of penalties for all taps and poolings, on 4/5 of --train
images with the rest to choose on; the largest certificate; how many choices lie inside the path.
Then scikit-learn, at tol 1e-8 and up to 100,000 steps, on --heads of the same features and at the
same penalties: seconds, scaled to all heads; the least share of test images for which both predict
the same class; and the largest difference in test accuracy, each at its own chosen penalty.

Targets: at least 5 times as fast; the same predictions for 99.5 % of images or more at every
penalty; within 0.5 points at the chosen penalty; the choice inside the path in all.
"""

import argparse
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

import sslens
from sslens.probes.logistic import PENALTIES, LogisticProbe, fit_logistic

Heads = dict[str, torch.Tensor]


@dataclass
class Parts:
    """Rows of the features."""

    train: slice
    validation: slice
    test: slice


def seconds() -> float:
    """Processor time: other work on the machine counts little."""
    return time.process_time()


def fit(
    heads: Heads, labels: torch.Tensor, train: slice, asked: slice, **options: object
) -> list[LogisticProbe]:
    return fit_logistic(
        [x[train] for x in heads.values()],
        labels[train],
        [x[asked] for x in heads.values()],
        labels[asked],
        **options,  # type: ignore[arg-type]
    )


def choose(right: Sequence[float], loss: Sequence[float]) -> int:
    """As our probe does: most right, of equal ones one inside, with the least cross-entropy."""
    last = len(right) - 1
    return min(range(last + 1), key=lambda row: (-right[row], row in (0, last), loss[row]))


def oracle(x: torch.Tensor, labels: torch.Tensor, parts: Parts) -> tuple[list[np.ndarray], float]:
    """Predictions of the test images at each penalty, and the test accuracy at the chosen one."""
    train = x[parts.train].double()
    scale = train.std(0, unbiased=False)
    scale = torch.where(scale > 1e-7 * train.mean(0).abs(), scale, torch.inf)
    z, y = ((x.double() - train.mean(0)) / scale).numpy(), labels.numpy()
    predicted, right, loss = [], [], []
    for penalty in PENALTIES:
        one = LogisticRegression(C=1 / (penalty * len(train)), tol=1e-8, max_iter=100_000)
        one.fit(z[parts.train], y[parts.train])
        predicted.append(one.predict(z[parts.test]))
        chance = one.predict_log_proba(z[parts.validation])
        own = y[parts.validation]
        right.append(float((one.classes_[chance.argmax(1)] == own).mean()))
        loss.append(-float(chance[np.arange(len(own)), np.searchsorted(one.classes_, own)].mean()))
    chosen = predicted[choose(right, loss)]
    return predicted, float((chosen == y[parts.test]).mean())


def compare(name: str, heads: Heads, labels: torch.Tensor, parts: Parts, count: int) -> None:
    began = seconds()
    probes = fit(heads, labels, parts.train, parts.validation)
    ours = seconds() - began
    gap = max(trial.gap for probe in probes for trial in probe.path)
    inside = sum(probe.inside for probe in probes)
    every = np.linspace(0, len(heads) - 1, count).round().astype(int)
    some = [list(heads)[number] for number in sorted(set(every.tolist()))]
    there = {head: heads[head] for head in some}
    onto = fit(there, labels, parts.train, parts.test, widen=False)
    began, same, apart = seconds(), [], []
    for head, probe in zip(some, onto, strict=True):
        predicted, accuracy = oracle(heads[head], labels, parts)
        same += [
            float((trial.predicted.numpy() == one).mean())
            for trial, one in zip(probe.path, predicted, strict=True)
        ]
        chosen = probes[list(heads).index(head)]
        own = chosen.predict(heads[head][parts.test]) == labels[parts.test]
        apart.append(abs(float(own.double().mean()) - accuracy))
    theirs = (seconds() - began) * len(heads) / len(some)
    print(
        f"{name:<24} {len(heads):3} heads {ours:6.1f} s, scikit-learn {theirs:7.1f} s"
        f" ({theirs / ours:5.1f} ×); certificate {gap:.1e}; inside {inside}/{len(heads)};"
        f" same {min(same):.4f} (mean {np.mean(same):.4f}); accuracy apart {max(apart):.4f}",
        flush=True,
    )


def measure(model: str, options: argparse.Namespace) -> None:
    images = sslens.open_images(options.images)
    features = sslens.features(sslens.load(model), images)
    if images.labels is None:
        raise SystemExit(f"{options.images} has no classes")
    row = {name: number for number, name in enumerate(images.ids)}
    labels = torch.tensor(np.array(images.labels))[[row[name] for name in features.ids]]
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    kept = options.train * 4 // 5
    parts = Parts(slice(kept), slice(kept, options.train), slice(options.train, None))
    heads = {"/".join(column): features.read(*column).float()[order] for column in features.columns}
    compare(model, heads, labels[order], parts, options.heads)


def synthesise(options: argparse.Namespace) -> None:
    """Time of one path on features with the spectrum of a network's, classes some way apart."""
    generator = torch.Generator().manual_seed(0)
    n, dim, classes = options.rows, options.dim, options.classes
    labels = torch.arange(n + n // 5) % classes
    middles = torch.randn(classes, dim, generator=generator)
    heads = {}
    for number in range(options.heads):
        x = torch.randn(len(labels), dim, generator=generator) + 0.3 * middles[labels]
        turn = torch.linalg.qr(torch.randn(dim, dim, generator=generator)).Q
        heads[str(number)] = x * torch.logspace(0, -2, dim) @ turn
    began, processor = time.perf_counter(), seconds()
    probes = fit(heads, labels, slice(n), slice(n, None), device=options.device)
    gap = max(trial.gap for probe in probes for trial in probe.path)
    steps = sum(trial.products for probe in probes for trial in probe.path)
    memory = ""
    if options.device != "cpu":
        memory = f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
    print(
        f"{len(heads)} heads, {n:,} × {dim}, {classes} classes, {options.device}:"
        f" {time.perf_counter() - began:.1f} s, {seconds() - processor:.1f} s of cores{memory};"
        f" {steps} products; certificate {gap:.1e};"
        f" inside {sum(probe.inside for probe in probes)}/{len(probes)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--images", default="scenes:1:3000")
    parser.add_argument("--train", type=int, default=2000, help="to train and choose on")
    parser.add_argument("--heads", type=int, default=3, help="that scikit-learn fits, too")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--synthetic", action="store_true")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore", ConvergenceWarning)
    if options.synthetic:
        synthesise(options)
        return
    folder = Path(str(sslens.__file__)).parent / "cards"
    cards = sorted(path.stem for path in folder.glob("scenes_*.yaml"))
    for model in options.models or cards:
        measure(model, options)


if __name__ == "__main__":
    main()
