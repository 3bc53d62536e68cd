"""How the features of each tap and pooling of a model answer to each transform of the images, with
intervals."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sslens.capture import Features
from sslens.comparisons.altered import AlteredSets
from sslens.comparisons.inputs import Models
from sslens.comparisons.readings import choose_main_pooling, list_depths, list_poolings
from sslens.comparisons.rows import Row
from sslens.data.alter import SWITCHES, Transform
from sslens.measures.cka import Comparison
from sslens.probes import factors as factor_probes
from sslens.probes.invariance import LinearMaps, compute_cka, compute_sensitivity, decode_parameter
from sslens.probes.splits import held_out
from sslens.statistics.estimate import Estimate
from sslens.statistics.sampled import Sampled, combine

PLACE = ("model", "control", "tap", "depth", "pooling", "main", "last")
WAY = ("transform", "strength")
TABLES: Mapping[str, tuple[str, ...]] = {
    "changes": (
        *PLACE,
        *WAY,
        *("invariance", "invariance_low", "invariance_high"),
        *("standardised", "standardised_low", "standardised_high"),
        *("cka", "cka_low", "cka_high", "minibatches"),
        *("linear", "linear_low", "linear_high", "identity", "identity_low", "identity_high"),
        *("equivariance", "equivariance_low", "equivariance_high", "penalty", "start"),
        *("images", "trained", "tested"),
    ),
    "tokens": (
        *("model", "control", "tap", "kind", "depth", *WAY),
        *("cka", "cka_low", "cka_high", "minibatches"),
    ),
    "decoded": (
        *(*PLACE, *WAY, "parameter", "measure", "value", "value_low", "value_high", "chance"),
        *("decoded", "decoded_low", "decoded_high", "penalty", "trained", "tested"),
    ),
    "factors": (
        *(*PLACE, "factor", "measure", "value", "value_low", "value_high", "chance", "decoded"),
        *("penalty", "trained", "tested"),
    ),
}
UNITS = {
    "model": "name of a model",
    "control": "whether it is a control",
    "tap": "where the features are read",
    "kind": "what the tap's module computes",
    "depth": "relative depth, 0 to 1",
    "pooling": "cls, mean (of all tokens, or places of a CNN's map), patch, or flat",
    "main": "whether the pooling is the usual one of the model",
    "last": "whether the tap is the last layer",
    "transform": "what is done to the images",
    "strength": "how strongly: see docs/invariance.md for the unit",
    "invariance": (
        "1 − E|f(x) − f(Tx)|² / E|f(x) − f(x′)|²: 1 blind to the transform, 0 as different as"
        " another image"
    ),
    "invariance_low": "lower end of its 95 % interval over images",
    "invariance_high": "upper end",
    "standardised": "the same of features of which each dimension is divided by its deviation",
    "standardised_low": "lower end of its 95 % interval over images",
    "standardised_high": "upper end",
    "cka": "minibatch CKA of the features of the images with those of the altered images",
    "cka_low": "lower end of its 95 % interval over minibatches",
    "cka_high": "upper end",
    "minibatches": "minibatches of CKA",
    "linear": "R² of f(Tx) from f(x) by a linear map that was fitted to other images",
    "linear_low": "lower end of its 95 % interval over test images",
    "linear_high": "upper end",
    "identity": "R² of f(x) itself as the prediction of f(Tx), on the same images",
    "identity_low": "lower end of its 95 % interval over test images",
    "identity_high": "upper end",
    "equivariance": "R² of the linear map less R² of the identity",
    "equivariance_low": "lower end of its 95 % interval over test images, paired",
    "equivariance_high": "upper end",
    "penalty": "λ of the ridge regression, chosen on the training images",
    "start": "what the linear map is shrunk towards: the identity, or the mean",
    "images": "images of the invariance",
    "trained": "training images",
    "tested": "test images",
    "parameter": "what was drawn for each image: whether it was altered, or how strongly and where",
    "factor": "a known factor of the generated scenes, of the images as they are",
    "measure": "accuracy (share of test images), or R²",
    "value": "on test images",
    "value_low": "lower end of its 95 % interval over test images",
    "value_high": "upper end",
    "chance": "share of the most frequent case or class of the test images; 0 for R²",
    "decoded": "R², or (accuracy − chance) / (1 − chance): 1 all is known, 0 nothing is",
    "decoded_low": "lower end of its 95 % interval over test images",
    "decoded_high": "upper end",
}
TEXTS = ("model", "tap", "kind", "pooling", "transform", "start", "parameter", "factor", "measure")


@final
@dataclass(frozen=True, eq=False)
class Halves:
    """The images that probes are trained on, and the others, on which they are tested: the same
    for all models."""

    train: Int64[np.ndarray, " train"]
    test: Int64[np.ndarray, " test"]

    @classmethod
    def of(cls, ids: Sequence[str], seed: int) -> "Halves":
        """Draw half of the images by the SHA-256 of their ids.

        >>> halves = Halves.of(["a", "b", "c", "d"], seed=0)
        >>> len(halves.train), len(halves.test)
        (2, 2)
        """
        return cls(*held_out(np.zeros(len(ids), np.int64), ids, share=0.5, seed=seed))

    @property
    def counts(self) -> Row:
        """The columns `trained` and `tested`."""
        return {"trained": len(self.train), "tested": len(self.test)}


@final
@dataclass(frozen=True, eq=False)
class Answer:
    """How the features of one tap and pooling of a model answer to a transform.

    Attributes:
        transform: what is done to the images.
        place: the columns `PLACE` of a row.
        sensitivity: 1 − invariance.
        standardised: the same of features of which each dimension is divided by its deviation.
        row: the row of the table `changes`.
    """

    transform: Transform
    place: Row
    sensitivity: Sampled
    standardised: Sampled
    row: Row


def list_places(
    name: str, features: Features, *, control: bool
) -> Iterator[tuple[Row, Float[Tensor, "image dim"]]]:
    """List the taps and poolings of a model that are measured, with their features: after every
    block and after the last layer, the usual pooling and the mean of the patch tokens."""
    for pooling in list_poolings(features):
        for number in list_depths(features, pooling):
            tap = features.taps[number]
            place = {
                "model": name,
                "control": control,
                "tap": tap.name,
                "depth": tap.depth,
                "pooling": pooling,
                "main": pooling == choose_main_pooling(features),
                "last": number == len(features.taps) - 1,
            }
            yield place, features.read(tap.name, pooling)


def measure_answers(
    name: str, sets: AlteredSets, halves: Halves, *, control: bool
) -> Iterator[Answer]:
    """Measure how every tap and pooling of a model answers to every transform of fixed strength."""
    sizes = sets.sizes
    for place, x in list_places(name, sets.features[name], control=control):
        scale = x.double().std(0, correction=0)
        fine = scale > 1e-7 * x.double().mean(0).abs()  # a constant is no dimension
        maps = LinearMaps(x, halves.train, halves.test)
        ways = {
            transform: own.features[name].read(place["tap"], place["pooling"])
            for transform, own in sets.fixed.items()
        }
        ckas = compute_cka([x] * len(ways), list(ways.values()), sizes)
        for number, (transform, y) in enumerate(ways.items()):
            sensitivity = compute_sensitivity(x, y)
            standardised = compute_sensitivity(
                x.double()[:, fine] / scale[fine], y.double()[:, fine] / scale[fine]
            )
            fitted = maps.fit(y)
            cka = Estimate(*_read_cell(ckas, number), "minibatches", len(sizes))
            row = place | _name(transform)
            row |= estimate_invariance(sensitivity).columns("invariance")
            row |= estimate_invariance(standardised).columns("standardised")
            row |= cka.columns("cka") | {"minibatches": len(sizes)}
            for column, value in (
                ("linear", fitted.linear),
                ("identity", fitted.identity),
                ("equivariance", fitted.gain),
            ):
                row |= estimate_over_images(value).columns(column)
            row |= {"penalty": fitted.penalty, "start": fitted.start}
            row |= {"images": len(x), **halves.counts}
            yield Answer(transform, place, sensitivity, standardised, row)


def estimate_invariance(sensitivity: Sampled) -> Estimate:
    """Turn a sensitivity into the invariance, 1 − sensitivity, with its interval over images.

    The interval is the jackknife's of the logarithm of the sensitivity, which is a ratio of two
    sums over images, so that it holds near 1 too. There is none where nothing moves at all.

    >>> parts = np.array([[0.19, 0.21, 0.2]])
    >>> one = Sampled(np.array([0.2]), parts, np.full((1, 3), 1 / 3), (3, 3, 0))[0]
    >>> estimate = estimate_invariance(one)
    >>> round(estimate.value, 2), estimate.low < 0.8 < estimate.high < 1, estimate.n
    (0.8, True, 3)
    """
    count = int(sensitivity.drawn[0]) if sensitivity.drawn else sensitivity.batches
    with np.errstate(divide="ignore", invalid="ignore"):
        least, most = (float(np.exp(end)) for end in combine(np.log, sensitivity).interval())
    if not np.isfinite([least, most]).all() or float(sensitivity.value) <= 0:
        return Estimate(1 - float(sensitivity.value), n=count)
    return Estimate(1 - float(sensitivity.value), 1 - most, 1 - least, "images", count)


def estimate_over_images(value: Sampled) -> Estimate:
    """Return a single value with its jackknife interval over images."""
    low, high = (float(end) for end in value.interval())
    count = int(value.drawn[0]) if value.drawn else value.batches
    return Estimate(float(value.value), low, high, "images", count)


def _read_cell(values: Sampled, place: int) -> tuple[float, float, float]:
    """A value and the ends of its interval."""
    low, high = values[place].interval()
    return float(values.value[place]), float(low), float(high)


def _name(transform: Transform) -> Row:
    return {"transform": transform.name, "strength": transform.strength}


def compare_tokens(name: str, sets: AlteredSets, *, control: bool) -> Iterator[Row]:
    """CKA of the images with the altered images over all tokens, after every block of a model and
    after its last layer."""
    every = sets.grams[name]
    place_of = {tap.name: row for row, tap in enumerate(every.taps)}
    for transform, own in sets.fixed.items():
        altered = own.grams[name]
        rows = [place_of[tap.name] for tap in altered.taps]
        grams = replace(
            every, taps=altered.taps, blocks=every.blocks[rows], energy=every.energy[rows]
        )
        compared = Comparison.of(grams, altered)
        ckas = Sampled.of(compared, [(row, row) for row in range(len(grams.taps))])
        low, high = ckas.interval()
        for row, tap in enumerate(grams.taps):
            cka = Estimate(float(ckas.value[row]), float(low[row]), float(high[row]), "minibatches")
            place = {"tap": tap.name, "kind": tap.kind, "depth": tap.depth}
            yield (
                {"model": name, "control": control, **place, **_name(transform)}
                | cka.columns("cka")
                | {"minibatches": len(grams.sizes)}
            )


def decode_all(name: str, sets: AlteredSets, halves: Halves, *, control: bool) -> Iterator[Row]:
    """Decode from every tap and pooling of a model what was drawn for each image."""
    parameters = {
        transform: transform.parameters(sets.ids, sets.sides[name]) for transform in sets.drawn
    }
    for place, _ in list_places(name, sets.features[name], control=control):
        for transform, own in sets.drawn.items():
            found = decode_parameter(
                own.features[name].read(place["tap"], place["pooling"]),
                parameters[transform],
                halves.train,
                halves.test,
                switch=transform.name in SWITCHES,
            )
            yield (
                place
                | _name(transform)
                | {"parameter": " and ".join(transform.parts), "measure": found.measure}
                | found.estimate.columns("value")
                | {"chance": found.chance}
                | found.decoded.columns("decoded")
                | {"penalty": found.penalty, **halves.counts}
            )


def decode_factors(name: str, sets: AlteredSets, halves: Halves, *, control: bool) -> Iterator[Row]:
    """Decode the known factors of the scenes from every tap and pooling of a model, on the same
    images; factors that do not vary are left out."""
    if sets.factors is None:
        return
    train, test = (
        sets.factors.loc[[sets.ids[row] for row in rows]] for rows in (halves.train, halves.test)
    )
    varying = [one for one in train.columns if train[one].nunique() > 1 and test[one].nunique() > 1]
    rows = [torch.from_numpy(rows) for rows in (halves.train, halves.test)]
    for place, x in list_places(name, sets.features[name], control=control):
        decoded = factor_probes.decode(x[rows[0]], train[varying], x[rows[1]], test[varying])
        for row in decoded.rename(columns={"low": "value_low", "high": "value_high"}).to_dict(
            "records"
        ):
            del row["kind"]
            yield place | row | halves.counts


def list_rows(
    models: Models, sets: AlteredSets, seed: int
) -> tuple[list[tuple[str, Row]], list[Answer]]:
    """Measure all models; returns the rows of all tables of single models, each after the name of
    its table, and the answers that are compared between models."""
    halves = Halves.of(sets.ids, seed)
    rows: list[tuple[str, Row]] = []
    answers: list[Answer] = []
    for name in sets.features:
        control = models.is_control(name)
        own = list(measure_answers(name, sets, halves, control=control))
        answers += own
        rows += [("changes", one.row) for one in own]
        for table, measure in (("decoded", decode_all), ("factors", decode_factors)):
            rows += [(table, row) for row in measure(name, sets, halves, control=control)]
        rows += [("tokens", row) for row in compare_tokens(name, sets, control=control)]
    return rows, answers
