"""The encoder watch: k-NN on held-out images, and the spread and the rank of features, measured
while a training goes on.

The encoder is copied and the copy is put in evaluation mode, and no random number is drawn. So a
run with a watch ends with the same weights, bit for bit, as a run without one.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from sslens.capture import FeatureReducer, collect
from sslens.data.classes import require_labels
from sslens.data.decoded import Decoded
from sslens.data.images import ImageSet
from sslens.data.transform import EvalTransform
from sslens.errors import InputError
from sslens.models.backbone import Backbone
from sslens.plan import SMALLEST, Plan
from sslens.probes.effective_rank import measure_effective_rank
from sslens.probes.knn import knn
from sslens.training.observers import BeginObserver, Findings, RunningTraining
from sslens.training.reading import copy_encoder
from sslens.training.schedule import Schedule
from sslens.training.signs import measure_spread
from sslens.training.states import StateKeeper

#: of the images of one set, the share that is classified by the others
QUERIES = 0.2
#: number of training images of which spread and rank are measured where none are held out
SAMPLE = 128

#: neighbours that vote, and the temperature of their votes: one usual reading of `sslens compare`
K, TEMPERATURE = 20, 0.07


@final
@dataclass(frozen=True)
class HeldOut:
    """Labelled images for k-NN: the images of `bank` vote on the class of each image of `queries`.

    Raises:
        InputError: a set has no labels or fewer than 4 images, or the queries have a class that the
            bank lacks.
    """

    queries: ImageSet
    bank: ImageSet

    def __post_init__(self) -> None:
        for images in (self.queries, self.bank):
            mend = "give a folder with a subfolder a class, or an index file with labels"
            require_labels(images, "k-NN wants them", mend)
            if len(images) < SMALLEST:
                raise InputError(
                    f"{len(images)} of {images.name} are too few images for k-NN",
                    mend=f"give {SMALLEST} or more to classify, and as many to classify them by",
                )
        unknown = sorted(set(self.queries.classes) - set(self.bank.classes))
        if unknown:
            raise InputError(
                f'{self.bank.name} has no class "{unknown[0]}", which {self.queries.name} has.'
            )

    @property
    def k(self) -> int:
        """The number of neighbours that vote: 20, or all of a smaller bank."""
        return min(K, len(self.bank))

    def describe_votes(self) -> str:
        """Describe how k-NN is computed, as a clause.

        >>> import sslens
        >>> HeldOut.split(sslens.open_images("scenes:0:64")).describe_votes()
        'k = 20, temperature 0.07, features in float32'
        """
        return f"k = {self.k}, temperature {TEMPERATURE:g}, features in float32"

    @classmethod
    def split(cls, images: ImageSet) -> "HeldOut":
        """Split a set by SHA-256 of the ids: about a fifth become queries, the others the bank."""
        chosen = [_draw(name) < QUERIES for name in images.ids]
        return cls(
            queries=images.take([row for row, query in enumerate(chosen) if query]),
            bank=images.take([row for row, query in enumerate(chosen) if not query]),
        )


def _draw(name: str) -> float:
    """A number from 0 to 1 that an image's id decides."""
    return int.from_bytes(hashlib.sha256(f"knn/{name}".encode()).digest()[:8], "big") / 2**64


