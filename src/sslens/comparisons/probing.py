"""Probes of a study's models: which images train, choose and test them, and gains as paired
differences on the test images."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from sslens.capture import Column, Features
from sslens.comparisons import untyped as _families
from sslens.comparisons import untyped as _roles
from sslens.comparisons.inputs import Inputs
from sslens.comparisons.roles import JE, REC
from sslens.errors import InputError
from sslens.figure import Line, Lines
from sslens.probes.linear import choosing as _choosing
from sslens.probes.linear.training import GRIDS, Head, Held, Outcome, outcomes, train_probes
from sslens.probes.linear.training import table as outcome_table
from sslens.probes.splits import held_out
from sslens.progress import progress
from sslens.statistics.bootstrap import mean_interval

#: side to which raw pixels are shrunk before they are probed: heads are as wide as their features,
#: and 32 px are 3,072 values
SIDE = 8
READINGS = {
    "cls": "CLS token",
    "patch": "mean of patch tokens",
    "mean": "mean of all tokens",
    "flat": "raw values",
}
SPLIT = (
    "Probes are trained on the bank, or without one on half of the images, less a fifth on which"
    " the point of the grid is chosen; both parts are drawn by SHA-256 of the ids, class by class."
    " All numbers are of the other images, the test images"
)
UNITS = {
    "row": (
        "probe: one head of one model; second seed: it again, from other first weights; family:"
        " models of a family, their gains averaged; fine-tuned: what fine-tuning changed in a gain"
    ),
    "model": "name of a model, or of a family",
    "members": "the models averaged, or matched",
    "control": "whether it is a control",
    "depth": "relative depth of the tap, 0 to 1; of two taps that of the first",
    "usual": (
        "whether this is the usual choice: the last layer's CLS token (the mean where there is"
        " none), linear"
    ),
    "main": "whether the pooling is that of the usual choice",
    **_choosing.UNITS,
    "chance": "share of the most frequent class of the test images",
    "chosen": (
        "whether it is the one of its model, pooling and kind (single taps, or two) with most"
        " validation images right"
    ),
    "less": "what is subtracted in the gain",
    "gain": "accuracy less that of `less`, on the same images",
    "gain_low": "lower end of its 95 % interval, by bootstrap over test images, paired",
    "gain_high": "upper end",
    "over": "accuracy less that of the usual choice, on the same images",
    "over_low": "lower end of its 95 % interval",
    "over_high": "upper end",
    "against": "what is subtracted in the difference",
    "difference": "gain less that of `against`, on the same images",
    "difference_low": "lower end of its 95 % interval",
    "difference_high": "upper end",
}
Difference = Float64[np.ndarray, " image"]


def unfit(
    labels: Int64[np.ndarray, " image"],
    bank: Int64[np.ndarray, " banked"] | None,
    classes: Sequence[str],
) -> str | None:
    """Why no probe can be trained, chosen and tested on images of these classes; None where it can.

    >>> unfit(np.array([0, 0, 0, 0, 1]), None, ["cat", "dog"])
    'without a bank a class needs four images, to train, to choose and to test on, and dog has 1'
    >>> unfit(np.array([0, 1]), np.array([0, 0, 1, 1]), ["cat", "dog"])
    """
    fewest, short = (
        4,
        (
            "without a bank a class needs four images, to train, to choose and to test on, and {}"
            " has {}"
        ),
    )
    if bank is not None:
        fewest, short = (
            2,
            "a class of the bank needs two images, to train and to choose on, and {} has {}",
        )
    if any(len(np.unique(each)) < 2 for each in (labels, bank) if each is not None):
        return "the images are of one class, and a probe tells two or more apart"
    there, counts = np.unique(labels if bank is None else bank, return_counts=True)
    least = int(counts.argmin())
    return short.format(classes[there[least]], counts[least]) if counts[least] < fewest else None


def main_pooling(features: Features) -> str:
    """The pooling of the usual choice: CLS, or where the last layer has none the mean, or values as
    they are."""
    return next(p for p in ("cls", "mean", "flat") if (last(features), p) in features.columns)


def poolings(features: Features) -> tuple[str, ...]:
    """What is probed: the usual pooling, and beside CLS the mean of the patch tokens."""
    beside = ("patch",) if (last(features), "patch") in features.columns else ()
    return (main_pooling(features), *beside)


def last(features: Features) -> str:
    """The tap whose features are usually taken."""
    return features.taps[-1].name


def read(tap: str, pooling: str, features: Features) -> Float[Tensor, "image dim"]:
    """Features as they are probed: raw pixels at 8 × 8, all others as they are."""
    values = features.read(tap, pooling)
    side = round((values.shape[1] / 3) ** 0.5)
    if pooling != "flat" or side <= SIDE or 3 * side**2 != values.shape[1]:
        return values
    return F.adaptive_avg_pool2d(values.view(-1, 3, side, side), SIDE).flatten(1)


@dataclass(frozen=True, eq=False)
class Images:
    """Which rows of which features train, choose and test: the same images for all models."""

    train: Int64[np.ndarray, " train"]
    validation: Int64[np.ndarray, " validation"]
    test: Int64[np.ndarray, " test"]
    labels: Int64[np.ndarray, " image"]
    bank_labels: Int64[np.ndarray, " banked"]
    ids: tuple[str, ...]
    bank_ids: tuple[str, ...]

    @classmethod
    def of(cls, inputs: Inputs) -> "Images":
        """The bank and the images; without a bank halves of the images.

        Raises:
            InputError: the features of two models are of other images, or a class has too few.
        """
        ids, bank_ids = (_ids(each) for each in (inputs.features, inputs.bank))
        labels = np.array([inputs.labels[name] for name in ids])
        if inputs.bank:
            bank_labels = np.array([inputs.bank_labels[name] for name in bank_ids])
            learnt, test = np.arange(len(bank_ids)), np.arange(len(ids))
        else:
            bank_ids, bank_labels = ids, labels
            learnt, test = held_out(
                labels, ids, share=0.5, seed=inputs.seed, classes=inputs.classes
            )
        names = [bank_ids[row] for row in learnt]
        # of another seed: with that of the halves it would be the first of each class again
        kept, held = held_out(
            bank_labels[learnt], names, seed=inputs.seed + 1, classes=inputs.classes
        )
        return cls(learnt[kept], learnt[held], test, labels, bank_labels, ids, bank_ids)

    @property
    def learnt(self) -> Int64[np.ndarray, " learnt"]:
        """Training and validation images."""
        return np.sort(np.concatenate([self.train, self.validation]))

    def named(self, rows: Int64[np.ndarray, " row"], *, tested: bool = False) -> list[str]:
        """The ids of rows of the bank, or of those of the test images."""
        ids = self.ids if tested else self.bank_ids
        return [ids[row] for row in rows]

    def held(
        self, features: Features, bank: Features | None, columns: Sequence[Column], seed: int
    ) -> tuple[Held, Held, Held]:
        """One model's features to train on, to choose on and to test on."""
        classes = int(max(self.labels.max(), self.bank_labels.max())) + 1

        def part(source: Features, labels: np.ndarray, rows: np.ndarray) -> Held:
            at = torch.from_numpy(rows)
            values = {column: read(*column, source)[at] for column in columns}
            return Held(values, torch.from_numpy(labels[rows]), classes, seed=seed)

        among = features if bank is None else bank
        train, validation = (
            part(among, self.bank_labels, rows) for rows in (self.train, self.validation)
        )
        return train, validation, part(features, self.labels, self.test)


