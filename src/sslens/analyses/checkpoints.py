"""Which checkpoint of a run to take: the measures that need no label, beside k-NN where there are
labels."""

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool

from sslens.comparisons.compared import choose_kind
from sslens.comparisons.inputs import FeatureSets, GramSets, KnownClasses, Labels, Models
from sslens.comparisons.readings import find_usual
from sslens.comparisons.roles import PIXELS
from sslens.comparisons.rows import Row, make_results
from sslens.comparisons.views import ViewSets
from sslens.figure import Figure, Line, Lines
from sslens.measures.cka import Comparison
from sslens.probes.alignment import measure_alignment, measure_uniformity
from sslens.probes.effective_rank import measure_effective_rank
from sslens.probes.knn import knn
from sslens.statistics.proportions import difference_of_shares, estimate_share
from sslens.statistics.sampled import Sampled
from sslens.table import Results

TITLE = "Which checkpoint of the run is best?"
CAPTION = (
    "The models are taken as the checkpoints of one run, in the order of their steps. By the last"
    " layer's CLS token (the mean where there is none): effective rank of the features (RankMe);"
    " alignment E‖f(x) − f(x⁺)‖² of two views of an image, a crop of it and it in other colours,"
    " and uniformity log E exp(−2‖f(x) − f(y)‖²) of different images, both of features of length 1,"
    " lower is better of both; CKA over all tokens after the last block with the checkpoint before"
    " and with the last one, with 95 % intervals over minibatches; 20-NN where images have classes,"
    " with 95 % Wilson intervals. CKA says how much still changes, not what is better. Random"
    " initialisations and raw pixels, dashed, are what no training gives."
)
ON_REQUEST = True
KIND, K = "block", 20
#: measures that choose a checkpoint without labels, each with whether more is better
CHOOSERS: Mapping[str, bool] = {
    "rank": True,
    "alignment": False,
    "uniformity": False,
    "alignment_uniformity": False,
}
NUMBERS = ("rank", "alignment", "uniformity", "alignment_uniformity")
TABLES: Mapping[str, tuple[str, ...]] = {
    "checkpoints": (
        *("model", "control", "place", "step", "tap", "pooling", *NUMBERS),
        *("before", "before_low", "before_high", "last", "last_low", "last_high", "minibatches"),
        *("accuracy", "low", "high", "images"),
    ),
    "choices": (
        *("by", "model", "accuracy", "best", "best_accuracy", "loss", "loss_low", "loss_high"),
        *("images", "chance", "beside", "gain", "gain_low", "gain_high"),
    ),
}
TEXTS = ("model", "tap", "pooling", "by", "best", "beside")
UNITS = {
    "model": "the checkpoint, or a control",
    "control": "whether it is a control",
    "place": "its place in the run, from 1; empty of controls",
    "step": "step of the training, where the file says it",
    "tap": "where features are read",
    "pooling": "how tokens are pooled",
    "rank": "effective rank of the features (RankMe), 1 to their dimension",
    "alignment": "E‖f(x) − f(x⁺)‖² over two views of an image, 0 to 4, lower is better",
    "uniformity": "log E exp(−2‖f(x) − f(y)‖²) over different images, 0 to −4, lower is better",
    "alignment_uniformity": "their sum, lower is better",
    "before": "CKA with the checkpoint before",
    "before_low": "lower end of its 95 % interval over minibatches",
    "before_high": "upper end",
    "last": "CKA with the last checkpoint",
    "last_low": "lower end of its 95 % interval over minibatches",
    "last_high": "upper end",
    "minibatches": "of images",
    "accuracy": "share of images whose class 20-NN predicts; empty without classes",
    "low": "lower end of its 95 % Wilson interval",
    "high": "upper end",
    "images": "number of images",
    "by": "the measure that chooses; last is the last checkpoint, whatever it measures",
    "best": "the checkpoint with the highest accuracy",
    "best_accuracy": "its accuracy, which is a little optimistic: it was chosen on these images",
    "loss": "accuracy of the best less that of the chosen one, on the same images",
    "loss_low": "lower end of its 95 % interval, images paired",
    "loss_high": "upper end",
    "chance": "share of the most frequent class",
    "beside": "the control with the highest accuracy; empty without controls",
    "gain": "accuracy of the best checkpoint less that of this control, on the same images",
    "gain_low": "lower end of its 95 % interval, images paired",
    "gain_high": "upper end",
}


