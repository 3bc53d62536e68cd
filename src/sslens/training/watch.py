"""What is looked at while a run goes on, and leaves it as it is: k-NN on held-out images, spread,
curves elsewhere.

The encoder is copied, and the copy put in evaluation mode; nothing is drawn from a random stream.
So a run that is watched ends with the weights of one that is not, bit for bit.
"""

import copy
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sslens.capture.passes import collect
from sslens.capture.reducers import FeatureReducer
from sslens.data.decoded import Decoded
from sslens.data.images import ImageSet
from sslens.data.transform import EvalTransform
from sslens.errors import InputError
from sslens.models import networks
from sslens.models.about import About
from sslens.models.backbone import Backbone
from sslens.plan import SMALLEST, Plan
from sslens.training.signs import spread

#: of the images of one set, the share that is classified by the others
QUERIES = 0.2
#: training images whose spread is measured where none are held out
SAMPLE = 128

#: neighbours that vote
K = 20


@runtime_checkable
class Classify(Protocol):
    """`sslens.probes.knn.knn`, which stands above the training: the class of each query by its k
    nearest in a bank."""

    def __call__(
        self,
        queries: Float[Tensor, "query dim"],
        bank: Float[Tensor, "bank dim"],
        bank_labels: Int64[Tensor, " bank"],
        *,
        k: int,
    ) -> Int64[np.ndarray, " query"]:
        """The predicted classes."""
        ...


@final
@dataclass(frozen=True)
class HeldOut:
    """Labelled images: those of `queries` are classified by those of `bank`.

    Raises:
        InputError: a set without labels, of less than 4 images, or a class of the queries that the
            bank does not have.
    """

    queries: ImageSet
    bank: ImageSet
    classify: Classify

    def __post_init__(self) -> None:
        for images in (self.queries, self.bank):
            if images.labels is None:
                raise InputError(
                    f"The images of {images.name} have no classes: k-NN wants labelled ones, a"
                    " subfolder a class."
                )
            if len(images) < SMALLEST:
                raise InputError(
                    f"{len(images)} of {images.name} are too few images for k-NN: give {SMALLEST}"
                    " or more to classify, and as many to classify them by."
                )
        unknown = sorted(set(self.queries.classes) - set(self.bank.classes))
        if unknown:
            raise InputError(
                f'{self.bank.name} has no class "{unknown[0]}", which {self.queries.name} has.'
            )

    @classmethod
    def split(cls, images: ImageSet, classify: Classify) -> "HeldOut":
        """A fifth of a set, by SHA-256 of the ids, as queries; the rest as the bank."""
        asked = [_share(name) < QUERIES for name in images.ids]
        queries = images.take([row for row, chosen in enumerate(asked) if chosen])
        return cls(
            queries, images.take([row for row, chosen in enumerate(asked) if not chosen]), classify
        )


def _share(name: str) -> float:
    return int.from_bytes(hashlib.sha256(f"knn/{name}".encode()).digest()[:8], "big") / 2**64


@final
@dataclass(frozen=True)
class Watch:
    """What a run is watched by.

    Attributes:
        every: epochs between looks at the encoder; a twentieth of the run for None. It is looked at
            after the last one too.
        held: images for k-NN.
        tell: what is called with every line of the log, besides the log.
    """

    every: int | None = None
    held: HeldOut | None = None
    tell: tuple[Callable[[Mapping[str, int | float | str]], None], ...] = ()

    def __post_init__(self) -> None:
        if self.every is not None and self.every < 1:
            raise InputError(f"k-NN every {self.every} epochs cannot be: give 1 or more.")

    def due(self, step: int, per_epoch: int, steps: int) -> bool:
        """Whether the encoder is looked at after a step, counted from 1.

        >>> [step for step in range(1, 11) if Watch(every=2).due(step, per_epoch=2, steps=10)]
        [4, 8, 10]
        """
        every = self.every or max(1, steps // per_epoch // 20)
        return step == steps or step % (every * per_epoch) == 0


@final
class Looks:
    """What a watched run's encoder is shown, decoded once."""

    def __init__(
        self, watch: Watch, images: ImageSet, transform: EvalTransform, family: str
    ) -> None:
        self.held, self.family, self.transform = watch.held, family, transform
        sets = {"queries": images.sample(SAMPLE, 0)}
        if self.held is not None:
            sets = {"queries": self.held.queries, "bank": self.held.bank}
        self.sets = {
            name: Decoded(each, transform) for name, each in sets.items() if len(each) >= SMALLEST
        }

    def look(self, encoder: nn.Module, device: str, precision: str) -> dict[str, float]:
        """The spread of the features after the last layer and, by pooling, the share of held-out
        images classified right.

        The spread is of the CLS token where the objective trains it to tell images apart ("JE"),
        else of the mean of the patches. Where torch.distributed is running, its processes share the
        images. Of features that are not finite nothing is said.
        """
        network = networks.ready(copy.deepcopy(encoder)).eval()
        model = Backbone(
            network,
            name="encoder",
            source="training",
            taps=networks.taps(network),
            transform=self.transform,
            prefix=networks.prefix_tokens(network),
            about=About(),
        )
        found = {name: self._features(model, name, device, precision) for name in self.sets}
        if not found or not all(
            torch.isfinite(x).all() for each in found.values() for x in each[0].values()
        ):
            return {}
        queries = found["queries"][0]
        wanted = ("cls", "patch", "mean") if self.family == "JE" else ("patch", "mean")
        numbers = {
            "spread": spread(queries[next(pooling for pooling in wanted if pooling in queries)])
        }
        return numbers | (self._accuracies(*found["queries"], *found["bank"]) if self.held else {})

    def _features(
        self, model: Backbone, which: str, device: str, precision: str
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
            precision=precision,
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
        known = torch.tensor(_labels(self.held.bank, bank_ids, classes))
        k = min(K, len(known))
        poolings = [name for name in ("cls", "patch", "mean") if name in queries]
        if "patch" in poolings:
            poolings.remove("mean")
        return {
            f"knn_{name}": float(
                (self.held.classify(queries[name], bank[name], known, k=k) == truth).mean()
            )
            for name in poolings
        }


def _labels(images: ImageSet, ids: tuple[str, ...], classes: Mapping[str, int]) -> list[int]:
    assert images.labels is not None
    names = dict(zip(images.ids, images.labels.tolist(), strict=True))
    return [classes[images.classes[names[each]]] for each in ids]
