"""Which images moved from one model to another, and which predictions changed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float64, Int64

from sslens.capture import Features
from sslens.comparisons import sheets
from sslens.comparisons.classifiers import find_classifier
from sslens.comparisons.inputs import FeatureSets, KnownClasses, Labels, Models
from sslens.comparisons.movement import measure_movement, measure_overlap
from sslens.comparisons.pool import ShownImages
from sslens.comparisons.readings import (
    choose_shared_pooling,
    find_last_tap,
    read_features,
)
from sslens.comparisons.roles import PIXELS
from sslens.comparisons.rows import Row, make_results
from sslens.comparisons.sheets import SheetRow, list_sheets
from sslens.comparisons.weight_pairs import WeightSets
from sslens.figure import Figure, Line, Lines, Panel
from sslens.probes.knn import knn, neighbours
from sslens.statistics.proportions import difference_of_shares, estimate_share
from sslens.table import Results

TITLE = "Which images moved?"
CAPTION = (
    "How far each image moved among the others, by the last layer's CLS token (the mean where there"
    " is none; of a fine-tuned model what its classifier reads, and of the model before as well): 1"
    " less the correlation over all other images of its cosines with them in both models, 0 where"
    " nothing changed and about 1 of unrelated models. Predictions are those of the models' own"
    " classifiers where both have one of as many classes, else of 20-NN by the classes of the"
    " other images. The sheets show the images that moved most, each with its nearest neighbours"
    " in each model. Intervals are 95 %, over images."
)
ON_REQUEST = True
#: images that the curve has, images on the sheets, neighbours of each, and neighbours that vote
DRAWN, SHOWN, NEAR, K = 50, 8, 5, 20
NEIGHBOURS = 10
TABLES: Mapping[str, tuple[str, ...]] = {
    "pairs": (
        *("model_a", "model_b", "images", "movement", "movement_95", "overlap", "neighbours"),
        *("by", "classes", "moved", "moved_low", "moved_high", "gained", "lost"),
        *("accuracy_a", "accuracy_b", "gain", "gain_low", "gain_high"),
    ),
    "moved": (
        *("model_a", "model_b", "image", "class", "movement", "overlap", "predicted_a"),
        "predicted_b",
    ),
    **sheets.TABLES,
}
TEXTS = (
    *("model_a", "model_b", "by", "class", "predicted_a", "predicted_b", "image"),
    *sheets.TEXTS,
)
UNITS = {
    "model_a": "the first model",
    "model_b": "the other model",
    "images": "number of images",
    "movement": (
        "1 − correlation over all other images of an image's cosines with them in both models; of a"
        " pair the median over images"
    ),
    "movement_95": "its 95th percentile over images",
    "overlap": "share of the nearest neighbours that are so in both models",
    "neighbours": "number of nearest neighbours of which the overlap is",
    "by": "what predicts: classifier (of the models' own files) or k-NN; empty where nothing does",
    "classes": "classes that are predicted",
    "moved": "share of the images whose predicted class differs",
    "moved_low": "lower end of its 95 % Wilson interval",
    "moved_high": "upper end",
    "gained": "images that only the other model has right",
    "lost": "images that only the first model has right",
    "accuracy_a": "share of images that the first model has right; empty without classes",
    "accuracy_b": "the same of the other model",
    "gain": "accuracy of the other model less that of the first one, on the same images",
    "gain_low": "lower end of its 95 % interval, images paired",
    "gain_high": "upper end",
    "image": "id of the image",
    "class": "its class; empty where it has none",
    "predicted_a": "class that the first model predicts; empty where nothing does",
    "predicted_b": "class that the other model predicts",
    **{name: unit for name, unit in sheets.UNITS.items() if name != "image"},
}


@final
@dataclass(frozen=True, eq=False)
class PairPredictions:
    """The classes that two models predict.

    Attributes:
        by: "classifier" or "k-NN".
        a, b: the predicted class of each image.
        names: the name of each class; empty where they are not known.
        truth: the class of each image; None where none is known, or of other classes.
    """

    by: str
    a: Int64[np.ndarray, " image"]
    b: Int64[np.ndarray, " image"]
    names: tuple[str, ...]
    count: int
    truth: Int64[np.ndarray, " image"] | None

    def name(self, number: int) -> str:
        """Return the name of a class, or its number where it has none."""
        return self.names[number] if self.names else str(number)


def explain_absence(models: Models) -> str | None:
    """Say why there is nothing to show: images move from one model to another."""
    if sum(name != PIXELS for name in models.studied) > 1:
        return None
    return "images move from one network to another, and there is one"


def compute(
    models: Models,
    *,
    features: FeatureSets,
    classes: KnownClasses,
    weights: WeightSets,
    shown: ShownImages,
    seed: int = 0,
) -> Results:
    """Measure how far images moved from the first model to each other one, and which predictions
    changed.

    `pairs` has a row for each pair of models, `moved` one for each image, the one that moved most
    first; `sheets` and `pictures` show some with their neighbours. Nothing is random here, so that
    the seed has no effect.

    Args:
        models: the models.
        features: their pooled features.
        classes: the classes of the images, as far as they have any.
        weights: the files of the models, which may hold classifiers.
        shown: the images.
    """
    names = [name for name in models.studied if name in features.images and name != PIXELS]
    rows: list[tuple[str, Row]] = []
    drawn: list[SheetRow] = []
    for name in names[1:]:
        a, b = features.images[names[0]], features.images[name]
        pair = {"model_a": names[0], "model_b": name}
        predicted = _predict((names[0], name), features, classes.labels, weights)
        poolings = choose_shared_pooling(a, b)
        x, y = (_read(one, pooling) for one, pooling in zip((a, b), poolings, strict=True))
        k = min(NEIGHBOURS, len(a) - 1)
        moved, overlap = measure_movement(x, y).numpy(), measure_overlap(x, y, k).numpy()
        order = np.argsort(-np.nan_to_num(moved, nan=-1.0), kind="stable")
        rows.append(("pairs", pair | _describe(moved, overlap, k, predicted)))
        for row in order.tolist():
            about = {"image": a.ids[row], "movement": moved[row], "overlap": overlap[row]}
            about |= _name_classes(a.ids[row], row, classes.labels, predicted)
            rows.append(("moved", pair | about))
        sides = {names[0]: x, name: y} if len(names) == 2 else {name: y}
        for label, values in sides.items():
            drawn += _list_rows(label, a, values, order[:SHOWN], shown)
    return make_results([*rows, *list_sheets(drawn)], TABLES, UNITS, TEXTS)


def _read(features: Features, pooling: str) -> torch.Tensor:
    return read_features(features, find_last_tap(features), pooling)


def _describe(
    moved: Float64[np.ndarray, " image"],
    overlap: Float64[np.ndarray, " image"],
    k: int,
    predicted: PairPredictions | None,
) -> Row:
    """Make the row of a pair, without the models' names."""
    known = moved[np.isfinite(moved)]
    row: Row = {"images": len(moved), "overlap": float(overlap.mean()), "neighbours": k}
    if len(known):
        row |= {"movement": float(np.median(known)), "movement_95": float(np.quantile(known, 0.95))}
    if predicted is None:
        return row
    row |= {"by": predicted.by, "classes": predicted.count}
    row |= estimate_share(predicted.a != predicted.b).columns("moved")
    if predicted.truth is None:
        return row
    right_a, right_b = (own == predicted.truth for own in (predicted.a, predicted.b))
    row |= {"gained": int((right_b & ~right_a).sum()), "lost": int((right_a & ~right_b).sum())}
    row |= {"accuracy_a": float(right_a.mean()), "accuracy_b": float(right_b.mean())}
    return row | difference_of_shares(right_b, right_a).columns("gain")


