"""k-NN by tap, pooling, number of neighbours and temperature: the table, the best choice, and what
it is honestly worth."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Bool

from sslens.capture import Features
from sslens.comparisons.rows import Row, make_results
from sslens.errors import InputError
from sslens.probes import knn
from sslens.statistics.bootstrap import mean_estimate, mean_interval
from sslens.statistics.estimate import Estimate
from sslens.table import Table

#: what is mostly reported: 20 neighbours, at 0.07, of the CLS token after the last layer
USUAL_K, USUAL_TEMPERATURE = 20, 0.07
UNITS = {
    "model": "name",
    "control": "whether it is a control",
    "tap": "where the features are read",
    "kind": "what the tap computes",
    "depth": "relative depth, 0 to 1",
    "pooling": (
        "cls, mean (of all tokens, or places of a CNN's map), patch (mean of patch tokens), or flat"
    ),
    "k": "neighbours",
    "temperature": "a neighbour with cosine s has exp(s / temperature) votes; empty: one vote each",
    "accuracy": "share of images whose class is predicted",
    "low": "lower end of the 95 % bootstrap interval over images",
    "high": "upper end",
    "images": "images classified",
    "chance": "share of the most frequent class",
}


class SweepChoice(NamedTuple):
    """How an image is classified: by which features, and by how many neighbours that vote how.

    Attributes:
        tap: where the features are read.
        pooling: how the tokens are pooled.
        k: neighbours.
        temperature: a neighbour with cosine s has exp(s / temperature) votes; None for one vote
            each.
    """

    tap: str
    pooling: str
    k: int
    temperature: float | None


@final
@dataclass(frozen=True)
class Sweep:
    """Which images each choice has right, for one model.

    Attributes:
        features: of the images that are classified, with their labels.
        control: whether the model is a control.
        choices: what was tried.
        right: by choice and image.
    """

    features: Features
    control: bool
    choices: tuple[SweepChoice, ...]
    right: Bool[np.ndarray, "choice image"]

    @classmethod
    def of(
        cls,
        queries: Features,
        bank: Features | None,
        *,
        control: bool = False,
        ks: Sequence[int] = knn.KS,
        temperatures: Sequence[float | None] = knn.TEMPERATURES,
        device: str = "cpu",
    ) -> "Sweep":
        """Classify the images by every choice.

        Args:
            queries: features of the images, with labels.
            bank: features of the images that vote; None where each image is held against all
                others.
            control: whether the model is a control.
            ks: numbers of neighbours.
            temperatures: of the votes; None for one vote each.
            device: where neighbours are searched.

        Raises:
            InputError: as `knn.sweep`.
        """
        choices, right = [], []
        for (tap, pooling), predicted in knn.sweep(
            queries, bank, ks=ks, temperatures=temperatures, device=device
        ):
            choices += [
                SweepChoice(tap, pooling, k, temperature)
                for temperature in temperatures
                for k in ks
            ]
            right.append((predicted == queries.labels).reshape(-1, len(queries)))
        return cls(queries, control, tuple(choices), np.concatenate(right))

    @property
    def model(self) -> str:
        """The name of the model."""
        return self.features.model

    @property
    def usual(self) -> int:
        """The place of the choice nearest to the usual one: the last tap, its CLS token if it has
        one, k = 20, τ = 0.07."""
        last = self.choices[-1].tap
        poolings = [choice.pooling for choice in self.choices if choice.tap == last]
        wanted = next(
            pooling for pooling in ("cls", "patch", "mean", "flat") if pooling in poolings
        )

        def distance(place: int) -> tuple[bool, int, float]:
            tap, pooling, k, temperature = self.choices[place]
            apart = np.inf if temperature is None else abs(temperature - USUAL_TEMPERATURE)
            return (tap, pooling) != (last, wanted), abs(k - USUAL_K), apart

        return min(range(len(self.choices)), key=distance)

    @property
    def best(self) -> int:
        """The place of the choice with the most images right, of equals the first."""
        return int(self.right.sum(1).argmax())

    def accuracy(self, place: int) -> float:
        """The share of images that a choice has right."""
        return float(self.right[place].mean())

    def gain(self, seed: int = 0) -> Estimate:
        """What choosing gains over the usual choice on images that had no part in it; undefined
        where there are too few.

        The choice is the best on a third of the images, by SHA-256 of the ids, and judged on the
        others. (Choosing on each half for the other takes both for independent, and they are not
        where both choose the same: of differences that are due to chance its interval leaves out 0
        in 5.7 % among 200 choices, in 8.1 % among 10; LOG.md, 2026-11-21.)

        Args:
            seed: of the bootstrap.
        """
        digests = (hashlib.sha256(f"third/{name}".encode()).digest() for name in self.features.ids)
        third = np.array([digest[0] % 3 == 0 for digest in digests])
        if third.all() or not third.any():
            return Estimate(float("nan"))
        chosen = int(self.right[:, third].sum(1).argmax())
        judged = self.right[:, ~third].astype(float)
        return mean_estimate(judged[chosen] - judged[self.usual], seed)


def make_table(sweeps: Sequence[Sweep], seed: int = 0) -> Table:
    """Accuracy by every choice of every model and control, with its interval.

    Args:
        sweeps: one a model.
        seed: of the bootstrap.
    """
    rows = (("knn", row) for sweep in sweeps for row in _list_rows(sweep, seed))
    return make_results(rows, {"knn": tuple(UNITS)}, UNITS).tables["knn"]


def _list_rows(sweep: Sweep, seed: int) -> Iterator[Row]:
    """A row a choice."""
    labels = sweep.features.labels
    assert labels is not None
    chance = float(np.bincount(labels).max() / len(labels))
    taps = {tap.name: tap for tap in sweep.features.taps}
    ends = zip(*mean_interval(sweep.right.astype(float), seed), strict=True)
    for choice, (accuracy, low, high) in zip(sweep.choices, ends, strict=True):
        yield {
            "model": sweep.model,
            "control": sweep.control,
            "tap": choice.tap,
            "kind": taps[choice.tap].kind,
            "depth": taps[choice.tap].depth,
            "pooling": choice.pooling,
            "k": choice.k,
            "temperature": np.nan if choice.temperature is None else choice.temperature,
            "accuracy": accuracy,
            "low": low,
            "high": high,
            "images": len(labels),
            "chance": chance,
        }


def choose_ks(ks: Sequence[int], bank: int) -> tuple[int, ...]:
    """The numbers of neighbours that a bank of so many images has.

    Args:
        ks: the numbers asked for.
        bank: images that can vote.

    Raises:
        InputError: the bank has none of these numbers of neighbours.

    >>> choose_ks((1, 20, 200), bank=60)
    (1, 20)
    """
    chosen = tuple(sorted({k for k in ks if 1 <= k <= bank}))
    if not chosen:
        raise InputError(
            f"{min(ks)} neighbours cannot be chosen among {bank} images",
            mend=f"give {{k}} between 1 and {bank}",
        )
    return chosen
