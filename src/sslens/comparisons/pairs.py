"""CKA of pairs of models, as rows of tables: cells, means at the same depth, paired differences.

The columns `CKA` of a row hold one CKA, or a mean over many, with its interval. The columns
`DIFFERENCE` of a row hold the name of a second CKA (`less`) and the paired difference CKA − second
CKA with its interval. `read_cka` and `read_contrast` read such rows back; only the resulting
`Estimate` and `Contrast` decide signs.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import pandas as pd
from jaxtyping import Float64

from sslens.capture import Grams
from sslens.comparisons.inputs import Models
from sslens.comparisons.nulls import PERMUTATIONS as PERMUTATIONS
from sslens.comparisons.nulls import Null, permutation_nulls, same_depth
from sslens.comparisons.roles import find_twins
from sslens.comparisons.rows import Row as Row
from sslens.comparisons.rows import make_results as make_tables
from sslens.measures.cka import Comparison
from sslens.models.taps import Tap
from sslens.statistics.estimate import Contrast, Estimate
from sslens.statistics.sampled import REPLICATES as REPLICATES
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
    "low": "lower end of the 95 % bootstrap interval over minibatches",
    "high": "upper end",
    "p": (
        "share of permutations of the images whose largest CKA over all cells of the pair reaches"
        " this one; models only"
    ),
    "threshold": "CKA that 95 % of the permutations reach in no cell of the pair",
    "less": "what is subtracted in the difference",
    "difference": "the value less that of `less`, on the same images",
    "difference_low": "lower end of its 95 % interval, minibatches drawn for both together",
    "difference_high": "upper end",
    "together": "differences for which the interval holds at once",
    "minibatches": "drawn from by the bootstrap",
}
CKA = ("cka", "low", "high")
DIFFERENCE = ("less", "difference", "difference_low", "difference_high")
PAIR = ("model_a", "model_b", "control", "tokens", "kind")
TAPS = ("tap_a", "tap_b", "depth_a", "depth_b")
#: the columns of the tables that every exhibit of pairs has; a mean is over the pairs of taps at
#: the same relative depth, and `late` compares the last third of the depths with the first
TABLES: Mapping[str, tuple[str, ...]] = {
    "cells": (*PAIR, *TAPS, *CKA, "minibatches"),
    "means": (*PAIR, *CKA, *DIFFERENCE, "minibatches"),
    "late": (*PAIR, *CKA, *DIFFERENCE, "minibatches"),
}
#: the same, where the cells are held against permuted images
TABLES_NULL = {**TABLES, "cells": (*PAIR, *TAPS, *CKA, "p", "threshold", "minibatches")}
#: columns of text; a row without a value for such a column has an empty text there
TEXTS = ("model_a", "model_b", "members", "tokens", "kind", "tap_a", "tap_b", "less")


@final
@dataclass(frozen=True, eq=False)
class Pair:
    """The CKA of two models, or of a model with itself, over the taps of one kind.

    Attributes:
        a: name of the first model.
        b: name of the second model.
        control: whether at least one of the two models is a control.
        taps: the taps of the first model, and the taps of the second model.
        cells: CKA of all pairs of taps; a vector in the order of [tap_a, tap_b], row by row.
        same: CKA of the pairs of taps at the same relative depth (`nulls.same_depth`).
        depths: relative depth, 0 to 1, of each pair of `same`: the depth of its tap in the model
            with more taps.
        null: the permutation test of the cells; None if it was not requested.
    """

    a: str
    b: str
    control: bool
    taps: tuple[Sequence[Tap], Sequence[Tap]]
    cells: Sampled
    same: Sampled
    depths: Float64[np.ndarray, " point"]
    null: Null | None = None

    @property
    def name(self) -> str:
        """Both names with a dot between them, as in "mae · dino"."""
        return f"{self.a} · {self.b}"

    def at(self, depths: Float64[np.ndarray, " point"]) -> Sampled:
        """Return, for each relative depth, the CKA of the pair in `same` nearest to that depth."""
        return self.same[np.abs(depths[:, None] - self.depths[None]).argmin(1)]

    def thirds(self) -> tuple[Sampled, Sampled]:
        """Return two means of `same`: over the last third of the depths, then over the first."""
        third = max(1, len(self.depths) // 3)
        order = np.argsort(self.depths, kind="stable")
        return self.same[order[-third:]].mean(), self.same[order[:third]].mean()


@final
@dataclass(frozen=True, eq=False)
class Pairs:
    """All compared pairs of models, for one choice of tokens and one kind of tap.

    Attributes:
        tokens: the tokens that the Grams are of: "all", "cls" or "patch".
        kind: what the taps compute, e.g. "block".
        by_names: each pair by (name of the first model, name of the second), in the order of the
            models.
    """

    tokens: str
    kind: str
    by_names: Mapping[tuple[str, str], Pair]

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.by_names.values())

    def find(self, a: str, b: str) -> Pair | None:
        """Return the pair of two models, in either order; None if they were not compared."""
        return self.by_names.get((a, b)) or self.by_names.get((b, a))

    def find_all(self, first: Iterable[str], second: Iterable[str]) -> list[Pair]:
        """Return all compared pairs of a model named in `first` and a model named in `second`."""
        pairs = [self.find(a, b) for a, b in itertools.product(first, second)]
        return [pair for pair in pairs if pair]


def compare_pairs(
    models: Models,
    grams: Mapping[str, Grams],
    tokens: str,
    kind: str,
    wanted: Callable[[str, str], bool] = lambda a, b: True,
    *,
    seed: int = 0,
    null: bool = False,
) -> Pairs:
    """Compare all models and controls that have taps of a kind with each other and with themselves.

    Args:
        models: the models and the controls, in their order.
        grams: the Grams of each model that has these tokens, by the model's name.
        tokens: the tokens that the Grams are of: "all", "cls" or "patch".
        kind: what the taps compute, e.g. "block".
        wanted: called with two names; pairs for which it returns False are left out.
        seed: seed of the bootstrap and of the permutations.
        null: whether to run the permutation test for each pair of models under study.

    Raises:
        InputError: two models have not seen the same images in the same minibatches.
    """
    of_kind = {name: choose_kind(one, kind) for name, one in grams.items()}
    names = [name for name in models.names if name in of_kind and of_kind[name].taps]
    studied = [name for name in names if not models.is_control(name)]
    nulls: dict[tuple[str, str], Null] = {}
    if null and len(studied) > 1:
        permuted = permutation_nulls(
            [of_kind[name] for name in studied], permutations=PERMUTATIONS, seed=seed
        )
        nulls = {(studied[i], studied[j]): one for (i, j), one in permuted.items()}
    pairs = {}
    for a, b in itertools.combinations_with_replacement(names, 2):
        if wanted(a, b):
            control = models.is_control(a) or models.is_control(b)
            # a model is its own Grams: a comparison sees that by identity and halves its work
            pairs[a, b] = compare_pair(
                (a, of_kind[a]), (b, of_kind[b]), control, seed, nulls.get((a, b))
            )
    return Pairs(tokens, kind, pairs)


def compare_pair(
    first: tuple[str, Grams],
    second: tuple[str, Grams],
    control: bool,
    seed: int,
    null: Null | None = None,
) -> Pair:
    """Compare two models over all pairs of their taps.

    Args:
        first: name and Grams of the first model.
        second: name and Grams of the second model.
        control: whether at least one of the two models is a control.
        seed: seed of the bootstrap over minibatches.
        null: the permutation test of the two models, which is stored in the result.
    """
    (name_a, a), (name_b, b) = first, second
    cells = list(itertools.product(range(len(a.taps)), range(len(b.taps))))
    every = Sampled.of(Comparison.of(a, b), cells, seed, REPLICATES)
    same = every[np.array([i * len(b.taps) + j for i, j in same_depth(a, b)])]
    longer = a if len(a.taps) >= len(b.taps) else b
    depths = np.array([tap.depth for tap in longer.taps])
    return Pair(name_a, name_b, control, (a.taps, b.taps), every, same, depths, null)


def choose_kind(grams: Grams, kind: str) -> Grams:
    """Select the taps of a kind; raw pixels have a single tap, which counts as every kind."""
    return grams.at("pixels" if any(tap.kind == "pixels" for tap in grams.taps) else kind)


def make_pair_rows(models: Models, pairs: Pairs) -> Iterator[tuple[str, Row]]:
    """Make the rows of the tables `cells`, `means` and `late`, each after the name of its table.

    `cells` has a row for each pair of taps. `means` has the mean CKA at the same depth; for two
    different models under study it also has the difference of that mean from the mean of two random
    initialisations of their architectures. `late` has the mean over the last third of the depths
    and its difference from the mean over the first third, for two different models under study
    with at least three depths.
    """
    for pair in pairs:
        yield from (("cells", row) for row in make_cell_rows(pairs, pair))
        names = make_pair_columns(pairs, pair)
        studied = pair.a != pair.b and not pair.control
        twins = find_twins(models, pair.a, pair.b) if studied else None
        control = pairs.find(*twins) if twins else None
        mean = make_cka_columns(pair.same.mean())
        if twins and control:
            mean |= make_contrast_columns(
                pair.same.mean(), f"{twins[0]} · {twins[1]}", control.same.mean()
            )
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


def make_cell_rows(pairs: Pairs, pair: Pair) -> Iterator[Row]:
    """Make a row for each pair of taps of two models."""
    names = make_pair_columns(pairs, pair)
    low, high = pair.cells.interval()
    for cell, (a, b) in enumerate(itertools.product(*pair.taps)):
        row = names | {"tap_a": a.name, "tap_b": b.name, "depth_a": a.depth, "depth_b": b.depth}
        row |= {"cka": pair.cells.value[cell], "low": low[cell], "high": high[cell]}
        if pair.null is not None:
            row |= {"p": pair.null.p.flat[cell], "threshold": pair.null.threshold}
        yield row | {"minibatches": pair.cells.batches}


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
        InputError: the two values are not of the same draws of minibatches.
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
    """Read the CKA of a row, in the column `column`, with its interval in `low` and `high`."""
    return Estimate.from_row(row, column, "minibatches", "minibatches", ends=("low", "high"))


def read_contrast(row: Mapping[str, Any]) -> Contrast:
    """Read the columns `DIFFERENCE` of a row: its CKA less the CKA named in the column `less`."""
    difference = Estimate.from_row(row, "difference", "minibatches", "minibatches")
    together = int(row["together"]) if "together" in row else 1
    return Contrast(f"{row['model_a']} · {row['model_b']}", row["less"], difference, True, together)
