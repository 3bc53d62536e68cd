"""20-NN accuracy after every block, by pooling, on raw and on standardised features (figure 3 of
Shekhar et al., 2022; figure 12 of 2023; claim C5)."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sslens.comparisons import choices, nearby, probe_gaps, separation
from sslens.comparisons import classified as by_neighbours
from sslens.comparisons.classified import (
    Classified,
    compare_choices,
    is_usual,
    list_disagreements,
)
from sslens.comparisons.inputs import CLASSES, FeatureSets, Labels, Models
from sslens.comparisons.probe_gaps import Neighbours, compare_with_probes
from sslens.comparisons.readings import (
    choose_main_pooling,
    find_usual,
    list_sides,
    name_pooling_in,
)
from sslens.comparisons.rows import Row, make_results
from sslens.comparisons.separation import BY_DEPTH, FIRST, PARTING, Curve
from sslens.figure import Figure, Line, Lines
from sslens.probes.knn import SCALES, Scale, neighbours, standardise, votes
from sslens.statistics.estimate import Estimate
from sslens.statistics.gains import estimate_gain
from sslens.statistics.proportions import difference_of_shares, estimate_share
from sslens.table import Results

TITLE = "Where are the classes separated?"
CAPTION = (
    "Accuracy of cosine k-NN (k = 20) on the features after every block and after the final norm,"
    " for the CLS token, the mean of all tokens and the mean of the patch tokens: above on the"
    " features as they are, below with each dimension standardised by the images that vote, so that"
    " a few dimensions of high variance do not decide. Neighbours vote with exp(s/0.07), as in"
    " DINO's evaluation; plain majority is in the table. Without a second set of images each image"
    " is classified by all others. Bands are 95 % Wilson intervals; the best of many blocks and"
    " poolings, as named in the summary, was chosen on these same images and is a little"
    " optimistic. Dashed lines are controls: random initialisations and the raw pixels. A linear"
    " probe of the last block, against 20-NN there, is in the tables. The small pictures, where"
    " there are any, were drawn by the images' ids: images that only one of two models has right,"
    " and two images with their nearest neighbours by the cosine of raw features."
)
K = 20
#: the temperature of each vote; None for one vote each
VOTES: Mapping[str, float | None] = {"weighted": 0.07, "majority": None}
#: the groups of models, by how they are read, of which families are compared
SIDES = ("main", "patch")
#: the poolings that are drawn, in their order; raw pixels stand beside each
DRAWN = ("cls", "mean", "patch")
UNITS = (
    by_neighbours.UNITS
    | nearby.UNITS
    | choices.UNITS
    | separation.UNITS
    | probe_gaps.UNITS
    | {
        "model_a": "name of a model, or the first family: JE, joint embedding",
        "model_b": "name of a model, or the family that is subtracted: REC, reconstruction",
        "model": "name of a model, or of a family",
        "control": "whether it is a control",
        "tap": "where the features are read",
        "kind": "what the tap computes",
        "depth": "relative depth, 0 to 1",
        "pooling": (
            "cls, mean (of all tokens, or places of a CNN's map), patch (mean of patch tokens), or"
            " flat; empty where each model has its usual one"
        ),
        "main": (
            "whether the pooling is the model's usual one: what its own classifier read, else cls,"
            " or mean where there is no CLS token"
        ),
        "last": "whether the tap is the last layer",
        "vote": "weighted: exp(cosine / 0.07); majority: one vote each",
        "features": (
            "raw, or standardised: each dimension less its mean, over its deviation, of the images"
            " that vote"
        ),
        "dimensions": "dimensions of the features that vary over the images that vote",
        "k": "neighbours",
        "accuracy": "share of images whose class is predicted; empty where no dimension varies",
        "low": "lower end of the 95 % Wilson interval",
        "high": "upper end",
        "gain": (
            "accuracy less that of the best control (by the same vote and kind of features), on the"
            " same images"
        ),
        "gain_low": "lower end of its 95 % interval, images paired",
        "gain_high": "upper end",
        "images": "images classified",
        "chance": "share of the most frequent class among all labelled images",
        **CLASSES,
        "blocks": "blocks over which accuracies are averaged",
        "raw": "mean accuracy over the blocks, on raw features",
        "standardised": "on standardised features",
        "change": "standardised less raw, on the same images",
        "change_low": "lower end of its 95 % interval over images",
        "change_high": "upper end",
    }
)
#: the columns of each table: a tap, pooling, vote and kind of features of a model; what
#: standardising changes in a model; JE less REC at each depth, and the depths that it decides; a
#: linear probe of the last block less 20-NN there, of a model and of a family; what to use of each
#: model; images on which two models disagree; and the nearest neighbours of images by layer
TABLES: Mapping[str, tuple[str, ...]] = {
    "accuracies": (
        *("model", "control", "tap", "kind", "depth", "pooling", "vote", "features", "dimensions"),
        *("main", "last", "k", "accuracy", "low", "high", "gain", "gain_low", "gain_high"),
        *("images", "chance", *CLASSES),
    ),
    "standardising": (
        *("model", "control", "pooling", "main", "blocks", "raw", "standardised"),
        *("change", "change_low", "change_high", "images"),
    ),
    "families-by-depth": (*PARTING, "main", "pooling", "features", *BY_DEPTH),
    "families-parting": (*PARTING, "main", "pooling", "features", *FIRST),
    "probes": probe_gaps.PROBES,
    "families-probes": probe_gaps.FAMILIES,
    "choices": choices.CHOICES,
    "disagreements": by_neighbours.DISAGREEMENTS,
    "neighbours": nearby.NEIGHBOURS,
}
TEXTS = (
    "place",
    "why",
    "against",
    "model",
    "model_a",
    "model_b",
    "members",
    "tap",
    "pooling",
    "vote",
    "features",
    *choices.TEXTS,
    *by_neighbours.TEXTS,
    *nearby.TEXTS,
)


def compute(models: Models, *, features: FeatureSets, labels: Labels, seed: int = 0) -> Results:
    """Classify the images with every tap and pooling of every model and control.

    Each is classified on raw and on standardised features, and by two votes: neighbours weighted by
    exp(cosine / 0.07), and one vote for each neighbour. The table `accuracies` has a row for each.
    `standardising` has the mean over blocks of what standardised features change, by the weighted
    vote, as have the tables of families: `families-by-depth` JE less REC after every block, and
    `families-parting` the depth from which JE stays above REC. `probes` and `families-probes` hold
    a linear probe of the last block against 20-NN there, where there are images enough for one.
    `choices` has the tap, pooling and kind of features to use of each model, chosen on about a
    third of the images and judged on the others, and `disagreements` images that one model has
    right and another wrong. `neighbours` has the nearest neighbours of two images after each layer.
    The seed is that of the split for probes.
    """
    classified = {
        name: list(_classify(name, features, labels, control=models.is_control(name)))
        for name in features.images
    }
    rows = [
        *_list_accuracies([one for several in classified.values() for one in several]),
        *_compare_curves(models, features, classified, seed),
        *compare_with_probes(models, features, labels, _find_last(features, classified), seed),
        *compare_choices(models, features, labels, classified),
        *list_disagreements(models, features, labels, classified),
        *nearby.list_neighbours(models, features, labels),
    ]
    return make_results(rows, TABLES, UNITS, TEXTS)


def _list_accuracies(classified: Sequence[Classified]) -> Iterator[tuple[str, Row]]:
    """Make the rows of `accuracies`, each with its gain over the best control."""
    best: dict[tuple[str, str], Bool[np.ndarray, " image"]] = {}
    for one in classified:
        how = one.row["vote"], one.row["features"]
        if not one.row["control"] or one.right is None:
            continue
        if one.right.mean() > best.get(how, np.zeros(1)).mean():
            best[how] = one.right
    for one in classified:
        control = best.get((one.row["vote"], one.row["features"]))
        yield "accuracies", one.row | _gain(one.right, control).columns("gain")


def _gain(
    right: Bool[np.ndarray, " image"] | None, control: Bool[np.ndarray, " image"] | None
) -> Estimate:
    """Subtract the best control's accuracy; the result is undefined if there is no control."""
    if right is None or control is None:
        return Estimate(float("nan"))
    return difference_of_shares(right, control)


