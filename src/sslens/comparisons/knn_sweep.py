"""k-NN accuracy by tap, pooling, scale of the features, number of neighbours and temperature: the
table, the best choice, and the best choice's gain on images that were not used to find it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Bool

from sslens.capture import Features
from sslens.comparisons.inputs import CLASSES
from sslens.comparisons.readings import find_usual
from sslens.comparisons.rows import Row, make_results
from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.probes import knn
from sslens.probes.splits import draw_third
from sslens.statistics.estimate import Estimate
from sslens.statistics.gains import estimate_gain
from sslens.statistics.proportions import estimate_shares, find_chance
from sslens.table import Table

#: the usual setting in the literature: 20 neighbours with a temperature of 0.07, on the raw
#: features of the last layer with the model's usual pooling
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
    "features": (
        "raw, or standardised: each dimension less its mean, over its deviation, of the images that"
        " vote"
    ),
    "k": "neighbours",
    "temperature": "a neighbour with cosine s has exp(s / temperature) votes; empty: one vote each",
    "accuracy": "share of images whose class is predicted",
    "low": "lower end of the 95 % Wilson interval",
    "high": "upper end",
    "images": "images classified",
    "chance": "share of the most frequent class",
    **CLASSES,
}


class SweepChoice(NamedTuple):
    """One setting of a k-NN classifier: its features, number of neighbours and votes.

    Attributes:
        tap: name of the tap that gives the features.
        pooling: how the tokens are pooled: "cls", "mean", "patch" or "flat".
        scale: "raw" or "standardised" features.
        k: number of neighbours that vote.
        temperature: a neighbour with cosine s has exp(s / temperature) votes; None for one vote
            each.
    """

    tap: str
    pooling: str
    scale: knn.Scale
    k: int
    temperature: float | None


@final
@dataclass(frozen=True)
class Sweep:
    """The images that each choice classifies correctly, for one model.

    Attributes:
        features: features of the classified images, with their labels.
        control: whether the model is a control.
        choices: the settings that were tried.
        right: whether a choice classifies an image correctly.
        classes_drawn_from: the number of classes of which those of the images were drawn; None
            where all are taken.
    """

    features: Features
    control: bool
    choices: tuple[SweepChoice, ...]
    right: Bool[np.ndarray, "choice image"]
    classes_drawn_from: int | None = None

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
        classes_drawn_from: int | None = None,
    ) -> "Sweep":
        """Classify the images by every choice.

        Args:
            queries: features of the images to classify, with labels.
            bank: features of the images that vote; if None, all other images of `queries` vote.
            control: whether the model is a control.
            ks: numbers of neighbours to try.
            temperatures: temperatures of the votes to try; None gives each neighbour one vote.
            device: the device that searches for neighbours, such as "cpu" or "cuda".
            classes_drawn_from: see the attribute.

        Raises:
            InputError: `knn.sweep` cannot use the features or the numbers of neighbours.
        """
        choices, right = [], []
        for scale in knn.SCALES:
            for (tap, pooling), predicted in knn.sweep(
                queries, bank, ks=ks, temperatures=temperatures, device=device, scale=scale
            ):
                choices += [
                    SweepChoice(tap, pooling, scale, k, temperature)
                    for temperature in temperatures
                    for k in ks
                ]
                right.append((predicted == queries.labels).reshape(-1, len(queries)))
        every = np.concatenate(right)
        return cls(queries, control, tuple(choices), every, classes_drawn_from)

    @property
    def classes(self) -> dict[str, int]:
        """How many classes the images are of, and how many there were, as the columns `CLASSES`."""
        assert self.features.labels is not None
        count = len(np.unique(self.features.labels))
        return {"classes": count, "classes_of": self.classes_drawn_from or count}

    @property
    def model(self) -> str:
        """The name of the model."""
        return self.features.model

    @property
    def chance(self) -> float:
        """The share of the most frequent class among the classified images."""
        labels = self.features.labels
        assert labels is not None
        return find_chance(labels)

    @property
    def usual(self) -> int:
        """The index in `choices` of the choice nearest to the usual setting.

        The usual setting is the last tap with its usual pooling (`readings.find_usual`), raw
        features, k = 20, temperature 0.07.
        """
        wanted = *find_usual(self.features), "raw"

        def distance(place: int) -> tuple[bool, int, float]:
            tap, pooling, scale, k, temperature = self.choices[place]
            apart = np.inf if temperature is None else abs(temperature - USUAL_TEMPERATURE)
            return (tap, pooling, scale) != wanted, abs(k - USUAL_K), apart

        return min(range(len(self.choices)), key=distance)

    @property
    def best(self) -> int:
        """The index in `choices` of the most accurate choice; the first one if several tie."""
        return int(self.right.sum(1).argmax())

    def read_layers(self) -> list[tuple[SweepChoice, Estimate]]:
        """The accuracy of each layer with its interval, at the usual choice but for the layer (of a
        layer without the usual pooling at its first), in the layers' order; nothing is chosen."""
        usual = self.choices[self.usual]
        places: dict[str, int] = {}
        for place, choice in enumerate(self.choices):
            if choice[2:] == usual[2:]:
                if choice.pooling == usual.pooling:
                    places[choice.tap] = place
                else:
                    places.setdefault(choice.tap, place)
        chosen = [places[tap.name] for tap in self.features.taps if tap.name in places]
        accuracies = estimate_shares(self.right[chosen])
        return list(zip((self.choices[place] for place in chosen), accuracies, strict=True))

    def accuracy(self, place: int) -> float:
        """Return the share of images that the choice with an index classifies correctly."""
        return float(self.right[place].mean())

    def standardising(self) -> Estimate:
        """Estimate the accuracy that standardised features gain over raw ones at the usual choice.

        Returns:
            The difference of two accuracies, paired; nan if no dimension of the features varies.
        """
        usual = self.choices[self.usual]
        other = usual._replace(scale="standardised")
        if usual.scale != "raw" or other not in self.choices:
            return Estimate(float("nan"))
        right = self.right.astype(float)
        return estimate_gain(right[self.choices.index(other)] - right[self.usual])

    def gain(self) -> Estimate:
        """Estimate the accuracy that is gained by the best choice instead of the usual one.

        One third of the images, drawn by SHA-256 of their ids, finds the best choice. The other
        two thirds measure the gain, so that the gain is not biased by the search. (An alternative,
        in which each half chooses for the other half, treats the two halves as independent, and
        they are not if both choose the same. Where the true gain is 0, its 95 % interval left out 0
        in 5.7 % of trials with 200 choices and in 8.1 % with 10; LOG.md, 2026-11-21.)

        Returns:
            The difference of two accuracies, paired; nan if one of the two parts has no image.
        """
        chosen, others = self.choose()
        if not others.any():
            return Estimate(float("nan"))
        judged = self.right[:, others].astype(float)
        return estimate_gain(judged[chosen] - judged[self.usual])

    def choose(self) -> tuple[int, Bool[np.ndarray, " image"]]:
        """Choose on a third of the images, drawn by SHA-256 of their ids.

        Returns:
            The index in `choices` of the most accurate choice there, and which images are the
            others, on which it can be judged. Where one of the two parts has no image, it is the
            usual choice, and there are no others.
        """
        third = draw_third(self.features.ids)
        if third.all() or not third.any():
            return self.usual, np.zeros_like(third)
        return int(self.right[:, third].sum(1).argmax()), ~third


