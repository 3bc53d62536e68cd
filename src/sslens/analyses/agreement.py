"""Are two models right and wrong alike (figure 4 of Shekhar et al., 2022; figure 13 of 2023; claim
C6)?"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from sslens.capture import Column, Features
from sslens.comparisons import pairs as _pairs
from sslens.comparisons import untyped as _families
from sslens.comparisons import untyped as _roles
from sslens.comparisons.inputs import Inputs
from sslens.comparisons.roles import JE, REC
from sslens.errors import InputError
from sslens.figure import Figure, Heatmap, Line, Lines, Panel
from sslens.models.about import About
from sslens.probes.agreement import SUBSETS, Asked, Draws, Found, Predicted, agreement
from sslens.probes.ridge import ridge
from sslens.statistics.sampled import Sampled
from sslens.table import Table

TITLE = "Are the models right and wrong alike?"
CAPTION = (
    "A linear probe of each model's last features ranks the classes of every image: a ridge"
    " regression in closed form onto the classes, trained on the bank or, without one, on all"
    " images but the one that it is asked about; its penalty is that with the least error on"
    " training images left out. Kendall's tau (τ-b) of two models' rankings is taken over the"
    " classes in the top k of either, and averaged over all images, over those that both have right"
    " and those that both have wrong. Beside it stands that of chance: of rankings of different"
    " images, for a probe of anything likes some classes more than others. F1 is that of one"
    " model's first choice against the other's (macro mean), error consistency Cohen's κ of being"
    " right (Geirhos et al., 2020), of which 0 is what independent models of these accuracies have."
    " Bands are 95 % bootstrap intervals over images; differences are taken within each replicate."
)
VERSION = 1
NEEDS = ("features", "labels")
KS = (5, 10, 100)
#: images under which no verdict is given on a mean over them
FEWEST = 20
READINGS = {"cls": "CLS token", "patch": "mean of patch tokens", "mean": "mean of all tokens"}
UNITS = {
    "row": "pair: two models; families: pairs of models of two families, averaged",
    "model_a": "name of a model, or of a family",
    "model_b": "name of a model, or of a family",
    "pairs": "pairs of models averaged",
    "members": "the models of the families",
    "control": "whether a control is among the two",
    "relation": (
        "same objective: two trainings of one; otherwise their families, JE with JE, JE with REC,"
        " …; empty if unknown"
    ),
    "pooling": (
        "features that the probe reads after the last layer: cls, patch (mean of patch tokens) or"
        " mean; of a model that has no such tokens the mean over places, of pixels their values"
    ),
    "measure": (
        "tau: Kendall's τ-b over the classes in the top k of either; tau first: over the top k of"
        " the first, the mean of either being first; f1: macro mean over classes; f1 weighted: by"
        " how often the first predicts them, the mean of either being first; same: share of images"
        " with the same first choice; kappa: error consistency"
    ),
    "k": "of the top k; 0 for what looks at the first choice",
    "images": "all, both right or both wrong",
    "value": "of the measure; empty where no image defines it",
    "low": "lower end of the 95 % bootstrap interval over images",
    "high": "upper end",
    "chance": (
        "the same if images said nothing: a tau of the two models' rankings of different images,"
        " what two independent models have that predict each class as often"
    ),
    "count": (
        "images that the value (and what is subtracted from it) is of; of families, the fewest of a"
        " pair"
    ),
    "accuracy_a": "share of images whose class model_a's probe predicts",
    "accuracy_b": "of model_b's",
    "less": "what is subtracted in the difference",
    "difference": "value less that of `less`, on the same images",
    "difference_low": "lower end of its 95 % interval, images drawn for both together",
    "difference_high": "upper end",
}
Names = tuple[str, str]


def without(about: Mapping[str, About], controls: Sequence[str]) -> str | None:
    """There must be two models."""
    return (
        None
        if len(_roles.models(about, controls)) > 1
        else "there is one model, and predictions are compared of two"
    )


def compute(inputs: Inputs) -> Table:
    """Every pair of models and controls, and joint embedding with itself less joint embedding with
    reconstruction.

    Raises:
        InputError: features of fewer than two models, images without labels, or what `predictions`
            raises.
    """
    if len(inputs.features) < 2:
        raise InputError(
            "Predictions are compared of two models: give the features of two or more."
        )
    if not inputs.labels:
        raise InputError(
            "Predictions are of classes, and the images have none: give labelled images."
        )
    rows = [row for reading in readings(inputs) for row in _rows(inputs, reading)]
    frame = pd.DataFrame(rows, columns=list(UNITS))
    for column in ("members", "less", "relation"):
        frame[column] = frame[column].astype(object).where(frame[column].notna(), "").astype(str)
    return Table(frame, UNITS)


def readings(inputs: Inputs) -> tuple[str, ...]:
    """The poolings that any model has: CLS and patches, or where there are neither the mean."""
    every = {pooling for features in inputs.features.values() for pooling in features.poolings}
    return tuple(pooling for pooling in ("cls", "patch") if pooling in every) or ("mean",)


def last(features: Features, reading: str) -> Column:
    """The features after the last layer that have this pooling, or what the model has instead."""
    columns = [(features.taps[-1].name, pooling) for pooling in (reading, "mean", "flat")]
    return next(column for column in columns if column in features.columns)


def _rows(inputs: Inputs, reading: str) -> Iterator[dict[str, Any]]:
    predicted, count = predictions(inputs, reading)
    names = [name for name in (*inputs.models, *inputs.controls) if name in predicted]
    ks = [k for k in KS if k <= count] or [count]
    images = len(predicted[names[0]].first)
    draws = Draws.of(images, _pairs.REPLICATES, inputs.seed)
    found = {
        (a, b): agreement(predicted[a], predicted[b], ks, draws)
        for a, b in itertools.combinations(names, 2)
    }
    accuracy = {name: float(each.right.mean()) for name, each in predicted.items()}
    for (a, b), numbers in found.items():
        control = a in inputs.controls or b in inputs.controls
        who = {
            "row": "pair",
            "model_a": a,
            "model_b": b,
            "pairs": 1,
            "control": control,
            "pooling": reading,
        }
        who |= {
            "relation": relation(inputs.about, a, b),
            "accuracy_a": accuracy[a],
            "accuracy_b": accuracy[b],
        }
        twins = None if control else _roles.twins(inputs, a, b)
        random = _of(found, [twins] if twins else [])
        for asked, each in numbers.items():
            row = who | _numbers(asked, each)
            if twins and random:
                row |= _less(f"{twins[0]} · {twins[1]}", each, random[0][asked])
            yield row
    yield from _claim(inputs, reading, found)


def relation(about: Mapping[str, About], a: str, b: str) -> str:
    """What two models have in common: a second seed is a control, since nothing agrees more than
    two trainings of one objective.

    >>> dino = About(family="JE", objective="dino", arch="vit")
    >>> about = {"dino": dino, "dino #1": dino, "mae": About(family="REC", objective="mae")}
    >>> relation(about, "dino", "dino #1"), relation(about, "dino", "mae")
    ('same objective', 'JE with REC')
    """
    one, other = about[a], about[b]
    traits = [(model.objective, model.arch, model.tuned) for model in (one, other)]
    if one.objective and traits[0] == traits[1]:
        return "same objective"
    families = [one.family, other.family]
    return f"{families[0]} with {families[1]}" if all(families) else ""


def _numbers(asked: Asked, each: Found) -> dict[str, Any]:
    """The columns of one number."""
    low, high = each.sampled.interval()
    row = {
        "measure": asked.measure,
        "k": asked.k,
        "images": asked.images,
        "count": each.images,
        "chance": each.chance,
    }
    return row | {"value": float(each.sampled.value), "low": float(low), "high": float(high)}


def _claim(
    inputs: Inputs, reading: str, found: Mapping[Names, Mapping[Asked, Found]]
) -> Iterator[dict[str, Any]]:
    """JE with JE, and what it is more than JE with REC, of every number (claim C6)."""
    je, rec = _families.both(inputs)
    within, across = (
        _of(found, itertools.combinations(je, 2)),
        _of(found, itertools.product(je, rec)),
    )
    if not within or not across:
        return
    shown = {
        "row": "families",
        "model_a": JE,
        "control": False,
        "members": _families.members(inputs),
        "pooling": reading,
    }
    for asked in within[0]:
        own, other = (_mean([pair[asked] for pair in side]) for side in (within, across))
        for family, side, each in ((JE, within, own), (REC, across, other)):
            row = shown | {"model_b": family, "pairs": len(side), "relation": f"{JE} with {family}"}
            row |= _numbers(asked, each)
            yield row | (_less(f"{JE} · {REC}", own, other) if family == JE else {})


def _less(name: str, one: Found, other: Found) -> dict[str, Any]:
    """The columns of a paired difference."""
    apart = one.sampled - other.sampled
    low, high = apart.interval()
    row = {
        "less": name,
        "difference": float(apart.value),
        "difference_low": float(low),
        "difference_high": float(high),
    }
    return row | {"count": min(one.images, other.images)}


def _of(
    found: Mapping[Names, Mapping[Asked, Found]], pairs: Iterable[Names]
) -> list[Mapping[Asked, Found]]:
    """Those of the pairs that there are, whichever model was named first."""
    return [
        found.get((a, b)) or found[b, a] for a, b in pairs if (a, b) in found or (b, a) in found
    ]


def _mean(parts: Sequence[Found]) -> Found:
    """The mean of pairs of models, undefined where one of them is: of other pairs it would be
    another mean."""
    side = Sampled.stack([part.sampled for part in parts])
    mean = Sampled(np.asarray(side.value.mean(0)), side.draws.mean(0), side.batches, side.drawn)
    return Found(
        mean, min(part.images for part in parts), float(np.mean([part.chance for part in parts]))
    )


def predictions(inputs: Inputs, reading: str) -> tuple[dict[str, Predicted], int]:
    """What the probe of each model says of the images, and of how many classes.

    Raises:
        InputError: the models' features are of other images, or all images are of one class.
    """
    ids = next(iter(inputs.features.values())).ids
    voters = inputs.bank_labels if inputs.bank else inputs.labels
    known = np.unique(list(voters.values()))  # a class without a training image cannot be ranked
    if len(known) < 2:
        raise InputError(
            "All labelled images are of one class: predictions of classes need two or more."
        )
    place = {int(label): number for number, label in enumerate(known)}
    labels = np.array([place.get(inputs.labels[name], -1) for name in ids])
    found = {}
    for name, features in inputs.features.items():
        if features.ids != ids:
            raise InputError(
                f"The features of {name} are of other images than those of the first model."
            )
        column, bank = last(features, reading), inputs.bank.get(name)
        if bank is None:
            logits = probe_logits(features.read(*column), labels, len(known))
        else:
            theirs = np.array([place[inputs.bank_labels[i]] for i in bank.ids])
            asked = features.read(*column)
            logits = probe_logits(bank.read(*column), theirs, len(known), asked)
        found[name] = Predicted.of(logits, labels, min(max(KS), len(known)))
    return found, len(known)


def probe_logits(
    features: Float[Tensor, "image dim"],
    labels: Int64[np.ndarray, " image"],
    classes: int,
    asked: Float[Tensor, "asked dim"] | None = None,
) -> Float[Tensor, "asked class"]:
    """What a ridge probe says of the images asked about; without these, of each image when it is
    left out of the training."""
    targets = F.one_hot(torch.from_numpy(labels), classes).double()
    path = ridge(features, targets)
    each = [
        replace(
            path,
            lambdas=(penalty,),
            weights=path.weights[i : i + 1],
            intercept=path.intercept[i : i + 1],
        )
        for i, penalty in enumerate(path.lambdas)
    ]  # one penalty at a time: what all say of all images is large
    best = min(each, key=lambda one: float((one.left_out - targets).square().mean()))
    return (best.left_out if asked is None else best.predict(asked))[0]


def draw(table: Table) -> Figure:
    """Models against models: tau over the smallest top by kind of image, F1 and κ; and tau by k,
    beside the controls."""
    frame = table.frame[table.frame.row == "pair"]
    frame = frame[frame.pooling == frame.pooling.iloc[0]]
    names = list(dict.fromkeys([*frame.model_a, *frame.model_b]))
    k = int(frame.k[frame.measure == "tau"].min())
    floor = 0.0 if frame.value.min(skipna=True) >= 0 else -1.0

    def square(measure: str, k: int, images: str, title: str) -> Heatmap:
        values = np.eye(len(names))
        chosen = frame[(frame.measure == measure) & (frame.k == k) & (frame.images == images)]
        for row in chosen.itertuples():
            i, j = names.index(row.model_a), names.index(row.model_b)
            values[i, j] = values[j, i] = row.value
        shown = tuple(names)
        return Heatmap(title, values, shown, shown, "", "", (floor, 1.0), "agreement")

    top: list[Panel | None] = [
        square("tau", k, images, f"tau, top {k}: {images}") for images in SUBSETS
    ]
    f1, kappa = (
        square("f1", 0, "all", "F1 of the first choice"),
        square("kappa", 0, "all", "Error consistency κ"),
    )
    return Figure("agreement", (tuple(top), (f1, kappa, _by_k(frame))))


def _by_k(frame: pd.DataFrame) -> Lines:
    """Tau over all images against k: pairs of models, and random initialisations with each
    other."""
    tau = frame[(frame.measure == "tau") & (frame.images == "all")]
    models = tau[~tau.control]
    studied = {*models.model_a, *models.model_b}
    if models[["model_a", "model_b"]].drop_duplicates().shape[0] > 6:  # a colour each
        models = models[models.model_a == models.model_a.iloc[0]]
    controls = tau[~tau.model_a.isin(studied) & ~tau.model_b.isin(studied)]
    lines = []
    for (a, b), rows in pd.concat([models, controls]).groupby(["model_a", "model_b"], sort=False):
        x, y, low, high = (rows[column].to_numpy(float) for column in ("k", "value", "low", "high"))
        lines.append(Line(f"{a} · {b}", x, y, low, high, control=bool(rows.control.iloc[0])))
    return Lines(
        "tau by k: all", "classes in the top k", "Kendall's tau", tuple(lines), None, log_x=True
    )


def findings(table: Table) -> tuple[str, ...]:
    """Claim C6 by pooling; without two families, what each pair of models has in common."""
    frame = table.frame
    said = [
        _claimed(rows, str(pooling))
        for pooling, rows in frame[frame.row == "families"].groupby("pooling", sort=False)
    ]
    if said:
        return tuple(said)
    frame = frame[(frame.row == "pair") & (frame.pooling == frame.pooling.iloc[0])]
    pairs = frame[~frame.control].groupby(["model_a", "model_b"], sort=False)
    ordered = sorted(pairs, key=lambda each: -_only(each[1], "same", 0).value)
    return tuple(_compared(rows) for _, rows in ordered[:SAID])


#: pairs of models that are spoken of, those that agree most
SAID = 3


def _only(rows: pd.DataFrame, measure: str, k: int, images: str = "all") -> Any:
    """The row of one number; None where there is none."""
    found = rows[(rows.measure == measure) & (rows.k == k) & (rows.images == images)]
    return found.iloc[0] if len(found) else None


def _claimed(rows: pd.DataFrame, pooling: str) -> str:
    """Whether JE models agree more with each other than with REC, number by number."""
    own = rows[rows.model_b == JE]
    k = int(own.k[own.measure == "tau"].min())
    asked = {
        f"tau over the top {k}, {images} images": Asked("tau", k, images) for images in SUBSETS
    }
    asked |= {
        "F1 of the first choice": Asked("f1", 0, "all"),
        "error consistency": Asked("kappa", 0, "all"),
    }
    said = []
    for name, which in asked.items():
        row = _only(own, *which)
        if row is not None and not pd.isna(row.difference):
            said.append(f"{name} {row.value:.2f}, {_roles.spelt_difference(row)}{_verdict(row)}")
    return (
        f"{JE} models with each other, and what that is more than {JE} with {REC}"
        f" ({own.members.iloc[0]}; probes of the {READINGS[pooling]}): {'; '.join(said)}."
    )


def _verdict(row: Any) -> str:
    """What a difference decides, as words after it."""
    if row["count"] < FEWEST or pd.isna(row.difference_low):
        return f" (of {row['count']:.0f} images, which cannot decide)"
    return (
        " (less)" if row.difference_high < 0 else "" if row.difference_low > 0 else " (not decided)"
    )


def _compared(rows: pd.DataFrame) -> str:
    """A pair of models beside two random initialisations."""
    k = int(rows.k[rows.measure == "tau"].min())
    tau, f1, same, kappa = (
        _only(rows, *which) for which in (("tau", k), ("f1", 0), ("same", 0), ("kappa", 0))
    )
    said = (
        f"{same.model_a} and {same.model_b} predict the same class of {same.value:.1%} of the"
        f" images (F1 {f1.value:.2f}; right "
    )
    said += f"{same.accuracy_a:.1%} and {same.accuracy_b:.1%})"
    if not pd.isna(kappa.value):
        said += f", with error consistency {_spelt(kappa)}"
    if not pd.isna(tau.value):
        said += f" and tau over the top {k} {_spelt(tau)}" + (
            "" if pd.isna(tau.chance) else f" (by chance {tau.chance:.2f})"
        )
    if not pd.isna(kappa.difference):
        said += (
            f"; error consistency is {_roles.spelt_difference(kappa)} more than that of two random"
            " initialisations"
        )
    return said + "."


def _spelt(row: Any) -> str:
    """A value with its interval, where there is one."""
    return (
        f"{row.value:.2f}"
        if pd.isna(row.low)
        else f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]"
    )
