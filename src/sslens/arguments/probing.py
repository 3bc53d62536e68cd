"""What `sslens probe` trains and tests on: features of a model over images, or stored ones, and the
tables that come of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from sslens import zoo
from sslens.arguments.probe import Command
from sslens.capture import Column, FeatureReducer, Features, collect, open_features
from sslens.data import open_images
from sslens.data.images import ImageSet
from sslens.errors import InputError, nearest
from sslens.models.backbone import Backbone
from sslens.plan import Plan
from sslens.probes import factors
from sslens.probes.linear.protocols import Grid, few_shot_outcomes
from sslens.probes.linear.training import (
    Augmented,
    Head,
    Held,
    Outcome,
    Point,
    Probes,
    Stored,
    require_top,
)
from sslens.probes.ridge import classify
from sslens.probes.splits import few_shot, held_out
from sslens.processes import best_precision
from sslens.progress import progress
from sslens.statistics.proportions import wilson
from sslens.store import Store, home
from sslens.table import Table

#: bytes of features up to which they are held in memory, and images that the closed-form preview
#: learns from at most
IN_MEMORY, PREVIEWED = 4 << 30, 20_000

_WHERE = {"tap": "where the features are read", "pooling": "how they are pooled"}
RIDGE = _WHERE | {
    "accuracy": "share of test images that a ridge probe has right",
    "low": "lower end of its 95 % Wilson interval",
    "high": "upper end",
    "penalty": "λ, chosen by leave-one-out on the training images",
    "trained": "training images",
    "images": "test images",
}
GRID = _WHERE | {
    "layers": "of the probe; 1 is linear",
    "lr": "base learning rate; × minibatch / 256",
    "weight_decay": "λ of LARS",
    "min_lr": "learning rate at the end of the cosine",
    "warmup": "epochs",
    "epochs": "length of the training",
    "validation": "share of validation images right; undefined where the point diverged",
    "accuracy": "share of test images right; undefined where the point diverged",
    "diverged": "epoch in which its values overflowed, −1 where they did not",
}
FEW = _WHERE | {
    "layers": "of the probe; 1 is linear",
    "share": "of the labels, for training and for choosing the point",
    "draw": "which of the draws of that share",
    "accuracy": "share of test images that the chosen point has right",
    "low": "lower end of its 95 % Wilson interval",
    "high": "upper end",
    "images": "test images",
}


@dataclass(frozen=True)
class Part:
    """Features of some images, the rows that are taken, and their classes as numbers of the
    training images' classes."""

    store: Features
    rows: np.ndarray
    labels: np.ndarray
    images: ImageSet | None

    @property
    def ids(self) -> list[str]:
        """Of the rows that are taken."""
        return [self.store.ids[row] for row in self.rows]

    def read(self, columns: Sequence[Column]) -> torch.Tensor:
        """The features of the rows that are taken, columns side by side."""
        return torch.cat([self.store.read(*column, self.rows).float() for column in columns], 1)


