"""CKA of pairs of models, as rows of tables: cells, means at the same depth, paired differences.

The columns `CKA` of a row hold one CKA, or a mean over many, with its interval. The columns
`DIFFERENCE` of a row hold the name of a second CKA (`less`) and the paired difference CKA − second
CKA with its interval. Columns of the same names after `deconfounded` hold the same of deconfounded
CKA (`sslens.comparisons.beside` puts them there). `read_cka` and `read_contrast` read such rows
back; only the resulting `Estimate` and `Contrast` decide signs.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sslens.comparisons.compared import Pair as Pair
from sslens.comparisons.compared import Pairs as Pairs
from sslens.comparisons.compared import choose_kind as choose_kind
from sslens.comparisons.compared import compare_pair as compare_pair
from sslens.comparisons.compared import compare_pairs as compare_pairs
from sslens.comparisons.deconfounding import find_pixels as find_pixels
from sslens.comparisons.inputs import Models
from sslens.comparisons.roles import find_twins
from sslens.comparisons.rows import Row as Row
from sslens.comparisons.rows import make_results as make_tables
from sslens.statistics.estimate import Contrast, Estimate
from sslens.statistics.sampled import Sampled
from sslens.table import Results

#: every column of the tables of CKA, and what it holds
UNITS = {
    "model_a": "name of a model, or of a family where many pairs of models are averaged",
    "model_b": "name of a model or a family",
    "pairs": "pairs of models averaged",
    "members": "the models of the families",
    "control": "whether a control is among the two",
    "tokens": "which tokens were flattened: all, cls or patch",
    "kind": "what the taps compute",
    "tap_a": "tap of model_a",
    "tap_b": "tap of model_b",
    "depth": "relative depth, 0 to 1, of the pairs of taps that are averaged",
    "depth_a": "relative depth of tap_a, 0 to 1",
    "depth_b": "relative depth of tap_b, 0 to 1",
    "cka": "minibatch CKA, unbiased; empty where a tap is constant over images and CKA is 0/0",
    "low": "lower end of the 95 % interval over minibatches",
    "high": "upper end",
    "p": (
        "share of permutations of the images whose largest CKA over all cells of the pair reaches"
        " this one; models only"
    ),
    "threshold": "CKA that 95 % of the permutations reach in no cell of the pair",
    "less": "what is subtracted in the difference",
    "difference": "the value less that of `less`, on the same images",
    "difference_low": "lower end of its 95 % interval, minibatches left out of both together",
    "difference_high": "upper end",
    "together": "differences for which the interval holds at once",
    "minibatches": "resampled for the intervals",
    "deconfounded": (
        "the same of deconfounded CKA, the partial correlation given the pixels' Grams; empty where"
        " under 5 % of a Gram is left, or where there are no Grams of the pixels"
    ),
    "deconfounded_low": "lower end of its 95 % interval over minibatches",
    "deconfounded_high": "upper end",
    "deconfounded_difference": "the value less that of `less`, both deconfounded",
    "deconfounded_difference_low": "lower end of its 95 % interval",
    "deconfounded_difference_high": "upper end",
    "deconfounded_trainings_low": "lower end of its 95 % interval over images and trainings",
    "deconfounded_trainings_high": "upper end",
    "left": (
        "share 1 - r² of a tap's squared Gram that the pixels do not explain: of the two taps the"
        " smaller one, and its mean where many pairs of taps are averaged"
    ),
    "depths": "depths over which the difference is averaged",
    "depths_left": (
        "pairs of taps at the same depth whose deconfounded CKA is defined; of families, depths"
        " over which the deconfounded difference is averaged"
    ),
    "there": (
        "the difference at the depths alone at which the deconfounded one is defined; empty where"
        " these are all"
    ),
    "there_low": "lower end of its 95 % interval",
    "there_high": "upper end",
}
CKA = ("cka", "low", "high")
DIFFERENCE = ("less", "difference", "difference_low", "difference_high")
#: the columns of deconfounded CKA, as `CKA` and `DIFFERENCE` are of CKA
DECONFOUNDED = ("deconfounded", "deconfounded_low", "deconfounded_high")
DECONFOUNDED_DIFFERENCE = tuple(f"deconfounded_{name}" for name in DIFFERENCE[1:])
#: the difference at the depths at which the deconfounded one is defined, where these are not all
THERE = ("there", "there_low", "there_high")
PAIR = ("model_a", "model_b", "control", "tokens", "kind")
TAPS = ("tap_a", "tap_b", "depth_a", "depth_b")
_CELLS = ("deconfounded", "left", "minibatches")
_DIFFERENCES = (*PAIR, *CKA, *DIFFERENCE, *DECONFOUNDED, *DECONFOUNDED_DIFFERENCE)
#: the columns of the tables that every exhibit of pairs has; `same-depth` has the pairs of taps at
#: the same relative depth and `means` the mean over them, and `late` compares the last third of the
#: depths with the first
TABLES: Mapping[str, tuple[str, ...]] = {
    "cells": (*PAIR, *TAPS, *CKA, *_CELLS),
    "same-depth": (*PAIR, "depth", "tap_a", "tap_b", *CKA, *DECONFOUNDED, "left", "minibatches"),
    "means": (*_DIFFERENCES, "left", "depths_left", "minibatches"),
    "late": (*_DIFFERENCES, "minibatches"),
}
#: the same, where the cells are held against permuted images
TABLES_NULL = {**TABLES, "cells": (*PAIR, *TAPS, *CKA, "p", "threshold", *_CELLS)}
#: columns of text; a row without a value for such a column has an empty text there
TEXTS = ("model_a", "model_b", "members", "tokens", "kind", "tap_a", "tap_b", "less", "image")


def make_pair_rows(models: Models, pairs: Pairs) -> Iterator[tuple[str, Row]]:
    """Make the rows of the tables `TABLES`, each after the name of its table.

    Of pairs that are deconfounded themselves there are no cells.

    `cells` has a row for each pair of taps. `same-depth` has one for each pair of taps at the same
    relative depth. `means` has the mean CKA at the same depth; for two
    different models under study it also has the difference of that mean from the mean of two random
    initialisations of their architectures. `late` has the mean over the last third of the depths
    and its difference from the mean over the first third, for two different models under study
    with at least three depths.
    """
    for pair in pairs:
        names = make_pair_columns(pairs, pair)
        if pair.left is None:
            yield from (("cells", names | row) for row in make_cell_rows(pair))
        yield from (("same-depth", names | row) for row in make_same_depth_rows(pair))
        studied = pair.a != pair.b and not pair.control
        twins = find_twins(models, pair.a, pair.b) if studied else None
        control = pairs.find(*twins) if twins else None
        mean = make_cka_columns(pair.same.mean())
        if twins and control:
            mean |= make_contrast_columns(
                pair.same.mean(), f"{twins[0]} · {twins[1]}", control.same.mean()
            )
        if pair.left is not None:
            mean["left"] = float(np.mean(pair.left[pair.same_cells]))
            mean["depths_left"] = int(np.isfinite(pair.same.value).sum())
        yield "means", names | mean
        if studied and len(pair.depths) >= 3:
            late, early = pair.thirds()
            yield (
                "late",
                names
                | make_cka_columns(late)
                | make_contrast_columns(late, "the first third", early),
            )


def make_pair_columns(pairs: Pairs, pair: Pair) -> Row:
    """Make the columns `PAIR` of a row: the names of both models, the tokens and the kind."""
    return {
        "model_a": pair.a,
        "model_b": pair.b,
        "control": pair.control,
        "tokens": pairs.tokens,
        "kind": pairs.kind,
    }


def make_cell_rows(pair: Pair) -> Iterator[Row]:
    """Make a row for each pair of taps of two models, without the columns `PAIR`."""
    low, high = pair.cells.interval()
    beside = pair.deconfounded
    for cell, (a, b) in enumerate(itertools.product(*pair.taps)):
        row = {"tap_a": a.name, "tap_b": b.name, "depth_a": a.depth, "depth_b": b.depth}
        row |= {"cka": pair.cells.value[cell], "low": low[cell], "high": high[cell]}
        if pair.null is not None:
            row |= {"p": pair.null.p.flat[cell], "threshold": pair.null.threshold}
        if beside is not None and beside.left is not None:
            row |= {"deconfounded": beside.cells.value[cell], "left": beside.left[cell]}
        yield row | {"minibatches": pair.cells.batches}


def make_same_depth_rows(pair: Pair) -> Iterator[Row]:
    """Make a row for each pair of taps at the same relative depth, without the columns `PAIR`."""
    low, high = pair.same.interval()
    for point, (i, j) in enumerate(pair.matched):
        row = {"depth": pair.depths[point], "tap_a": pair.taps[0][i].name}
        row |= {"tap_b": pair.taps[1][j].name, "cka": pair.same.value[point]}
        row |= {"low": low[point], "high": high[point], "minibatches": pair.same.batches}
        if pair.left is not None:
            row["left"] = pair.left[pair.same_cells[point]]
        yield row


def make_cka_columns(value: Sampled) -> Row:
    """Make the columns `CKA` of a row from a single value, and the number of minibatches."""
    low, high = value.interval()
    ends = {"low": float(low), "high": float(high)}
    return {"cka": float(value.value), **ends, "minibatches": value.batches}


def make_contrast_columns(value: Sampled, less: str, other: Sampled) -> Row:
    """Make the columns `DIFFERENCE` of a row: the paired difference value − other.

    Args:
        value: a single value, which the other one is subtracted from.
        less: the name of `other`, in words.
        other: the single value that is subtracted.

    Raises:
        InputError: the two values are not of the same minibatches.
    """
    difference = value - other
    low, high = difference.interval()
    return make_difference_columns(less, float(difference.value), float(low), float(high))


def make_difference_columns(less: str, difference: float, low: float, high: float) -> Row:
    """Make the columns `DIFFERENCE` of a row from a difference and the ends of its interval."""
    return dict(zip(DIFFERENCE, (less, difference, low, high), strict=True))


def make_pair_results(
    rows: Iterable[tuple[str, Row]],
    tables: Mapping[str, Sequence[str]],
    units: Mapping[str, str] = UNITS,
) -> Results:
    """Collect rows about pairs into tables, with the text columns `TEXTS`.

    It calls `sslens.comparisons.rows.make_results`, which documents the details.

    Args:
        rows: pairs (name of a table, a row of that table), in the order of the rows.
        tables: the columns of each table, in the order of the tables.
        units: a description of each column, with its unit.

    >>> names = "mae", "dino"
    >>> rows = [("means", {"model_a": name, "cka": 0.5}) for name in names]
    >>> results = make_pair_results(rows, {"means": ("model_a", "less", "cka"), "late": ("cka",)})
    >>> results["means"].model_a.tolist(), results["means"].less.tolist(), "late" in results
    (['mae', 'dino'], ['', ''], False)
    """
    return make_tables(rows, tables, units, TEXTS)


def select_pair(rows: pd.DataFrame, a: str, b: str, tokens: str) -> pd.DataFrame:
    """Select the rows with model_a = `a`, model_b = `b` and these tokens."""
    return rows[(rows.tokens == tokens) & (rows.model_a == a) & (rows.model_b == b)]


def read_cka(row: Mapping[str, Any], column: str = "cka") -> Estimate:
    """Read the CKA of a row, in the column `column`, with its interval.

    The ends are in `deconfounded_low` and `deconfounded_high` for the column "deconfounded", else
    in `low` and `high`.
    """
    ends = DECONFOUNDED[1:] if column == DECONFOUNDED[0] else CKA[1:]
    return Estimate.from_row(row, column, "minibatches", "minibatches", ends=ends)


def read_contrast(row: Mapping[str, Any], of: str = "cka") -> Contrast:
    """Read the paired difference of a row: its CKA less the CKA named in the column `less`.

    Args:
        row: a row with the columns `DIFFERENCE`.
        of: "cka", or "deconfounded" for the difference of the two deconfounded CKAs.
    """
    column = "difference" if of == "cka" else f"{of}_difference"
    difference = Estimate.from_row(row, column, "minibatches", "minibatches")
    together = int(row["together"]) if "together" in row else 1
    return Contrast(f"{row['model_a']} · {row['model_b']}", row["less"], difference, True, together)