def explain_absence(models: Models) -> str | None:
    """Say why there is nothing to show: a choice is among two checkpoints or more."""
    if sum(name != PIXELS for name in models.studied) > 1:
        return None
    return "a choice is among two checkpoints or more"


def compute(
    models: Models,
    *,
    features: FeatureSets,
    grams: GramSets,
    views: ViewSets,
    classes: KnownClasses,
    seed: int = 0,
) -> Results:
    """Measure the checkpoints of a run, and find which of them each measure chooses.

    `checkpoints` has a row for each checkpoint and control; `choices`, where there are labels, one
    for each measure. Nothing is random here, so that the seed has no effect.

    Args:
        models: the checkpoints and the controls.
        features: their pooled features.
        grams: their Grams, of which those over all tokens are compared.
        views: the features of two views of each image.
        classes: the classes of the images, as far as they have any.
    """
    run = [name for name in sort_checkpoints(models) if name in features.images]
    controls = [name for name in models.controls if name in features.images]
    right: dict[str, Bool[np.ndarray, " image"]] = {}
    if classes.labels is not None:
        right = {name: _classify(name, features, classes.labels) for name in [*run, *controls]}
    rows: list[tuple[str, Row]] = []
    for name in [*run, *controls]:
        row = {"model": name, "control": name in controls} | _measure(name, views)
        if name in run:
            row |= {"place": run.index(name) + 1, "step": models.about(name).step}
            row |= _compare_steps(name, run, grams)
        if name in right:
            accuracy = estimate_share(right[name])
            row |= accuracy.columns("accuracy", ("low", "high")) | {"images": accuracy.n}
        rows.append(("checkpoints", row))
    if right and classes.labels is not None:
        measured = [row for _, row in rows if not row["control"]]
        chance = {"chance": classes.labels.chance}
        rows += [("choices", row | chance) for row in choose_checkpoints(measured, right)]
    return make_results(rows, TABLES, UNITS, TEXTS)


def sort_checkpoints(models: Models) -> list[str]:
    """Sort the models under study by the step that their files say, or else by the numbers in their
    names: a shell lists step_10 before step_9."""
    names = [name for name in models.studied if name != PIXELS]
    steps = {name: models.about(name).step for name in names}
    if all(step is not None for step in steps.values()):
        return sorted(names, key=lambda name: steps[name] or 0)
    return sorted(
        names,
        key=lambda name: [
            (part.isdecimal(), int(part) if part.isdecimal() else 0, part)
            for part in re.split(r"(\d+)", name)
        ],
    )


def _measure(name: str, views: ViewSets) -> Row:
    """Measure one checkpoint without labels."""
    own = views.images[name]
    column = find_usual(own)
    one, other = (view[name].read(*column) for view in views.views)
    uniformity = measure_uniformity(own.read(*column))
    alignment = measure_alignment(one, other)
    return {
        "tap": column[0],
        "pooling": column[1],
        "rank": measure_effective_rank(own.read(*column)),
        "alignment": alignment,
        "uniformity": uniformity,
        "alignment_uniformity": alignment + uniformity,
        "images": len(own),
    }


def _compare_steps(name: str, run: Sequence[str], grams: GramSets) -> Row:
    """Compare a checkpoint with the one before it and with the last one."""
    sets = next(iter(grams.values()))
    others = {"last": run[-1]} | ({"before": run[run.index(name) - 1]} if name != run[0] else {})
    row: Row = {}
    for what, other in others.items():
        a, b = (choose_kind(sets[one], KIND) for one in (name, other))
        if other == name or not a.taps or not b.taps:
            continue
        cell = (len(a.taps) - 1, len(b.taps) - 1)
        value = Sampled.of(Comparison.of(a, b), [cell])
        low, high = value.interval()
        ends = {f"{what}_low": float(low[0]), f"{what}_high": float(high[0])}
        row |= {what: float(value.value[0]), **ends, "minibatches": value.batches}
    return row