def _classify(
    name: str, features: FeatureSets, labels: Labels, *, control: bool
) -> Iterator[Classified]:
    """Each tap, pooling, vote and kind of features of one model."""
    queries, bank = features.images[name], features.bank.get(name)
    own = torch.tensor([labels.images[i] for i in queries.ids])
    voters = own if bank is None else torch.tensor([labels.bank[i] for i in bank.ids])
    k = min(K, len(voters) - (bank is None))
    common = {
        "model": name,
        "control": control,
        "k": k,
        "images": len(own),
        "chance": labels.chance,
        **labels.count_classes(own.numpy()),
    }
    taps = {tap.name: tap for tap in queries.taps}
    usual = find_usual(queries)
    for tap, pooling in queries.columns:
        values = queries.read(tap, pooling)
        among = values if bank is None else bank.read(tap, pooling)
        scaled = standardise(values, among)
        place = {"tap": tap, "kind": taps[tap].kind, "depth": taps[tap].depth, "pooling": pooling}
        place |= {"dimensions": scaled[1].shape[1], "main": pooling == usual[1]}
        place["last"] = tap == usual[0]
        sides: dict[Scale, tuple[Tensor, Tensor]] = {"raw": (values, among), "standardised": scaled}
        for scale, (asked, searched) in sides.items():
            if place["dimensions"]:
                predicted = _predict(asked, searched, voters, k, leave_one_out=bank is None)
            for vote in VOTES:
                right = predicted[vote] == own.numpy() if place["dimensions"] else None
                accuracy = Estimate(float("nan")) if right is None else estimate_share(right)
                numbers = accuracy.columns("accuracy", ("low", "high"))
                row = common | place | {"vote": vote, "features": scale} | numbers
                kept = right is not None and is_usual(row, usual)
                yield Classified(row, right, predicted[vote] if kept else None)