@final
@dataclass(frozen=True)
class Watch:
    """What is measured while a run goes on, and how often.

    Attributes:
        every: the number of epochs between measurements, which may be a fraction; for None a
            twentieth of the run, in whole epochs. The encoder is also measured after the last step.
        held: images for k-NN; None measures the spread and the rank alone.
        states: whether the state of the encoder is also kept at each measurement
            (`sslens.training.states`), as Grams of 256 of the images that k-NN classifies, or of
            the training images where none are held out.
        tell: functions that are called with every line of the log.

    Raises:
        InputError: `every` is not above 0.
    """

    every: float | int | None = None
    held: HeldOut | None = None
    states: bool = False
    tell: tuple[Callable[[Mapping[str, int | float | str]], None], ...] = ()

    def __post_init__(self) -> None:
        if self.every is not None and not self.every > 0:
            raise InputError(f"k-NN every {self.every} epochs cannot be", mend="give more than 0")

    def due(self, step: int, per_epoch: int, steps: int) -> bool:
        """Whether the encoder is measured after a step, counted from 1.

        >>> [step for step in range(1, 11) if Watch(every=2).due(step, per_epoch=2, steps=10)]
        [4, 8, 10]
        >>> [step for step in range(1, 11) if Watch(every=0.5).due(step, per_epoch=6, steps=10)]
        [3, 6, 9, 10]
        """
        every = self.every or max(1, steps // per_epoch // 20)
        return step == steps or step % max(1, round(every * per_epoch)) == 0

    def count_looks(self, schedule: Schedule, held: HeldOut | None) -> tuple[int, int]:
        """Count the images that a look sees, and the looks of a run."""
        seen = SAMPLE if held is None else len(held.queries) + len(held.bank)
        steps = range(1, schedule.steps + 1)
        return seen, sum(self.due(step, schedule.epoch, schedule.steps) for step in steps)

    def observers(self) -> tuple[BeginObserver, ...]:
        """Return what makes the observers of a training: the one that measures it, and the one that
        keeps its states where they are kept."""
        return (self.begin, self.begin_states) if self.states else (self.begin,)

    def begin(self, run: RunningTraining) -> "EncoderWatch":
        """Make the observer that measures a training."""
        return EncoderWatch(self, run)

    def begin_states(self, run: RunningTraining) -> StateKeeper:
        """Make the observer that keeps the states of a training."""
        schedule = run.schedule
        images = run.images if self.held is None else self.held.queries
        return StateKeeper(run, images, lambda step: self.due(step, schedule.epoch, schedule.steps))


@final
class EncoderWatch:
    """The observer that measures the encoder of a training when its `Watch` says so."""

    def __init__(self, watch: Watch, run: RunningTraining) -> None:
        self._watch, self._run = watch, run
        family = str(run.job.about.family)
        self._looks = EncoderLooks(watch.held, run.images, run.job.transform, family)

    def due(self, step: int) -> bool:
        """Whether the encoder is measured after a step; see `Watch.due`."""
        schedule = self._run.schedule
        return self._watch.due(step, schedule.epoch, schedule.steps)

    def look(self, step: int) -> Findings:
        """Measure the encoder; the progress bar shows the accuracies of k-NN."""
        run = self._run
        numbers = self._looks.look(run.method.encoder, run.where.device)
        return Findings(numbers, tuple(name for name in numbers if name.startswith("knn")))


@final
class EncoderLooks:
    """Measures an encoder again and again on the same images, which are decoded once.

    Args:
        held: images for k-NN; the spread and the rank are measured on its queries.
        images: the training images; where `held` is None, the spread and the rank are measured on a
            sample of them.
        transform: how images are prepared for the encoder.
        family: the objective's family, "JE", "REC" or "supervised".
    """

    def __init__(
        self, held: HeldOut | None, images: ImageSet, transform: EvalTransform, family: str
    ) -> None:
        self.held, self.family, self.transform = held, family, transform
        sets = {"queries": images.sample(SAMPLE, 0)}
        if held is not None:
            sets = {"queries": held.queries, "bank": held.bank}
        self.sets = {
            name: Decoded(chosen, transform)
            for name, chosen in sets.items()
            if len(chosen) >= SMALLEST
        }

    def look(self, encoder: nn.Module, device: str) -> dict[str, float]:
        """Measure the spread and the ranks of the last layer's features, and the accuracy of k-NN
        by pooling.

        The features are computed in float32 whatever the training's precision is, so that they are
        those which a command computes from the encoder's file: in bfloat16 k-NN had 71 of 106
        images right where it has 69 by the file.

        The spread is measured on the CLS token where the objective trains it to tell images apart
        ("JE"), else on the mean of the patches. Where torch.distributed is running, its processes
        share the images.

        Returns:
            "spread", from 0 to 1; "rank_cls" and "rank_patch" (or "rank_mean"), the effective ranks
                (`sslens.probes.effective_rank`); and with held-out images "knn_cls" and "knn_patch"
                (or "knn_mean"), the shares of the queries that are classified right, and
                "knn_images", the number of the queries. Empty where a
                feature is not finite.
        """
        model = copy_encoder(encoder, self.transform)
        made = {name: self._features(model, name, device) for name in self.sets}
        tensors = [tensor for features, _ in made.values() for tensor in features.values()]
        if not made or not all(torch.isfinite(tensor).all() for tensor in tensors):
            return {}
        queries, _ = made["queries"]
        wanted = ("cls", "patch", "mean") if self.family == "JE" else ("patch", "mean")
        numbers = {
            "spread": measure_spread(
                queries[next(pooling for pooling in wanted if pooling in queries)]
            )
        }
        numbers |= {
            f"rank_{name}": measure_effective_rank(queries[name]) for name in _poolings(queries)
        }
        return numbers | (self._accuracies(*made["queries"], *made["bank"]) if self.held else {})

    def _features(
        self, model: Backbone, which: str, device: str
    ) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        """By pooling, the features at the last tap, and the images' ids in their order."""
        pixels = self.sets[which]
        last = next(tap for tap in reversed(model.taps.values()) if tap.kind in ("block", "norm"))
        plan = Plan.draw(pixels.images.ids, size=64)
        (made,) = collect(
            model,
            pixels.images,
            [FeatureReducer()],
            plan=plan,
            taps=[last.name],
            device=device,
            decoded=pixels,
        )
        return {pooling: made.read(last.name, pooling) for pooling in made.poolings}, made.ids

    def _accuracies(
        self,
        queries: Mapping[str, Tensor],
        query_ids: tuple[str, ...],
        bank: Mapping[str, Tensor],
        bank_ids: tuple[str, ...],
    ) -> dict[str, float]:
        assert self.held is not None
        classes = {name: label for label, name in enumerate(self.held.bank.classes)}
        truth = np.array(_labels(self.held.queries, query_ids, classes))
        labels = torch.tensor(_labels(self.held.bank, bank_ids, classes))
        numbers = {}
        for name in _poolings(queries):
            predicted = knn(
                queries[name], bank[name], labels, k=self.held.k, temperature=TEMPERATURE
            )
            numbers[f"knn_{name}"] = float((predicted == truth).mean())
        return numbers | {"knn_images": float(len(truth))}


def _poolings(features: Mapping[str, Tensor]) -> list[str]:
    """The poolings that are measured: the mean over all tokens only where patches have none of
    their own."""
    wanted = ("cls", "patch") if "patch" in features else ("cls", "mean")
    return [name for name in wanted if name in features]


def _labels(images: ImageSet, ids: tuple[str, ...], classes: Mapping[str, int]) -> list[int]:
    assert images.labels is not None
    names = dict(zip(images.ids, images.labels.tolist(), strict=True))
    return [classes[images.classes[names[image]]] for image in ids]