@dataclass(frozen=True)
class Sets:
    """The images of a probe: to train on, to choose on, to test on (the same where they are tested
    in folds)."""

    model: Backbone | None
    classes: tuple[str, ...]
    train: Part
    val: Part
    test: Part

    @classmethod
    def open(cls, command: Command, device: str, *, quiet: bool) -> "Sets":
        """The features read from folders, or made by the model."""
        model = None if command.images is None else zoo.load(command.source)
        parts: dict[str, Part] = {}
        named = {
            "train": command.images or command.source,
            "val": command.val,
            "test": command.test,
        }
        for name, source in named.items():
            if source is None:
                continue
            store, images = (
                (open_features(source), None)
                if model is None
                else _extracted(model, source, command, device, quiet)
            )
            first = parts.get("train")
            _require_labels(source, store)
            if first:
                _require_fitting(source, store, first.store)
            labels = (
                np.array(store.labels)
                if not first
                else _renumbered(source, store, first.store.classes)
            )
            parts[name] = Part(store, np.arange(len(store)), labels, images)
        train = parts["train"]
        require_top(command.top, len(train.store.classes))
        if command.folds is not None:
            return cls(model, train.store.classes, train, train, train)
        if "val" not in parts:
            kept, held = held_out(
                train.labels, train.store.ids, seed=command.seed, classes=train.store.classes
            )
            parts["val"] = replace(train, rows=held)
            train = replace(train, rows=kept)
        return cls(model, train.store.classes, train, parts["val"], parts["test"])

    def heads(self, command: Command) -> list[Head]:
        """Each layer asked for, alone and perhaps with the last, at each depth of the probe."""
        store = self.train.store
        names = [
            tap.name for tap in store.taps if any(tap.name == each for each, _ in store.columns)
        ]
        last = names[-1]
        taps = names if command.taps == ("all",) else list(command.taps or (last,))
        poolings = (
            command.pooling or tuple(p for p in store.poolings if (last, p) in store.columns)[:1]
        )
        heads = []
        for pooling in poolings:
            for tap in taps:
                own, ending = store.require(tap, pooling), store.require(last, pooling)
                heads += [Head((own,), depth) for depth in command.layers]
                if command.with_last and own != ending:
                    heads += [Head((own, ending), depth) for depth in command.layers]
        return heads

    def data(
        self, part: Part, command: Command, heads: Sequence[Head], *, batch: int | None = None
    ) -> Held | Stored:
        """The features of a part: in memory, or read block by block where they are large."""
        columns = list(dict.fromkeys(column for head in heads for column in head.columns))
        size = 4 * len(part.rows) * sum(part.store.columns[column] for column in columns)
        labels = torch.from_numpy(part.labels)
        if size > IN_MEMORY:
            return Stored(
                part.store,
                labels,
                len(self.classes),
                rows=part.rows,
                columns=columns,
                batch=batch,
                seed=command.seed,
            )
        features = {column: part.read([column]) for column in columns}
        return Held(
            features,
            labels[torch.from_numpy(part.rows)],
            len(self.classes),
            batch=batch,
            seed=command.seed,
        )

    def training(
        self, command: Command, heads: Sequence[Head], device: str
    ) -> Held | Stored | Augmented:
        """What the probes are trained on: features, or random views through the model."""
        if not command.augment:
            return self.data(self.train, command, heads, batch=command.batch)
        assert self.model is not None
        assert self.train.images is not None
        row = {name: number for number, name in enumerate(self.train.images.ids)}
        images = self.train.images.take([row[name] for name in self.train.ids])
        columns = list(dict.fromkeys(column for head in heads for column in head.columns))
        return Augmented(
            self.model, images, columns, batch=command.batch, seed=command.seed, device=device
        )

    def describe(self, command: Command, heads: Sequence[Head], points: int) -> str:
        """The plan, for a person."""
        parts = {"train": self.train, "choose": self.val, "test": self.test}
        if command.folds is not None:
            parts = {"images": self.train}
        lines = [f"model     {self.train.store.model}, {len(self.classes)} classes"]
        lines += [f"{name:<10}{len(part.rows):,} images" for name, part in parts.items()]
        lines.append(
            f"probes    {len(heads)} × {points} points of the grid, trained together:"
            f" {heads[0].name}" + (", …" if heads[1:] else "")
        )
        if command.folds is not None:
            lines.append(f"folds     {command.folds}, each image tested once")
        if command.augment:
            lines.append(
                "views     random crops and flips, a forward pass of all training images an epoch"
            )
        return "\n".join(lines)

    def preview(self, heads: Sequence[Head]) -> Table:
        """A ridge probe of what each head reads."""
        train = self.train
        if (
            len(train.rows) > PREVIEWED
        ):  # of every class its share: a store may hold one class after another
            some = few_shot(train.labels[train.rows], train.ids, PREVIEWED / len(train.rows))
            train = replace(train, rows=train.rows[some])
        labels, asked = (torch.from_numpy(part.labels[part.rows]) for part in (train, self.test))
        rows = []
        for columns in dict.fromkeys(head.columns for head in heads):
            predicted, penalty = classify(train.read(columns), labels, self.test.read(columns))
            right = int((predicted == asked).sum())
            low, high = wilson(right, len(asked))
            rows.append(
                _where(columns)
                | {"accuracy": right / len(asked), "low": low, "high": high, "penalty": penalty}
                | {"trained": len(labels), "images": len(asked)}
            )
        return Table(pd.DataFrame(rows, columns=list(RIDGE)), RIDGE)

    def decoded(self, heads: Sequence[Head], seed: int) -> Table:
        """What each layer knows of the factors of generated scenes."""
        from sslens.data.scene_images import factors_of

        frames = []
        for part in (self.train, self.test):
            if part.images is None:
                raise InputError(
                    "The factors are known of generated scenes alone: give a model, and --images"
                    " scenes:0:4000."
                )
            row = {name: number for number, name in enumerate(part.images.ids)}
            frames.append(factors_of(part.images.take([row[name] for name in part.ids])))
        rows = []
        for columns in dict.fromkeys(head.columns for head in heads):
            found = factors.decode(
                self.train.read(columns), frames[0], self.test.read(columns), frames[1], seed=seed
            )
            rows.append(found.assign(**_where(columns)))
        units = _WHERE | factors.UNITS
        return Table(pd.concat(rows, ignore_index=True)[list(units)], units)

    def few_shot(
        self, command: Command, share: float, heads: Sequence[Head], grid: Grid, device: str
    ) -> Table:
        """What each head comes to with a share of the labels: a row a head and draw."""
        found = few_shot_outcomes(
            self.data(self.train, command, heads),
            self.train.ids,
            self.data(self.val, command, heads),
            self.val.ids,
            self.data(self.test, command, heads),
            heads,
            grid,
            share=share,
            draws=command.draws,
            seed=command.seed,
            top=command.top,
            device=device,
        )
        rows = [
            _where(head.columns)
            | {"layers": head.layers, "share": share, "draw": draw}
            | {name: getattr(each, name) for name in ("accuracy", "low", "high")}
            | {"images": len(each.right)}
            for draw, by_head in enumerate(found)
            for head, each in by_head.items()
        ]
        return Table(pd.DataFrame(rows, columns=list(FEW)), FEW)