def _predict(
    names: tuple[str, str],
    features: FeatureSets,
    labels: Labels | None,
    weights: WeightSets,
) -> PairPredictions | None:
    """Predict by the models' own classifiers where both have one of the same number of classes,
    else by k-NN; None where neither can."""
    found = [find_classifier(weights[name]) if name in weights else None for name in names]
    ids = features.images[names[0]].ids
    truth = None if labels is None else np.array([labels.images[image] for image in ids])
    own = [
        None if one is None else one.predict(features.images[name])
        for one, name in zip(found, names, strict=True)
    ]
    counts = {len(one.weight) for one in found if one is not None}
    if own[0] is not None and own[1] is not None and len(counts) == 1:
        (count,) = counts
        classes = [weights[name].about.classes for name in names]
        written = classes[0] if classes[0] == classes[1] and len(classes[0]) == count else ()
        same = labels is not None and written == labels.classes
        return PairPredictions(
            "classifier", own[0], own[1], written, count, truth if same else None
        )
    if labels is None:
        return None
    poolings = choose_shared_pooling(*(features.images[name] for name in names))
    a, b = (
        _classify(name, pooling, features, labels)
        for name, pooling in zip(names, poolings, strict=True)
    )
    return PairPredictions("k-NN", a, b, labels.classes, len(labels.classes), truth)


def _classify(
    name: str, pooling: str, features: FeatureSets, labels: Labels
) -> Int64[np.ndarray, " image"]:
    """Predict the class of each image by its nearest neighbours in the last layer."""
    own, bank = features.images[name], features.bank.get(name)
    asked = _read(own, pooling)
    among = asked if bank is None else _read(bank, pooling)
    known = labels.images if bank is None else labels.bank
    voters = torch.tensor([known[image] for image in (own if bank is None else bank).ids])
    k = min(K, len(voters) - (bank is None))
    return knn(asked, among, voters, k=k, leave_one_out=bank is None)


def _name_classes(
    image: str, row: int, labels: Labels | None, predicted: PairPredictions | None
) -> Row:
    named: Row = {}
    if labels is not None and labels.classes:
        named["class"] = labels.classes[labels.images[image]]
    if predicted is not None:
        named["predicted_a"] = predicted.name(int(predicted.a[row]))
        named["predicted_b"] = predicted.name(int(predicted.b[row]))
    return named


def _list_rows(
    label: str,
    features: Features,
    values: torch.Tensor,
    rows: Int64[np.ndarray, " row"],
    shown: ShownImages,
) -> Iterator[SheetRow]:
    """List the rows of a model's sheet: the images that moved most, each with its neighbours."""
    k = min(NEAR, len(values) - 1)
    near = neighbours(values, values, k, leave_one_out=True)[0].numpy()
    places = shown.locate(features.ids)
    for number, row in enumerate(rows.tolist()):
        pictures = [
            (features.ids[other], shown.look(places[other])) for other in (row, *near[row].tolist())
        ]
        yield SheetRow(label, number, shown.name(places[row]), pictures)


def draw(results: Results) -> Figure:
    """Draw the movement of the images that moved most, in their order, and below it the sheets."""
    frame = results["moved"]
    lines = tuple(
        Line(
            f"{a} · {b}",
            np.arange(1, min(len(rows), DRAWN) + 1, dtype=np.float64),
            rows.movement.to_numpy(np.float64)[:DRAWN],
        )
        for (a, b), rows in frame.groupby(["model_a", "model_b"], sort=False)
    )
    panel = Lines("", "images, the most moved first", "movement", lines, None)
    first: tuple[Panel | None, ...] = (panel, *(None,) * (sheets.ACROSS - 1))
    return Figure(
        "images-moved", (first, *sheets.draw_sheets(results["sheets"], results["pictures"]))
    )
