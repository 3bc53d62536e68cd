"""k-NN by tap, pooling, number of neighbours and temperature: the table, the best choice, and what
it is honestly worth."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool

from sslens.capture import Features
from sslens.errors import InputError
from sslens.probes import knn
from sslens.statistics.bootstrap import mean_interval
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


@dataclass(frozen=True)
class Swept:
    """Which images each choice has right, for one model.

    Attributes:
        rows: tap, pooling, k and temperature of each choice.
        correct: by choice and image.
    """

    store: Features
    control: bool
    rows: tuple[tuple[str, str, int, float | None], ...]
    correct: Bool[np.ndarray, "choice image"]

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
    ) -> "Swept":
        """Classify the images by every choice.

        Raises:
            InputError: as `knn.sweep`.
        """
        rows, correct = [], []
        for (tap, pooling), found in knn.sweep(
            queries, bank, ks=ks, temperatures=temperatures, device=device
        ):
            rows += [(tap, pooling, k, temperature) for temperature in temperatures for k in ks]
            correct.append((found == queries.labels).reshape(-1, len(queries)))
        return cls(queries, control, tuple(rows), np.concatenate(correct))

    @property
    def usual(self) -> int:
        """The choice nearest to the usual one: the last tap, its CLS token if it has one, k = 20, τ
        = 0.07."""
        last = self.rows[-1][0]
        poolings = [pooling for tap, pooling, _, _ in self.rows if tap == last]
        wanted = next(
            pooling for pooling in ("cls", "patch", "mean", "flat") if pooling in poolings
        )

        def distance(row: int) -> tuple[bool, int, float]:
            tap, pooling, k, temperature = self.rows[row]
            apart = np.inf if temperature is None else abs(temperature - USUAL_TEMPERATURE)
            return (tap, pooling) != (last, wanted), abs(k - USUAL_K), apart

        return min(range(len(self.rows)), key=distance)

    @property
    def best(self) -> int:
        """The choice with the most images right, of equals the first."""
        return int(self.correct.sum(1).argmax())

    def gain(self, seed: int = 0) -> tuple[float, float, float]:
        """What choosing gains over the usual choice on images that had no part in it, and its 95 %
        interval.

        The choice is the best on a third of the images, by SHA-256 of the ids, and judged on the
        others. (Choosing on each half for the other takes both for independent, and they are not
        where both choose the same: of differences that are due to chance its interval leaves out 0
        in 5.7 % among 200 choices, in 8.1 % among 10; LOG.md, 2026-11-21.)
        """
        third = np.array(
            [
                hashlib.sha256(f"third/{name}".encode()).digest()[0] % 3 == 0
                for name in self.store.ids
            ]
        )
        if third.all() or not third.any():
            return np.nan, np.nan, np.nan
        chosen = int(self.correct[:, third].sum(1).argmax())
        judged = self.correct[:, ~third].astype(float)
        value, low, high = mean_interval(judged[chosen] - judged[self.usual], seed)
        return float(value), float(low), float(high)


def table(swept: Sequence[Swept], seed: int = 0) -> Table:
    """Accuracy by every choice of every model and control, with its interval."""
    return Table(
        pd.DataFrame([row for each in swept for row in _rows(each, seed)], columns=list(UNITS)),
        UNITS,
    )


def _rows(swept: Swept, seed: int) -> Iterator[dict[str, object]]:
    labels = swept.store.labels
    assert labels is not None
    chance = float(np.bincount(labels).max() / len(labels))
    taps = {tap.name: tap for tap in swept.store.taps}
    ends = zip(*mean_interval(swept.correct.astype(float), seed), strict=True)
    for (tap, pooling, k, temperature), (accuracy, low, high) in zip(swept.rows, ends, strict=True):
        yield {
            "model": swept.store.model,
            "control": swept.control,
            "tap": tap,
            "kind": taps[tap].kind,
            "depth": taps[tap].depth,
            "pooling": pooling,
            "k": k,
            "temperature": np.nan if temperature is None else temperature,
            "accuracy": accuracy,
            "low": low,
            "high": high,
            "images": len(labels),
            "chance": chance,
        }


def findings(swept: Sequence[Swept], seed: int = 0) -> tuple[str, ...]:
    """For each model the usual choice, the best one, what it is worth, and the best control."""
    controls = [each for each in swept if each.control]
    said = []
    for each in (one for one in swept if not one.control):
        usual, best = (
            f"{_named(each, row)}: {each.correct[row].mean():.1%}"
            for row in (each.usual, each.best)
        )
        mean, low, high = each.gain(seed)
        verdict = "more" if low > 0 else "not clearly more"
        worth = (
            f"A best that is chosen on a third of the images has {100 * mean:+.1f} points"
            f" [{100 * low:+.1f}, {100 * high:+.1f}] on the others: {verdict} than usual."
        )
        said.append(
            f"{each.store.model}: the usual choice has {usual}; the best of {len(each.rows):,} has"
            f" {best}. "
            + (
                "There are too few images to tell what choosing is worth."
                if np.isnan(low)
                else worth
            )
        )
    if controls:
        top = max(controls, key=lambda one: one.correct[one.best].mean())
        said.append(
            f"The best control, {top.store.model}, has {_named(top, top.best)}:"
            f" {top.correct[top.best].mean():.1%}."
        )
    return tuple(said)


def _named(swept: Swept, row: int) -> str:
    tap, pooling, k, temperature = swept.rows[row]
    return f"{tap}/{pooling}, k = {k}, " + (
        "majority" if temperature is None else f"τ = {temperature:g}"
    )


def possible(ks: Sequence[int], bank: int) -> tuple[int, ...]:
    """Those numbers of neighbours that a bank of so many images has.

    Raises:
        InputError: none of them.

    >>> possible((1, 20, 200), bank=60)
    (1, 20)
    """
    chosen = tuple(sorted({k for k in ks if 1 <= k <= bank}))
    if not chosen:
        raise InputError(
            f"{min(ks)} neighbours cannot be chosen among {bank} images: give --k between 1 and"
            f" {bank}."
        )
    return chosen


def short(swept: Sequence[Swept]) -> str:
    """A line a model: the usual choice and the best, for a terminal."""
    lines = [f"{'model':<24} {'usual':>7}  {'best':>7}  where"]
    for each in swept:
        usual, best = (each.correct[row].mean() for row in (each.usual, each.best))
        name = f"{each.store.model}{' (control)' if each.control else ''}"
        lines.append(f"{name:<24} {usual:>7.1%}  {best:>7.1%}  {_named(each, each.best)}")
    return "\n".join(lines)