def _ids(features: Mapping[str, Features]) -> tuple[str, ...]:
    if not features:
        return ()
    first, *others = features.values()
    for other in others:
        if other.ids != first.ids:
            raise InputError(
                f"The features of {other.model} are of other images than those of {first.model}."
            )
    return first.ids


@dataclass(frozen=True, eq=False)
class Probed:
    """One model's probes: what each comes to, by head, and which test images it has right."""

    name: str
    outcomes: dict[Head, Outcome]
    rows: dict[Head, dict[str, Any]]

    def gain(self, head: Head, less: Head) -> Difference:
        """By test image: 1 where the one alone is right, −1 where the other alone is."""
        return self.outcomes[head].right.astype(float) - self.outcomes[less].right

    def best(self, heads: Sequence[Head]) -> Head:
        """That with most validation images right, of equals the first."""
        return max(heads, key=lambda head: self.outcomes[head].validation)


def probe(
    inputs: Inputs,
    images: Images,
    name: str,
    heads: Sequence[Head],
    *,
    label: str = "probes",
    seed: int | None = None,
) -> Probed:
    """Train every head of one model on every point of the study's grid, and choose and test.

    Raises:
        InputError: as `train_probes` and `outcomes` raise.
    """
    features = inputs.features[name]
    columns = list(dict.fromkeys(column for head in heads for column in head.columns))
    train, validation, test = images.held(features, inputs.bank.get(name), columns, inputs.seed)
    grid = GRIDS[inputs.grid](train.batch, train.steps)
    with progress(f"{label} of {name}", unit="epoch", quiet=inputs.quiet) as report:
        first = inputs.seed if seed is None else seed
        probes = train_probes(train, heads, grid, seed=first, device=inputs.device, progress=report)
    found = outcomes(probes, validation, test)
    frame = outcome_table(list(found.values()), grid).frame
    chance = float(np.bincount(test.labels.numpy()).max() / len(test.labels))
    usual = usual_head(features)
    depths = {tap.name: tap.depth for tap in features.taps}
    rows = {}
    for head, numbers in zip(found, frame.to_dict("records"), strict=True):
        pooling = head.columns[0][1]
        about = {
            "row": "probe",
            "model": name,
            "control": name in inputs.controls,
            "chance": chance,
        }
        about |= {
            "depth": depths[head.columns[0][0]],
            "usual": head == usual,
            "main": pooling == usual.columns[0][1],
        }
        rows[head] = about | {str(key): value for key, value in numbers.items()}
    return Probed(name, found, rows)


