"""20-NN accuracy after every block, by pooling (figure 3 of Shekhar et al., 2022; figure 12 of
2023)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool

from sslens.capture import Features
from sslens.comparisons.inputs import FeatureSets, Labels, Models
from sslens.comparisons.readings import READINGS
from sslens.comparisons.rows import Row, make_results
from sslens.figure import Figure, Line, Lines
from sslens.probes.knn import neighbours, votes
from sslens.statistics.estimate import Estimate
from sslens.statistics.proportions import difference_of_shares, estimate_share
from sslens.table import Results

TITLE = "Where are the classes separated?"
CAPTION = (
    "Accuracy of cosine k-NN (k = 20) on the features after every block and after the final norm,"
    " for the CLS token, the mean of all tokens and the mean of the patch tokens. Neighbours vote"
    " with exp(s/0.07), as in DINO's evaluation; plain majority is in the table. Without a second"
    " set of images each image is classified by all others. Bands are 95 % Wilson intervals; the"
    " best of many blocks and poolings, as named in the summary, was chosen on these same images"
    " and is a little optimistic. Dashed lines are controls: random initialisations and the raw"
    " pixels."
)
K, TEMPERATURE = 20, 0.07
#: the poolings that are drawn, in their order; raw pixels stand beside each
DRAWN = ("cls", "mean", "patch")
UNITS = {
    "model": "name",
    "control": "whether it is a control",
    "tap": "where the features are read",
    "kind": "what the tap computes",
    "depth": "relative depth, 0 to 1",
    "pooling": (
        "cls, mean (of all tokens, or places of a CNN's map), patch (mean of patch tokens), or flat"
    ),
    "vote": "weighted: exp(cosine / 0.07); majority: one vote each",
    "k": "neighbours",
    "accuracy": "share of images whose class is predicted",
    "low": "lower end of the 95 % Wilson interval",
    "high": "upper end",
    "gain": "accuracy less that of the best control (by the same vote), on the same images",
    "gain_low": "lower end of its 95 % interval, images paired",
    "gain_high": "upper end",
    "images": "images classified",
    "chance": "share of the most frequent class",
}


@final
@dataclass(frozen=True, eq=False)
class Classified:
    """The result of k-NN with one tap, pooling and vote of a model.

    Attributes:
        row: the row of the table, without the columns of the gain.
        right: whether each image is classified correctly; all models have the same order of images.
    """

    row: Row
    right: Bool[np.ndarray, " image"]


def compute(models: Models, *, features: FeatureSets, labels: Labels, seed: int = 0) -> Results:
    """Classify the images with every tap and pooling of every model and control.

    Each is classified by two votes: neighbours weighted by exp(cosine / 0.07), and one vote for
    each neighbour. The table is `accuracies`. Nothing is random here, so that the seed has no
    effect.
    """
    classified = [
        one
        for name in features.images
        for one in _classify(name, features, labels, control=models.is_control(name))
    ]
    best: dict[str, Bool[np.ndarray, " image"]] = {}
    for one in classified:
        vote = one.row["vote"]
        if one.row["control"] and one.right.mean() > best.get(vote, np.zeros(1)).mean():
            best[vote] = one.right
    rows = [
        one.row | _gain(one.right, best.get(one.row["vote"])).columns("gain") for one in classified
    ]
    return make_results((("accuracies", row) for row in rows), {"accuracies": list(UNITS)}, UNITS)


def _gain(
    right: Bool[np.ndarray, " image"], control: Bool[np.ndarray, " image"] | None
) -> Estimate:
    """Subtract the best control's accuracy; the result is undefined if there is no control."""
    if control is None:
        return Estimate(float("nan"))
    return difference_of_shares(right, control)


def _classify(
    name: str, features: FeatureSets, labels: Labels, *, control: bool
) -> Iterator[Classified]:
    """Each tap, pooling and vote of one model."""
    queries, bank = features.images[name], features.bank.get(name)
    own = torch.tensor([labels.images[i] for i in queries.ids])
    voters = own if bank is None else torch.tensor([labels.bank[i] for i in bank.ids])
    k = min(K, len(voters) - (bank is None))
    chance = float(np.bincount(own.numpy()).max() / len(own))
    taps = {tap.name: tap for tap in queries.taps}
    for tap, pooling in queries.columns:
        predictions = _predict(queries, bank, (tap, pooling), voters, k)
        for vote, predicted in predictions.items():
            right = predicted == own.numpy()
            row = {
                "model": name,
                "control": control,
                "tap": tap,
                "kind": taps[tap].kind,
                "depth": taps[tap].depth,
                "pooling": pooling,
                "vote": vote,
                "k": k,
                **estimate_share(right).columns("accuracy", ("low", "high")),
                "images": len(own),
                "chance": chance,
            }
            yield Classified(row, right)


def _predict(
    queries: Features,
    bank: Features | None,
    column: tuple[str, str],
    labels: torch.Tensor,
    k: int,
) -> dict[str, np.ndarray]:
    """The predicted class of each image, by the name of the vote.

    Args:
        queries: features of the images.
        bank: features of the images that vote; None where each image is held against all others.
        column: the tap and the pooling.
        labels: the class of each image that votes.
        k: neighbours.
    """
    values = queries.read(*column)
    among = values if bank is None else bank.read(*column)
    rows, cosines = neighbours(values, among, k, leave_one_out=bank is None)
    classes = int(labels.max()) + 1
    temperatures = {"weighted": TEMPERATURE, "majority": None}
    predicted = votes(
        labels[rows], cosines, classes, ks=[k], temperatures=list(temperatures.values())
    )
    return dict(zip(temperatures, predicted[:, 0], strict=True))


def draw(results: Results) -> Figure:
    """Draw a panel for each pooling: accuracy of the weighted vote against depth, with one curve
    per model. Raw pixels are a horizontal line."""
    frame = results["accuracies"]
    frame = frame[frame.vote == "weighted"]
    poolings = [pooling for pooling in DRAWN if (frame.pooling == pooling).any()] or ["flat"]
    top = min(1.0, float(frame.high.max()) * 1.05)
    panels = [
        Lines(
            READINGS[pooling],
            "relative depth",
            f"{frame.k.iloc[0]}-NN accuracy",
            tuple(_lines(frame, pooling)),
            (0.0, top),
        )
        for pooling in poolings
    ]
    return Figure("knn-depth", (tuple(panels),))


def _lines(frame: pd.DataFrame, pooling: str) -> Iterator[Line]:
    """Draw a curve through the blocks of each model, and a horizontal line if it has no blocks."""
    columns = ("accuracy", "low", "high")
    span = np.array([frame.depth[frame.pooling == pooling].min(), 1.0])
    for name, rows in frame[frame.pooling.isin((pooling, "flat"))].groupby("model", sort=False):
        blocks = rows[rows.kind == "block"].sort_values("depth")
        x = blocks.depth.to_numpy(float) if len(blocks) else span
        y, low, high = (
            blocks[column].to_numpy(float)
            if len(blocks)
            else np.full(2, float(rows[column].iloc[0]))
            for column in columns
        )
        yield Line(str(name), x, y, low, high, control=bool(rows.control.iloc[0]))