def _classify(name: str, features: FeatureSets, labels: Labels) -> Bool[np.ndarray, " image"]:
    """Whether 20-NN predicts the class of each image."""
    own, bank = features.images[name], features.bank.get(name)
    column = find_usual(own)
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


def choose_checkpoints(
    rows: Sequence[Row], right: Mapping[str, Bool[np.ndarray, " image"]]
) -> Iterator[Row]:
    """Choose a checkpoint by each measure, and hold it against the best one by k-NN; of equal ones
    the later one is taken.

    Args:
        rows: what was measured of each checkpoint, in the order of the run.
        right: the images that 20-NN classifies correctly, of checkpoints and of controls.
    """
    names = [str(row["model"]) for row in rows]
    best = max(reversed(names), key=lambda name: float(right[name].mean()))
    controls = [name for name in right if name not in names]
    held: Row = {}
    if controls:
        beside = max(controls, key=lambda name: float(right[name].mean()))
        gain = difference_of_shares(right[best], right[beside])
        held = {"beside": beside, **gain.columns("gain")}
    chosen = {"last": names[-1]}
    for measure, more in CHOOSERS.items():
        known = [row for row in reversed(rows) if row[measure] == row[measure]]
        if known:
            choice = (max if more else min)(known, key=lambda row: float(row[measure]))
            chosen[measure] = str(choice["model"])
    for by, name in chosen.items():
        loss = difference_of_shares(right[best], right[name])
        yield {
            "by": by,
            "model": name,
            "accuracy": float(right[name].mean()),
            "best": best,
            "best_accuracy": float(right[best].mean()),
            "images": len(right[best]),
            **loss.columns("loss"),
            **held,
        }


def draw(results: Results) -> Figure:
    """Draw every measure against the place of the checkpoint in the run; controls as horizontal
    lines."""
    frame = results["checkpoints"]
    cka = tuple(
        _line(frame, column, f"CKA with the {label}", (f"{column}_low", f"{column}_high"))
        for column, label in (("before", "checkpoint before"), ("last", "last checkpoint"))
    )
    panels = [
        Lines("", "checkpoint", "CKA", cka, (0.0, 1.05)),
        *(
            _draw_panel(frame, column, label)
            for column, label in (
                ("rank", "effective rank"),
                ("alignment", "alignment"),
                ("uniformity", "uniformity"),
            )
        ),
    ]
    if frame.accuracy.notna().any():
        line = _line(frame, "accuracy", "20-NN", ("low", "high"))
        lines = (line, *_levels(frame, "accuracy"))
        panels.append(Lines("", "checkpoint", "20-NN accuracy", lines, (0.0, 1.0)))
    return Figure("checkpoints", (tuple(panels),))


def _draw_panel(frame: pd.DataFrame, column: str, label: str) -> Lines:
    lines = (_line(frame, column, label), *_levels(frame, column))
    return Lines("", "checkpoint", label, lines, None)


def _line(frame: pd.DataFrame, column: str, name: str, ends: tuple[str, ...] = ()) -> Line:
    rows = frame[frame.place.notna()].sort_values("place")
    x, y, *interval = (rows[own].to_numpy(np.float64) for own in ("place", column, *ends))
    return Line(name, x, y, *interval)


def _levels(frame: pd.DataFrame, column: str) -> Iterator[Line]:
    """Draw a control as a horizontal line."""
    x = np.array([1.0, float(frame.place.max())])
    for row in frame[frame.control.astype(bool)].to_dict("records"):
        yield Line(str(row["model"]), x, np.full(2, float(row[column])), control=True)