def usual_head(features: Features) -> Head:
    """A linear probe of the CLS token after the last layer, or of what the model has instead."""
    return Head(((last(features), main_pooling(features)),))


def gaining(column: str, difference: Difference, seed: int) -> dict[str, float]:
    """The columns of a mean difference, which are called `gain`, `over` or `difference`."""
    numbers = map(float, mean_interval(difference, seed))
    return dict(zip((column, f"{column}_low", f"{column}_high"), numbers, strict=True))


def families(
    inputs: Inputs, gains: Mapping[str, Difference], known: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """The mean gain of the models of each family, and what REC gains more than JE, on the same
    images."""
    sides = {
        family: [name for name in names if name in gains]
        for family, names in zip((JE, REC), _families.both(inputs), strict=True)
    }
    means = {
        family: np.mean([gains[name] for name in names], axis=0)
        for family, names in sides.items()
        if names
    }
    for family, mean in means.items():
        row = dict(known) | {
            "row": "family",
            "model": family,
            "members": _roles.listed(sides[family]),
        }
        row |= gaining("gain", mean, inputs.seed)
        if family == REC and JE in means:
            row |= {"against": JE} | gaining("difference", mean - means[JE], inputs.seed)
        yield row


def framed(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows with all columns of `UNITS`; what a row does not say is empty."""
    frame = pd.DataFrame(list(rows), columns=list(UNITS))
    for column in ("row", "model", "members", "tap", "pooling", "less", "against"):
        frame[column] = frame[column].astype(object).where(frame[column].notna(), "").astype(str)
    for column in ("control", "usual", "main", "chosen"):
        frame[column] = [value is True or value is np.True_ for value in frame[column]]
    return frame


def level(
    name: str, x: Float[np.ndarray, " point"], row: Any, columns: Sequence[str], *, control: bool
) -> Line:
    """A model that has one tap, as a level line."""
    y, low, high = (np.full(len(x), float(row[column])) for column in columns)
    return Line(name, x, y, low, high, control=control)


def by_depth(frame: pd.DataFrame, columns: tuple[str, str, str]) -> Iterator[Line]:
    """A line a model, of a value with its interval: the last layer stands where its last block
    does; raw pixels as a level line."""
    for name, rows in frame.groupby("model", sort=False):
        control = bool(rows.control.iloc[0])
        if len(rows) == 1 and rows.pooling.iloc[0] == "flat":
            yield level(str(name), np.array([0.0, 1.0]), rows.iloc[0], columns, control=control)
            continue
        x, y, low, high = (rows[column].to_numpy(float) for column in ("depth", *columns))
        yield Line(str(name), x, y, low, high, control=control)


def panel(title: str, x_label: str, y_label: str, lines: Iterator[Line]) -> Lines:
    """Curves whose range is that of what is drawn."""
    return Lines(title, x_label, y_label, tuple(lines), None)


def share(row: Any) -> str:
    """An accuracy with its interval.

    >>> share(pd.Series({"accuracy": 0.5, "low": 0.375, "high": 0.625}))
    '50.0% [37.5%, 62.5%]'
    """
    return f"{row.accuracy:.1%} [{row.low:.1%}, {row.high:.1%}]"


def points(row: Any, column: str = "gain") -> str:
    """A difference of accuracies with its interval.

    >>> points(pd.Series({"gain": 0.125, "gain_low": -0.0625, "gain_high": 0.25}))
    '+12.5 points [-6.2, +25.0]'
    """
    value, low, high = (100 * row[name] for name in (column, f"{column}_low", f"{column}_high"))
    return f"{value:+.1f} points [{low:+.1f}, {high:+.1f}]"


def verdict(row: Any, column: str = "gain") -> str:
    """What an interval decides, as words after it: nothing above 0, ", which is not decided", ",
    which is a loss"."""
    if row[f"{column}_low"] > 0:
        return ""
    return ", which is a loss" if row[f"{column}_high"] < 0 else ", which is not decided"


def claimed(rows: pd.DataFrame, what: str) -> str | None:
    """What each family gains, and whether REC alone does; None where no model has a family."""
    said = [
        f"{row.model} ({row.members}) {points(row._asdict())}{verdict(row._asdict())}"
        for row in rows.itertuples()
    ]
    if not said:
        return None
    sentence = f"{what}: {'; '.join(said)}"
    apart = rows[rows.against != ""]
    if len(apart) and not pd.isna(apart.iloc[0].difference):
        row = apart.iloc[0]
        sentence += f"; {REC} less {JE} {points(row, 'difference')}{verdict(row, 'difference')}"
    return sentence + "."


def each(rows: pd.DataFrame) -> Callable[[str], Any]:
    """The row of a model of a frame that has one row a model."""
    return rows.set_index("model").loc.__getitem__
