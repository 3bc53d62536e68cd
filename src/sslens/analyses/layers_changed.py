"""Which layers of two models compute something else, and where the classes went: activations on the
same input, CKA and k-NN by depth."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool

from sslens.capture import Column, Features
from sslens.comparisons.activations import ActivationPair, ActivationPairs
from sslens.comparisons.compared import choose_kind, compare_pair
from sslens.comparisons.inputs import FeatureSets, GramSets, KnownClasses, Labels, Models
from sslens.comparisons.pairs import make_same_depth_rows
from sslens.comparisons.readings import choose_shared_pooling, list_depths
from sslens.comparisons.roles import PIXELS
from sslens.comparisons.rows import Row, make_results
from sslens.figure import Figure, Line, Lines
from sslens.probes.knn import knn
from sslens.statistics.proportions import difference_of_shares, estimate_share
from sslens.table import Results

TITLE = "Which layers compute something else?"
CAPTION = (
    "CKA (all tokens) of both models at the same depth, with 95 % intervals over minibatches of"
    " images; 20-NN of each, weighted votes, with 95 % Wilson intervals, where images have classes:"
    " both read as the classifier of a fine-tuned one of them reads, or else by the CLS token (the"
    " mean where there is none); and the difference of activations at every tap that both have, on"
    " the same few images: ‖y_B − y_A‖ / ‖y_A‖, beside what rounding alone does (dashed): of the"
    " first model's float32 arithmetic against float64, and, where a file is stored in a coarser"
    " number type, of either model's weights to it. A tap differs where the difference is more than"
    " four times as large."
)
ON_REQUEST = True
KIND, K = "block", 20
TABLES: Mapping[str, tuple[str, ...]] = {
    "depths": (
        *("model_a", "model_b", "depth", "tap_a", "tap_b", "cka", "low", "high", "minibatches"),
    ),
    "taps": (
        *("model_a", "model_b", "tap", "kind", "depth", "difference", "rounding", "beyond"),
        *("rounded_to", "same_view"),
    ),
    "knn": (
        *("model_a", "model_b", "depth", "tap_a", "tap_b", "pooling_a", "pooling_b", "k"),
        *("accuracy_a", "accuracy_a_low", "accuracy_a_high"),
        *("accuracy_b", "accuracy_b_low", "accuracy_b_high"),
        *("gain", "gain_low", "gain_high", "images"),
    ),
    "not-compared": ("model_a", "model_b", "why"),
}
TEXTS = (
    *("model_a", "model_b", "tap_a", "tap_b", "tap", "kind", "rounded_to", "pooling_a"),
    *("pooling_b", "why"),
)
UNITS = {
    "model_a": "the first model",
    "model_b": "the other model",
    "depth": "relative depth, 0 to 1",
    "tap_a": "the first model's tap",
    "tap_b": "the other model's",
    "cka": "CKA of both taps over all tokens",
    "low": "lower end of its 95 % interval over minibatches",
    "high": "upper end",
    "minibatches": "of images",
    "tap": "a tap that both have",
    "kind": "what the tap computes",
    "difference": (
        "‖y_B − y_A‖ / ‖y_A‖ of the activations on the same images; empty of unlike shapes"
    ),
    "rounding": "the same of a model and of itself, rounded",
    "beyond": "whether the difference is more than four times what rounding does",
    "rounded_to": "number type that the files' weights have at the coarsest",
    "same_view": "whether both models are shown images alike, outside of this comparison",
    "pooling_a": (
        "how the first model's tokens are pooled for 20-NN: as the classifier of a fine-tuned one"
        " of the two reads, where both have that; else cls, or the mean"
    ),
    "pooling_b": "the other model's",
    "k": "neighbours",
    "accuracy_a": "share of images whose class 20-NN predicts from the first model",
    "accuracy_a_low": "lower end of its 95 % Wilson interval",
    "accuracy_a_high": "upper end",
    "accuracy_b": "the same from the other model",
    "accuracy_b_low": "lower end",
    "accuracy_b_high": "upper end",
    "gain": "accuracy of the other model less that of the first one, on the same images",
    "gain_low": "lower end of its 95 % interval, images paired",
    "gain_high": "upper end",
    "images": "images classified",
    "why": "why their activations are not compared",
}


def explain_absence(models: Models) -> str | None:
    """Say why there is nothing to show: two networks are needed."""
    if sum(name != PIXELS for name in models.studied) > 1:
        return None
    return "layers are those of two networks, and there is one"


def compute(
    models: Models,
    *,
    grams: GramSets,
    features: FeatureSets,
    classes: KnownClasses,
    activations: ActivationPairs,
    seed: int = 0,
) -> Results:
    """Compare the layers of the first model with those of each other one.

    `depths` has CKA at the same relative depth, `taps` the difference of activations at each tap
    that both have, `knn` the accuracy of 20-NN of both. Nothing is random here, so that the seed
    has no effect.

    Args:
        models: the models.
        grams: their Grams, of which those over all tokens are compared.
        features: their pooled features.
        classes: the classes of the images, as far as they have any.
        activations: the activations of a few images.
    """
    names = [name for name in models.studied if name in features.images and name != PIXELS]
    rows: list[tuple[str, Row]] = []
    for name in names[1:]:
        pair = {"model_a": names[0], "model_b": name}
        rows += [("depths", pair | row) for row in _list_cka(names[0], name, grams)]
        if classes.labels is not None:
            rows += [
                ("knn", pair | row) for row in _list_knn(names[0], name, features, classes.labels)
            ]
    for one in activations.measure():
        rows += _list_taps(one)
    return make_results(rows, TABLES, UNITS, TEXTS)


def _list_cka(a: str, b: str, grams: GramSets) -> Iterator[Row]:
    sets = next(iter(grams.values()))
    own, other = (choose_kind(sets[name], KIND) for name in (a, b))
    if own.taps and other.taps:
        yield from make_same_depth_rows(compare_pair((a, own), (b, other), control=False))


def _list_taps(pair: ActivationPair) -> Iterator[tuple[str, Row]]:
    names = {"model_a": pair.model_a, "model_b": pair.model_b}
    if pair.why:
        yield "not-compared", names | {"why": pair.why}
    for one in pair.taps:
        row = {"tap": one.tap.name, "kind": one.tap.kind, "depth": one.tap.depth}
        row |= {"difference": one.difference, "rounding": one.rounding, "beyond": one.beyond}
        row |= {"rounded_to": pair.rounded_to, "same_view": pair.same_view}
        yield "taps", names | row


def _list_knn(a: str, b: str, features: FeatureSets, labels: Labels) -> Iterator[Row]:
    """Classify by both models at the depths of the one with more blocks."""
    shared = choose_shared_pooling(*(features.images[name] for name in (a, b)))
    poolings = dict(zip((a, b), shared, strict=True))
    depths = {name: _list_depths(features.images[name], poolings[name]) for name in (a, b)}
    longer = a if len(depths[a]) >= len(depths[b]) else b
    classified: dict[tuple[str, str], Bool[np.ndarray, " image"]] = {}
    for place, depth in depths[longer]:
        row: Row = {"depth": depth, "k": min(K, len(labels.images) - 1)}
        right = []
        for side, name in (("a", a), ("b", b)):
            tap = _find_nearest(place, depth, depths[name])
            if (name, tap) not in classified:
                classified[name, tap] = _classify(name, (tap, poolings[name]), features, labels)
            right.append(classified[name, tap])
            row |= {f"tap_{side}": tap}
            row |= {f"pooling_{side}": poolings[name]}
            row |= estimate_share(right[-1]).columns(f"accuracy_{side}")
        gain = difference_of_shares(right[1], right[0])
        yield row | gain.columns("gain") | {"images": len(right[0])}


def _find_nearest(tap: str, depth: float, taps: Sequence[tuple[str, float]]) -> str:
    """Find the tap nearest to a depth; of equally near ones the one of the same name: the last
    block and the normalisation after it have one depth."""
    return min(taps, key=lambda one: (abs(round(one[1] - depth, 9)), one[0] != tap))[0]


def _list_depths(features: Features, pooling: str) -> list[tuple[str, float]]:
    """The blocks and the last tap of a model, with their relative depth."""
    places = list_depths(features, pooling)
    return [(features.taps[place].name, features.taps[place].depth) for place in places]


def _classify(
    name: str, column: Column, features: FeatureSets, labels: Labels
) -> Bool[np.ndarray, " image"]:
    """Whether each image is classified right by its nearest neighbours."""
    own, bank = features.images[name], features.bank.get(name)
    truth = torch.tensor([labels.images[image] for image in own.ids])
    asked = own.read(*column)
    voters, among = truth, asked
    if bank is not None:
        voters = torch.tensor([labels.bank[image] for image in bank.ids])
        among = bank.read(*column)
    k = min(K, len(voters) - (bank is None))
    predicted = knn(asked, among, voters, k=k, leave_one_out=bank is None)
    right: Bool[np.ndarray, " image"] = predicted == truth.numpy()
    return right


def draw(results: Results) -> Figure:
    """Draw CKA at the same depth, the difference of activations at each tap, and 20-NN, all against
    depth."""
    panels = [_draw_cka(results)]
    if "taps" in results:
        panels.append(_draw_taps(results["taps"]))
    if "knn" in results:
        panels.append(_draw_knn(results["knn"]))
    return Figure("layers-changed", (tuple(panels),))


def _groups(frame: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    for (a, b), rows in frame.groupby(["model_a", "model_b"], sort=False):
        yield str(a), str(b), rows


def _line(name: str, rows: pd.DataFrame, column: str, *ends: str, control: bool = False) -> Line:
    x, y = (rows[own].to_numpy(np.float64) for own in ("depth", column))
    low, high = (rows[end].to_numpy(np.float64) for end in ends) if ends else (None, None)
    return Line(name, x, y, low, high, control=control)


def _draw_cka(results: Results) -> Lines:
    frame = results["depths"]
    lines = tuple(_line(f"{a} · {b}", rows, "cka", "low", "high") for a, b, rows in _groups(frame))
    low = float(np.nanmin(frame.low.to_numpy(np.float64), initial=0.0)) if len(frame) else 0.0
    return Lines("same depth", "relative depth", "CKA", lines, (min(0.0, 1.05 * low), 1.05))


def _draw_taps(frame: pd.DataFrame) -> Lines:
    """Draw log₁₀ of the differences; a difference of 0 is a gap."""
    lines: list[Line] = []
    for a, b, rows in _groups(frame):
        for name, column in ((f"{a} · {b}", "difference"), (f"rounding of {a}", "rounding")):
            values = np.log10(rows[column].where(rows[column] > 0).to_numpy(np.float64))
            shown = rows.assign(shown=values)
            if name not in {line.name for line in lines}:
                lines.append(_line(name, shown, "shown", control=column == "rounding"))
    label = "log₁₀ of the difference"
    return Lines("activations on the same input", "relative depth", label, tuple(lines), None)


def _draw_knn(frame: pd.DataFrame) -> Lines:
    lines: dict[str, Line] = {}
    for a, b, rows in _groups(frame):
        for name, side in ((a, "a"), (b, "b")):
            columns = [f"accuracy_{side}{end}" for end in ("", "_low", "_high")]
            lines.setdefault(name, _line(name, rows, *columns))
    k = int(frame.k.iloc[0])
    top = min(
        1.0,
        1.05 * max(float(np.max(line.high)) for line in lines.values() if line.high is not None),
    )
    label = f"{k}-NN accuracy"
    return Lines("classes", "relative depth", label, tuple(lines.values()), (0.0, top))