def make_table(sweeps: Sequence[Sweep]) -> Table:
    """Make a table of the accuracy of every choice of every model and control, with its interval.

    Args:
        sweeps: one sweep per model.
    """
    rows = (("knn", row) for sweep in sweeps for row in _list_rows(sweep))
    return make_results(rows, {"knn": tuple(UNITS)}, UNITS).tables["knn"]


def _list_rows(sweep: Sweep) -> Iterator[Row]:
    """Make one row for each choice."""
    taps = {tap.name: tap for tap in sweep.features.taps}
    for choice, accuracy in zip(sweep.choices, estimate_shares(sweep.right), strict=True):
        yield {
            "model": sweep.model,
            "control": sweep.control,
            "tap": choice.tap,
            "kind": taps[choice.tap].kind,
            "depth": taps[choice.tap].depth,
            "pooling": choice.pooling,
            "features": choice.scale,
            "k": choice.k,
            "temperature": np.nan if choice.temperature is None else choice.temperature,
            **accuracy.columns("accuracy", ("low", "high")),
            "images": len(sweep.features),
            "chance": sweep.chance,
            **sweep.classes,
        }


def choose_ks(ks: Sequence[int], bank: int) -> tuple[int, ...]:
    """Select the numbers of neighbours that are possible with a given number of images.

    Args:
        ks: the numbers of neighbours that the user wants.
        bank: number of images that can vote.

    Returns:
        The numbers from 1 to `bank`, without repetition, in ascending order.

    Raises:
        InputError: none of the numbers is from 1 to `bank`.

    >>> choose_ks((1, 20, 200), bank=60)
    (1, 20)
    """
    chosen = tuple(sorted({k for k in ks if 1 <= k <= bank}))
    if not chosen:
        raise InputError(
            f"{min(ks)} neighbours cannot be chosen among {spell_count(bank, 'image')}",
            mend=f"give {{k}} between 1 and {bank}",
        )
    return chosen