def planned(command: Command, points: int) -> str:
    """The plan before any feature is made, for a person."""
    lines = []
    named = {"train": command.images, "choose": command.val, "test": command.test}
    if command.images is None:
        named |= {"train": command.source}
    for name, source in named.items():
        if source is None:
            continue
        if command.images is None:
            store = open_features(source)
            lines.append(f"{name:<10}{len(store):,} stored images of {store.model}")
        else:
            lines.append(
                f"{name:<10}{len(open_images(source, limit=command.limit, seed=command.seed)):,}"
                f" images of {source}"
            )
    if command.images is not None:
        lines.insert(
            0,
            f"model     {zoo.load(command.source).name}, one pass over all images, unless in the"
            " store",
        )
    layers = ", ".join(map(str, command.layers))
    lines.append(
        f"probes    {points} points of the grid a layer of the model and depth of the probe"
        f" ({layers}), trained together"
    )
    return "\n".join(lines)


def grid_table(
    probes: Probes, validated: Mapping[Head, np.ndarray], tested: Mapping[Head, np.ndarray]
) -> Table:
    """Every point of the grid of every head."""
    rows = []
    for head in probes.heads:
        for number, point in enumerate(probes.grid):
            diverged = int(probes.diverged[head][number])
            shares = (
                right[head][number].mean() if diverged < 0 else np.nan
                for right in (validated, tested)
            )
            rows.append(
                _where(head.columns)
                | {"layers": head.layers}
                | {
                    name: getattr(point, name)
                    for name in ("lr", "weight_decay", "min_lr", "warmup", "epochs")
                }
                | dict(zip(("validation", "accuracy"), shares, strict=True))
                | {"diverged": diverged}
            )
    return Table(pd.DataFrame(rows, columns=list(GRID)), GRID)


def spoken(outcomes: Sequence[Outcome], grid: Sequence[Point]) -> str:
    """The best heads in a few lines, for a person."""
    best = sorted(outcomes, key=lambda each: -each.validation)
    lines = []
    for each in best[:8]:
        point = grid[each.point]
        lines.append(
            f"probe     {each.head.name}: {each.accuracy:.1%} [{each.low:.1%}, {each.high:.1%}] by"
            f" the point chosen (lr {point.lr:g}, decay {point.weight_decay:g}, {point.epochs}"
            f" epochs); best five {each.best:.1%} ± {each.std:.1%}"
        )
        if each.diverged:
            lines.append(
                f"note      {each.diverged} of {len(grid)} points of {each.head.name} diverged and"
                " count for none"
            )
    if best[8:]:
        lines.append(f"          and {len(best) - 8} more in probes.csv")
    return "\n".join(lines)


def _where(columns: Sequence[Column]) -> dict[str, Any]:
    taps, poolings = zip(*columns, strict=True)
    return {"tap": " + ".join(taps), "pooling": " + ".join(dict.fromkeys(poolings))}


def _extracted(
    model: Backbone, source: str, command: Command, device: str, quiet: bool
) -> tuple[Features, ImageSet]:
    """The features of images, from the store or from one pass."""
    with progress("checking images", quiet=quiet) as report:
        images = open_images(source, limit=command.limit, seed=command.seed, progress=report)
    if images.labels is None:
        raise InputError(
            f"{source} has no classes, which a probe learns: give a folder with a subfolder a"
            " class."
        )
    with progress(model.name, quiet=quiet) as report:
        (features,) = collect(
            model,
            images,
            [FeatureReducer()],
            plan=Plan.draw(images.ids, 32, command.seed),
            store=Store(home() / "store"),
            device=device,
            precision=best_precision(command.precision, device),
            progress=report,
        )
    labels = dict(zip(images.ids, images.labels.tolist(), strict=True))
    return features.labelled(labels, images.classes), images


def _require_labels(source: str, store: Features) -> None:
    if store.labels is None:
        raise InputError(
            f"{source} holds features of images without classes, which a probe learns."
        )


def _require_fitting(source: str, store: Features, first: Features) -> None:
    """Refuse features of another model, and those of the images that are trained on."""
    if store.key["weights"] != first.key["weights"]:
        raise InputError(
            f"{source} holds features of {store.model}, and the training images' are of"
            f" {first.model}: of other weights."
        )
    if store.key["images"] == first.key["images"]:
        raise InputError(
            f"{source} holds the images that the probes are trained on: give others, or --folds,"
            " which tests each image by probes that have not seen it."
        )


def _renumbered(source: str, store: Features, classes: Sequence[str]) -> np.ndarray:
    """Classes as numbers of the training images' classes, by name."""
    number = {name: place for place, name in enumerate(classes)}
    assert store.labels is not None
    for label in np.unique(store.labels).tolist():
        if store.classes[label] not in number:
            name = store.classes[label]
            raise InputError(
                f'{source} has images of the class "{name}", of which there is none to train on:'
                f" {nearest(name, classes)}"
            )
    return np.array([number.get(name, -1) for name in store.classes], np.int64)[store.labels]
