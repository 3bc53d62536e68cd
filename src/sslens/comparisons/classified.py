"""Images that k-NN classifies: what to read of each model, and where two models disagree."""

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Bool, Int64

from sslens.capture import Column
from sslens.comparisons import choices
from sslens.comparisons.inputs import FeatureSets, Labels, Models
from sslens.comparisons.options import Option, Options
from sslens.comparisons.readings import find_usual
from sslens.comparisons.rows import Row
from sslens.probes.splits import draw_third

#: images of each kind that are named of two models: the first right and the second wrong, or the
#: other way round
NAMED = 3
#: the columns of a table with the images on which two models disagree
DISAGREEMENTS = (
    *("model_a", "model_b", "right", "count", "images"),
    *("place", "image", "label", "predicted_a", "predicted_b"),
)
UNITS: dict[str, str] = {
    "model_a": "name of a model",
    "model_b": "name of another",
    "right": "which of the two is right on the image, and the other wrong",
    "count": "images of which that is so",
    "images": "images classified",
    "place": "number of the image among those that are named, which were drawn by their ids",
    "image": "its id",
    "label": "its class",
    "predicted_a": "the class that 20-NN of model_a predicts, with the usual features",
    "predicted_b": "the class that 20-NN of model_b predicts",
}
TEXTS = ("model_a", "model_b", "right", "image", "label", "predicted_a", "predicted_b")


@final
@dataclass(frozen=True, eq=False)
class Classified:
    """The result of k-NN with one tap, pooling, vote and kind of features of a model.

    Attributes:
        row: the row of the table, without the columns of the gain.
        right: whether each image is classified correctly; all models have the same order of images.
            None where no dimension of the features varies.
        predicted: the predicted class of each image; None where it is not kept.
    """

    row: Row
    right: Bool[np.ndarray, " image"] | None
    predicted: Int64[np.ndarray, " image"] | None = None


def is_usual(row: Row, column: Column) -> bool:
    """Whether a row is of the usual choice: this tap and pooling, raw features, weighted votes."""
    return (row["tap"], row["pooling"], row["features"], row["vote"]) == (
        *column,
        "raw",
        "weighted",
    )


def order_by_digest(ids: Sequence[str]) -> Int64[np.ndarray, " image"]:
    """Return the positions of images in the order of SHA-256 of their ids, which is as good as a
    random one and the same everywhere.

    >>> order_by_digest(["a", "b", "c"]).tolist()
    [2, 1, 0]
    """
    order = sorted(range(len(ids)), key=lambda row: hashlib.sha256(ids[row].encode()).digest())
    return np.array(order, np.int64)


def compare_choices(
    models: Models,
    features: FeatureSets,
    labels: Labels,
    classified: Mapping[str, Sequence[Classified]],
) -> Iterator[tuple[str, Row]]:
    """Make the rows of the table `choices`: which tap, pooling and kind of features to use of each
    model for 20-NN with weighted votes.

    One third of the images, drawn by their ids, chooses; the others judge. Nothing is yielded where
    one of the two parts has no image.
    """
    ids = next(iter(features.images.values())).ids
    third = draw_third(ids)
    if third.all() or not third.any():
        return
    made = []
    for name, of_model in classified.items():
        column = find_usual(features.images[name])
        options = [
            Option(
                str(one.row["tap"]),
                str(one.row["pooling"]),
                float(one.right[third].mean()),
                one.right[~third],
                str(one.row["features"]),
                k=int(one.row["k"]),
                usual=is_usual(one.row, column),
            )
            for one in of_model
            if one.right is not None and one.row["vote"] == "weighted"
        ]
        if any(option.usual for option in options):
            made.append(Options(name, models.is_control(name), options, int(third.sum())))
    judged = np.array([labels.images[name] for name in ids])[~third]
    yield from choices.list_choices(made, labels.chance, labels.count_classes(judged))


def list_disagreements(
    models: Models,
    features: FeatureSets,
    labels: Labels,
    classified: Mapping[str, list[Classified]],
) -> Iterator[tuple[str, Row]]:
    """Make the rows of the table `disagreements`: of each two models under study, images that only
    one has right, by 20-NN with the usual features.

    Of all such images those are named that come first by SHA-256 of their ids: a sample of them,
    and not the worst.
    """
    ids = next(iter(features.images.values())).ids
    order = order_by_digest(ids)
    own = np.array([labels.images[name] for name in ids])
    predicted = {
        name: next((one.predicted for one in of_model if one.predicted is not None), None)
        for name, of_model in classified.items()
        if not models.is_control(name)
    }
    known = {name: classes for name, classes in predicted.items() if classes is not None}
    for a, b in itertools.combinations(known, 2):
        right = {name: (known[name] == own)[order] for name in (a, b)}
        for name, other in ((a, b), (b, a)):
            only = order[right[name] & ~right[other]]
            for place, row in enumerate(only[:NAMED].tolist()):
                yield (
                    "disagreements",
                    {
                        "model_a": a,
                        "model_b": b,
                        "right": name,
                        "count": len(only),
                        "images": len(ids),
                        "place": place,
                        "image": ids[row],
                        "label": labels.classes[own[row]],
                        "predicted_a": labels.classes[known[a][row]],
                        "predicted_b": labels.classes[known[b][row]],
                    },
                )