def _predict(
    queries: Float[Tensor, "query dim"],
    bank: Float[Tensor, "bank dim"],
    labels: Int64[Tensor, " bank"],
    k: int,
    *,
    leave_one_out: bool,
) -> dict[str, Int64[np.ndarray, " query"]]:
    """The predicted class of each image, by the name of the vote.

    Args:
        queries: features of the images.
        bank: features of the images that vote.
        labels: the class of each image that votes.
        k: neighbours.
        leave_one_out: whether each image is held against all others.
    """
    rows, cosines = neighbours(queries, bank, k, leave_one_out=leave_one_out)
    classes = int(labels.max()) + 1
    predicted = votes(labels[rows], cosines, classes, ks=[k], temperatures=list(VOTES.values()))
    return dict(zip(VOTES, predicted[:, 0], strict=True))


def _compare_curves(
    models: Models,
    features: FeatureSets,
    classified: Mapping[str, Sequence[Classified]],
    seed: int,
) -> Iterator[tuple[str, Row]]:
    """Make the rows of all tables but the first, from the accuracies after the blocks."""
    readings: dict[tuple[str, Scale], dict[str, Curve]] = {}
    for name, of_model in classified.items():
        main = choose_main_pooling(features.images[name])
        for pooling in DRAWN:
            raw, scaled = (_find_curve(of_model, pooling, scale) for scale in SCALES)
            if raw is None or scaled is None:
                continue
            about = {"model": name, "control": models.is_control(name), "pooling": pooling}
            yield "standardising", about | {"main": pooling == main} | _subtract(scaled, raw)
            for side in list_sides(features.images[name], pooling):
                if side in SIDES:
                    reading = "" if side == "main" else side
                    readings.setdefault((reading, "raw"), {})[name] = raw
                    readings.setdefault((reading, "standardised"), {})[name] = scaled
    for (pooling, scale), curves in readings.items():
        about = {"main": pooling == "", "pooling": pooling, "features": scale}
        yield from separation.compare_curves(models, curves, about, seed)


def _find_curve(classified: Sequence[Classified], pooling: str, scale: Scale) -> Curve | None:
    """The images that are right after each block by the weighted vote, without blocks at which
    nothing varies; None if there is no block."""
    blocks = [
        (float(one.row["depth"]), one.right)
        for one in classified
        if (one.row["kind"], one.row["vote"]) == ("block", "weighted")
        and (one.row["pooling"], one.row["features"]) == (pooling, scale)
        and one.right is not None
    ]
    if not blocks:
        return None
    depths, right = zip(*sorted(blocks, key=lambda block: block[0]), strict=True)
    return Curve(np.array(depths), np.stack(right))


def _find_last(
    features: FeatureSets, classified: Mapping[str, Sequence[Classified]]
) -> dict[str, Neighbours]:
    """What 20-NN has right after the last block of each model with its usual pooling, by the
    weighted vote; models without blocks, and of which nothing varies there, are left out."""
    last = {}
    for name, of_model in classified.items():
        pooling = choose_main_pooling(features.images[name])
        blocks = [
            one
            for one in of_model
            if (one.row["kind"], one.row["pooling"], one.row["vote"])
            == ("block", pooling, "weighted")
        ]
        if not blocks:
            continue
        end = max(blocks, key=lambda one: float(one.row["depth"])).row
        right = {
            str(one.row["features"]): one.right
            for one in blocks
            if one.row["tap"] == end["tap"] and one.right is not None
        }
        if right:
            last[name] = Neighbours((end["tap"], pooling), float(end["depth"]), right)
    return last


def _subtract(scaled: Curve, raw: Curve) -> Row:
    """The mean over blocks of the accuracy on standardised features less that on raw ones."""
    both = {"raw": float(raw.right.mean()), "standardised": float(scaled.right.mean())}
    change = estimate_gain(scaled.right.mean(0) - raw.right.mean(0))
    count = {"blocks": len(raw.depths), "images": raw.right.shape[1]}
    return both | change.columns("change") | count


def draw(results: Results) -> Figure:
    """Draw a panel for each pooling, of raw features above and of standardised ones below: accuracy
    of the weighted vote against depth, with one curve per model. Raw pixels are a horizontal
    line."""
    frame = results["accuracies"]
    frame = frame[frame.vote == "weighted"]
    poolings = [pooling for pooling in DRAWN if (frame.pooling == pooling).any()] or ["flat"]
    top = float(np.nan_to_num(min(1.0, float(frame.high.max()) * 1.05), nan=1.0))
    titles: Mapping[Scale, str] = {"raw": "", "standardised": ", standardised"}
    grid = [
        tuple(
            Lines(
                f"{name_pooling_in(frame, pooling)}{title}",
                "relative depth",
                f"{frame.k.iloc[0]}-NN accuracy",
                tuple(_lines(frame[frame.features == scale], pooling)),
                (0.0, top),
                facets={"pooling": name_pooling_in(frame, pooling), "features": scale},
            )
            for pooling in poolings
        )
        for scale, title in titles.items()
    ]
    return Figure("knn-depth", tuple(grid))


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
