"""CKA of pairs of models, as rows of tables: cells, means at the same depth, paired differences.

A row with the columns `CKA` is a CKA with its interval, of two taps or a mean over many. A row with
the columns `DIFFERENCE` says besides what is subtracted from the CKA (`less`), and the paired
difference. Such rows are read back as an `Estimate` and a `Contrast`, which alone decide signs.
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
#: columns of text; a row that does not say one has an empty text there
TEXTS = ("model_a", "model_b", "members", "tokens", "kind", "tap_a", "tap_b", "less")


@final
@dataclass(frozen=True, eq=False)
class Pair:
    """Two models compared over the taps of one kind: what rows and contrasts are made of.

    Attributes:
        a: name of the first model.
        b: name of the second model; of a pair of one model with itself the same.
        control: whether a control is among the two.
        taps: of the first and of the second model.
        cells: CKA of all pairs of taps, [tap_a, tap_b] flattened.
        same: CKA of the pairs of taps at the same relative depth.
        depths: their depth, in the model with more taps.
        null: how the cells compare with permuted images; None where that was not asked.
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
        """Both names, as figures and differences have them."""
        return f"{self.a} · {self.b}"

    def at(self, depths: Float64[np.ndarray, " point"]) -> Sampled:
        """CKA at the pairs of taps nearest to each of these depths."""
        return self.same[np.abs(depths[:, None] - self.depths[None]).argmin(1)]

    def thirds(self) -> tuple[Sampled, Sampled]:
        """The mean over the last and the mean over the first third of the depths."""
        third = max(1, len(self.depths) // 3)
        order = np.argsort(self.depths, kind="stable")
        return self.same[order[-third:]].mean(), self.same[order[:third]].mean()


@final
@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of models over one choice of tokens and one kind of tap, by both names.

    Attributes:
        tokens: "all", "cls" or "patch".
        kind: what the taps compute, e.g. "block".
        by_names: the pairs, in the order of the models.
    """

    tokens: str
    kind: str
    by_names: Mapping[tuple[str, str], Pair]

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.by_names.values())

    def find(self, a: str, b: str) -> Pair | None:
        """A pair, whichever model is named first; None where it was not compared."""
        return self.by_names.get((a, b)) or self.by_names.get((b, a))

    def find_all(self, first: Iterable[str], second: Iterable[str]) -> list[Pair]:
        """The pairs of each of the first models with each of the second, those that were
        compared."""
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
    """Compare all models and controls that have taps of a kind, each with itself too.

    Args:
        models: the models and the controls, in their order.
        grams: of the models that have these tokens, by name.
        tokens: which tokens the Grams are of.
        kind: what the taps compute.
        wanted: whether a pair of names is to be compared.
        seed: of the bootstrap and the permutations.
        null: whether two models under study are held against permuted images.

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
    """Compare two models, given by name and Grams, over all pairs of their taps."""
    (name_a, a), (name_b, b) = first, second
    cells = list(itertools.product(range(len(a.taps)), range(len(b.taps))))
    every = Sampled.of(Comparison.of(a, b), cells, seed, REPLICATES)
    same = every[np.array([i * len(b.taps) + j for i, j in same_depth(a, b)])]
    longer = a if len(a.taps) >= len(b.taps) else b
    depths = np.array([tap.depth for tap in longer.taps])
    return Pair(name_a, name_b, control, (a.taps, b.taps), every, same, depths, null)


def choose_kind(grams: Grams, kind: str) -> Grams:
    """The taps of a kind; raw pixels have one tap, which stands beside every kind."""
    return grams.at("pixels" if any(tap.kind == "pixels" for tap in grams.taps) else kind)


def list_pairs(models: Models, pairs: Pairs) -> Iterator[tuple[str, Row]]:
    """The rows of the tables that every exhibit of pairs has, each with the name of its table.

    `cells` are all pairs of taps. `means` are the means at the same depth; of two models under
    study also less the mean of two random initialisations of their architectures. `late` is the
    mean over the last third of the depths less the mean over the first, of two models with three
    taps or more.
    """
    for pair in pairs:
        yield from (("cells", row) for row in list_cells(pairs, pair))
        names = name_pair(pairs, pair)
        studied = pair.a != pair.b and not pair.control
        twins = find_twins(models, pair.a, pair.b) if studied else None
        control = pairs.find(*twins) if twins else None
        mean = fill_cka(pair.same.mean())
        if twins and control:
            mean |= fill_contrast(pair.same.mean(), f"{twins[0]} · {twins[1]}", control.same.mean())
        yield "means", names | mean
        if studied and len(pair.depths) >= 3:
            late, early = pair.thirds()
            yield "late", names | fill_cka(late) | fill_contrast(late, "the first third", early)


def name_pair(pairs: Pairs, pair: Pair) -> Row:
    """The columns `PAIR`: which models, tokens and kind of tap a row is about."""
    return {
        "model_a": pair.a,
        "model_b": pair.b,
        "control": pair.control,
        "tokens": pairs.tokens,
        "kind": pairs.kind,
    }


def list_cells(pairs: Pairs, pair: Pair) -> Iterator[Row]:
    """A row for each pair of taps of two models."""
    names = name_pair(pairs, pair)
    low, high = pair.cells.interval()
    for cell, (a, b) in enumerate(itertools.product(*pair.taps)):
        row = names | {"tap_a": a.name, "tap_b": b.name, "depth_a": a.depth, "depth_b": b.depth}
        row |= {"cka": pair.cells.value[cell], "low": low[cell], "high": high[cell]}
        if pair.null is not None:
            row |= {"p": pair.null.p.flat[cell], "threshold": pair.null.threshold}
        yield row | {"minibatches": pair.cells.batches}


def fill_cka(value: Sampled) -> Row:
    """The columns `CKA` of one value, and the number of minibatches."""
    low, high = value.interval()
    ends = {"low": float(low), "high": float(high)}
    return {"cka": float(value.value), **ends, "minibatches": value.batches}


def fill_contrast(value: Sampled, less: str, other: Sampled) -> Row:
    """The columns `DIFFERENCE` of one value less another, paired.

    Args:
        value: one value.
        less: what `other` is, in words.
        other: what is subtracted.

    Raises:
        InputError: the two are not of the same draws of minibatches.
    """
    difference = value - other
    low, high = difference.interval()
    return fill_difference(less, float(difference.value), float(low), float(high))


def fill_difference(less: str, difference: float, low: float, high: float) -> Row:
    """The columns `DIFFERENCE`, of numbers."""
    return dict(zip(DIFFERENCE, (less, difference, low, high), strict=True))


def make_results(
    rows: Iterable[tuple[str, Row]],
    tables: Mapping[str, Sequence[str]],
    units: Mapping[str, str] = UNITS,
) -> Results:
    """Tables of rows of pairs, as `sslens.comparisons.rows.make_results` makes them.

    Args:
        rows: the name of a table and a row of it, in the order of the rows.
        tables: the columns of each table, in the order of the tables.
        units: what each column holds.

    >>> names = "mae", "dino"
    >>> rows = [("means", {"model_a": name, "cka": 0.5}) for name in names]
    >>> results = make_results(rows, {"means": ("model_a", "less", "cka"), "late": ("cka",)})
    >>> results["means"].model_a.tolist(), results["means"].less.tolist(), "late" in results
    (['mae', 'dino'], ['', ''], False)
    """
    return make_tables(rows, tables, units, TEXTS)


def select_pair(rows: pd.DataFrame, a: str, b: str, tokens: str) -> pd.DataFrame:
    """The rows of two models, in this order, and a choice of tokens."""
    return rows[(rows.tokens == tokens) & (rows.model_a == a) & (rows.model_b == b)]


def read_cka(row: Mapping[str, Any], column: str = "cka") -> Estimate:
    """The CKA of a row with its interval."""
    return Estimate.from_row(row, column, "minibatches", "minibatches", ends=("low", "high"))


def read_contrast(row: Mapping[str, Any]) -> Contrast:
    """The paired difference of a row to what it is held against."""
    difference = Estimate.from_row(row, "difference", "minibatches", "minibatches")
    together = int(row["together"]) if "together" in row else 1
    return Contrast(f"{row['model_a']} · {row['model_b']}", row["less"], difference, True, together)
