"""The tables of probes: the grid, the ridge preview, few-shot probes, decoded factors."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Bool

from sslens.capture import Column
from sslens.comparisons.probe_protocols import converge_few_shot
from sslens.comparisons.probe_training import PENALTIES, Parts, Trained
from sslens.counts import spell_count
from sslens.data.images import ImageSet
from sslens.errors import InputError
from sslens.probes import factors
from sslens.probes.linear.choosing import Outcome
from sslens.probes.linear.grid import Point
from sslens.probes.linear.heads import Head
from sslens.probes.linear.protocols import Grid, few_shot_outcomes
from sslens.probes.linear.training import Probes
from sslens.probes.ridge import classify
from sslens.probes.splits import few_shot
from sslens.statistics.proportions import wilson
from sslens.study.probe_sets import ProbeSets
from sslens.table import Table

#: images that the closed-form preview learns from at most
PREVIEWED = 20_000
#: heads that are named in a terminal
NAMED = 8
PLACE = {"tap": "where the features are read", "pooling": "how they are pooled"}
RIDGE = PLACE | {
    "accuracy": "share of test images that a ridge probe has right",
    "low": "lower end of its 95 % Wilson interval",
    "high": "upper end",
    "penalty": "λ, chosen by leave-one-out on the training images",
    "trained": "training images",
    "images": "test images",
}
GRID = PLACE | {
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
FEW = PLACE | {
    "layers": "of the probe; 1 is linear",
    "share": "of the labels, for training and for choosing the point",
    "draw": "which of the draws of that share",
    "accuracy": "share of test images that the chosen point has right",
    "low": "lower end of its 95 % Wilson interval",
    "high": "upper end",
    "converged": "whether the training reached its optimum",
    "inside": "whether the penalty or the setting lies inside those that were tried",
    "images": "test images",
}
POINT = ("lr", "weight_decay", "min_lr", "warmup", "epochs")


def preview(sets: ProbeSets, heads: Sequence[Head]) -> Table:
    """Train a ridge probe on the features of each head, as a table."""
    train = sets.train
    if len(train.rows) > PREVIEWED:  # of every class its share: a class may follow another
        some = few_shot(train.labels[train.rows], train.ids, PREVIEWED / len(train.rows))
        train = replace(train, rows=train.rows[some])
    labels, asked = train.taken_labels, sets.test.taken_labels
    rows = []
    for columns in dict.fromkeys(head.columns for head in heads):
        predicted, penalty = classify(train.read(columns), labels, sets.test.read(columns))
        right = int((predicted == asked).sum())
        low, high = wilson(right, len(asked))
        rows.append(
            _place(columns)
            | {"accuracy": right / len(asked), "low": low, "high": high, "penalty": penalty}
            | {"trained": len(labels), "images": len(asked)}
        )
    return Table(pd.DataFrame(rows, columns=list(RIDGE)), RIDGE)


def require_scenes(sets: ProbeSets) -> tuple[ImageSet, ImageSet]:
    """Return the training and the test images, whose factors are known.

    Raises:
        InputError: the features are stored, so that the scenes are not known; or the images are no
            scenes.
    """
    from sslens.data.scene_images import factors_of

    train, test = sets.train.take_images(), sets.test.take_images()
    if train is None or test is None:
        raise InputError(
            "The factors are known of generated scenes alone",
            mend="give a model, and {images=scenes:0:4000}",
        )
    factors_of(train.take([0]))
    return train, test


def decode_factors(sets: ProbeSets, heads: Sequence[Head]) -> Table:
    """Measure how well the factors of generated scenes are read from each layer, as a table.

    Raises:
        InputError: the features are stored, so that the scenes are not known.
    """
    from sslens.data.scene_images import factors_of

    train, test = require_scenes(sets)
    frames = []
    for columns in dict.fromkeys(head.columns for head in heads):
        decoded = factors.decode(
            sets.train.read(columns),
            factors_of(train),
            sets.test.read(columns),
            factors_of(test),
        )
        frames.append(decoded.assign(**_place(columns)))
    units = PLACE | factors.UNITS
    return Table(pd.concat(frames, ignore_index=True)[list(units)], units)


def try_few_shot(
    sets: ProbeSets, share: float, heads: Sequence[Head], grid: Grid | None, device: str
) -> Table:
    """Train and test each head with a share of the labels, to its optimum unless a grid is given;
    the table has a row for each head and draw."""
    request = sets.request
    if grid is None:
        draws = converge_few_shot(
            Parts(*(sets.data(part, heads) for part in (sets.train, sets.val, sets.test))),
            (sets.train.ids, sets.val.ids),
            heads,
            share=share,
            draws=request.draws,
            seed=request.seed,
            top=request.top,
            device=device,
        )
        return _tabulate_few_shot(draws, share)
    draws = few_shot_outcomes(
        sets.data(sets.train, heads),
        sets.train.ids,
        sets.data(sets.val, heads),
        sets.val.ids,
        sets.data(sets.test, heads),
        heads,
        grid,
        share=share,
        draws=request.draws,
        seed=request.seed,
        top=request.top,
        device=device,
    )
    return _tabulate_few_shot(draws, share)


def _tabulate_few_shot(draws: Sequence[Mapping[Head, Outcome]], share: float) -> Table:
    """Return a table with a row for each draw and head."""
    rows = [
        _place(head.columns)
        | {"layers": head.layers, "share": share, "draw": number}
        | {name: getattr(outcome, name) for name in ("accuracy", "low", "high")}
        | {name: getattr(outcome, name) for name in ("converged", "inside")}
        | {"images": len(outcome.right)}
        for number, by_head in enumerate(draws)
        for head, outcome in by_head.items()
    ]
    return Table(pd.DataFrame(rows, columns=list(FEW)), FEW)


def tabulate_grid(
    probes: Probes,
    validated: Mapping[Head, Bool[np.ndarray, "point validation"]],
    tested: Mapping[Head, Bool[np.ndarray, "point test"]],
) -> Table:
    """Return a table with every point of the grid for every head."""
    rows = []
    for head in probes.heads:
        for number, point in enumerate(probes.grid):
            diverged = int(probes.diverged[head][number])
            validation, accuracy = (
                right[head][number].mean() if diverged < 0 else np.nan
                for right in (validated, tested)
            )
            rows.append(
                _place(head.columns)
                | {"layers": head.layers}
                | {name: getattr(point, name) for name in POINT}
                | {"validation": validation, "accuracy": accuracy, "diverged": diverged}
            )
    return Table(pd.DataFrame(rows, columns=list(GRID)), GRID)


def tabulate_penalties(trained: Trained) -> Table:
    """Return a table with every penalty of every linear probe, and its certificate."""
    rows = [_place(head.columns) | row for head, row in trained.penalties()]
    units = PLACE | PENALTIES
    return Table(pd.DataFrame(rows, columns=list(units)), units)


def list_outcomes(outcomes: Sequence[Outcome], grid: Sequence[Point]) -> str:
    """Describe the best heads in a few lines, for a person."""
    best = sorted(outcomes, key=lambda outcome: -outcome.validation)
    lines = []
    for outcome in best[:NAMED]:
        lines.append(
            f"probe     {outcome.head.name}: {outcome.accuracy:.1%} [{outcome.low:.1%},"
            f" {outcome.high:.1%}] {_describe_choice(outcome, grid)}"
        )
        if outcome.why:
            lines.append(f"note      {outcome.head.name} is not settled: {outcome.why}")
        if outcome.diverged:
            lines.append(
                f"note      {outcome.diverged} of {outcome.points or len(grid)} points of"
                f" {outcome.head.name} diverged and count for none"
            )
    if best[NAMED:]:
        lines.append(f"          and {len(best) - NAMED} more in probes.csv")
    return "\n".join(lines)


def _describe_choice(outcome: Outcome, grid: Sequence[Point]) -> str:
    """Say which penalty or point was chosen; the mean of the best five is told of a grid only."""
    if outcome.penalty == outcome.penalty:
        return f"at the optimum (penalty {outcome.penalty:g})"
    point = outcome.setting or grid[outcome.point]
    chosen = (
        f"by the point chosen (lr {point.lr:g}, decay {point.weight_decay:g},"
        f" {spell_count(point.epochs, 'epoch')})"
    )
    if not grid:
        return chosen
    return (
        f"{chosen}; best five {outcome.best:.1%} (standard deviation of the five"
        f" {outcome.std:.1%}), chosen on the test images"
        " themselves"
    )


def _place(columns: Sequence[Column]) -> dict[str, str]:
    taps, poolings = zip(*columns, strict=True)
    return {"tap": " + ".join(taps), "pooling": " + ".join(dict.fromkeys(poolings))}
