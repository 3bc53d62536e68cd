"""CKA of pairs of models as rows of a table: cells, means at the same depth, and paired
differences.

A row of `UNITS` is a CKA, of two taps or a mean over many, with its interval; where it is held
against another (named in `less`), the paired difference and its interval stand beside it.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64

from sslens.capture import Grams
from sslens.comparisons import roles as _roles
from sslens.comparisons.inputs import Inputs
from sslens.comparisons.nulls import PERMUTATIONS as PERMUTATIONS
from sslens.comparisons.nulls import Null, permutation_nulls, same_depth
from sslens.measures.cka import Comparison
from sslens.statistics.sampled import REPLICATES as REPLICATES
from sslens.statistics.sampled import Sampled
from sslens.table import Table

UNITS = {
    "row": (
        "cell: two taps; mean: all pairs of taps at the same relative depth; late: those of the"
        " last third of the depths; types: one type of layer; families: pairs of models of two"
        " families, averaged; matched: a fine-tuned model with itself before; fine-tuned: it with"
        " another; rise by type: what fine-tuning changed in a type of layer; beyond the control:"
        " what it changed, held against what it changed in a random initialisation"
    ),
    "model_a": "name of a model, or of a family where many pairs of models are averaged",
    "model_b": "name of a model or a family",
    "pairs": "pairs of models averaged",
    "members": "the models of the families, where many pairs are averaged",
    "control": "whether a control is among the two",
    "tokens": "which tokens were flattened: all, cls or patch",
    "kind": "what the taps compute",
    "tap_a": (
        "tap of model_a; 'same depth' for a mean over pairs of taps at the same relative depth"
    ),
    "tap_b": "tap of model_b",
    "depth_a": "relative depth, 0 to 1",
    "depth_b": "relative depth, 0 to 1",
    "cka": (
        "minibatch CKA, unbiased, or beyond the control its rise; empty where a tap is constant"
        " over images and CKA is 0/0"
    ),
    "low": "lower end of the 95 % bootstrap interval over minibatches",
    "high": "upper end",
    "p": (
        "share of permutations of the images whose largest CKA over all cells of the pair reaches"
        " this one; models only"
    ),
    "threshold": "CKA that 95 % of the permutations reach in no cell of the pair",
    "less": "what is subtracted in the difference",
    "difference": "cka less that of `less`, on the same images",
    "difference_low": "lower end of its 95 % interval, minibatches drawn for both together",
    "difference_high": "upper end",
    "together": "differences for which the interval holds at once",
    "minibatches": "drawn from by the bootstrap",
}
MEAN = "same depth"
#: minibatches under which no verdict is given: five of one sign happen by chance in 2 · 2⁻⁵ = 6 %
#: of cases
FEWEST = 6


@dataclass(frozen=True, eq=False)
class Pair:
    """Two models compared over the taps of one kind: what rows and contrasts are made of.

    Attributes:
        rows: of the table, a cell each.
        cells: CKA of all pairs of taps, those of a's first tap first.
        same: of the pairs of taps at the same relative depth.
        depths: their depth, in the model with more taps.
    """

    a: Grams
    b: Grams
    rows: list[dict[str, Any]]
    cells: Sampled
    same: Sampled
    depths: Float64[np.ndarray, " point"]

    @classmethod
    def of(
        cls, a: Grams, b: Grams, names: dict[str, Any], seed: int, null: Null | None = None
    ) -> "Pair":
        """All cells with their intervals, held against permuted images if `null` is given."""
        cells = list(itertools.product(range(len(a.taps)), range(len(b.taps))))
        every = Sampled.of(Comparison.of(a, b), cells, seed, REPLICATES)
        low, high = every.interval()
        shape = len(a.taps), len(b.taps)
        p, threshold = null or (np.full(shape, np.nan), np.nan)
        rows = [
            names
            | {"row": "cell", "tap_a": a.taps[i].name, "tap_b": b.taps[j].name}
            | {"depth_a": a.taps[i].depth, "depth_b": b.taps[j].depth}
            | {
                "cka": every.value[k],
                "low": low[k],
                "high": high[k],
                "p": p[i, j],
                "threshold": threshold,
            }
            for k, (i, j) in enumerate(cells)
        ]
        same = every[np.array([i * shape[1] + j for i, j in same_depth(a, b)])]
        longer = a if shape[0] >= shape[1] else b
        return cls(a, b, rows, every, same, np.array([tap.depth for tap in longer.taps]))

    def at(self, depths: Float64[np.ndarray, " point"]) -> Sampled:
        """CKA at the pairs of taps nearest to each of these depths."""
        return self.same[np.abs(depths[:, None] - self.depths[None]).argmin(1)]

    def late(self) -> tuple[Sampled, Sampled]:
        """The mean over the last and over the first third of the depths (of three or more)."""
        third = max(1, len(self.depths) // 3)
        order = np.argsort(self.depths, kind="stable")
        return self.same[order[-third:]].mean(), self.same[order[:third]].mean()


Pairs = dict[tuple[str, str], Pair]


def compare(
    inputs: Inputs,
    tokens: str,
    kind: str,
    wanted: Callable[[str, str], bool] = lambda a, b: True,
    *,
    null: bool = False,
) -> Pairs:
    """The pairs of models and controls that have taps of a kind, each with itself too, in their
    order.

    Two models under study are held against permuted images if `null`.
    """
    grams = {name: of_kind(each, kind) for name, each in inputs.grams[tokens].items()}
    names = [
        name for name in (*inputs.models, *inputs.controls) if name in grams and grams[name].taps
    ]
    studied = [name for name in names if name not in inputs.controls]
    nulls = _nulls(studied, grams, inputs.seed) if null and len(studied) > 1 else {}
    made = {}
    for a, b in itertools.combinations_with_replacement(names, 2):
        if wanted(a, b):
            control = a in inputs.controls or b in inputs.controls
            about = {
                "model_a": a,
                "model_b": b,
                "pairs": 1,
                "control": control,
                "tokens": tokens,
                "kind": kind,
            }
            # a model is its own artefact: a comparison knows that by identity and halves its work
            made[a, b] = Pair.of(grams[a], grams[b], about, inputs.seed, nulls.get((a, b)))
    return made


def _nulls(
    names: Sequence[str], grams: Mapping[str, Grams], seed: int
) -> dict[tuple[str, str], Null]:
    """The permutation null of each pair, all of them at once."""
    found = permutation_nulls([grams[name] for name in names], permutations=PERMUTATIONS, seed=seed)
    return {(names[i], names[j]): null for (i, j), null in found.items()}


def of_kind(grams: Grams, kind: str) -> Grams:
    """The taps of a kind; raw pixels have one tap, which stands beside every kind."""
    return grams.at("pixels" if any(tap.kind == "pixels" for tap in grams.taps) else kind)


def rows(inputs: Inputs, pairs: Pairs) -> Iterator[dict[str, Any]]:
    """The cells of each pair, its mean at the same depth against that of two random
    initialisations, and late against early."""
    for (a, b), pair in pairs.items():
        names = {
            key: pair.rows[0][key]
            for key in ("model_a", "model_b", "pairs", "control", "tokens", "kind")
        }
        yield from ({**row, "minibatches": pair.same.batches} for row in pair.rows)
        twins = _roles.twins(inputs, a, b) if a != b and not names["control"] else None
        other = find(pairs, *twins) if twins else None
        against = (f"{twins[0]} · {twins[1]}", other.same.mean()) if twins and other else None
        yield names | contrast("mean", pair.same.mean(), against)
        if a != b and not names["control"] and len(pair.depths) >= 3:
            late, early = pair.late()
            yield names | contrast("late", late, ("the first third", early))


def find(pairs: Pairs, a: str, b: str) -> Pair | None:
    """A pair, whichever model is named first."""
    return pairs.get((a, b)) or pairs.get((b, a))


def contrast(
    row: str, value: Sampled, against: tuple[str, Sampled] | None = None
) -> dict[str, Any]:
    """One value with its interval and, if it is held against another, their paired difference."""
    low, high = value.interval()
    known = {
        "row": row,
        "tap_a": MEAN,
        "tap_b": MEAN,
        "cka": float(value.value),
        "low": float(low),
        "high": float(high),
    }
    known["minibatches"] = value.batches
    if against is None:
        return known
    difference = value - against[1]
    below, above = difference.interval()
    return known | differing(against[0], float(difference.value), float(below), float(above), 1)


def differing(
    less: str, difference: float, low: float, high: float, together: int
) -> dict[str, Any]:
    """The columns of a difference."""
    return {
        "less": less,
        "difference": difference,
        "difference_low": low,
        "difference_high": high,
        "together": together,
    }


def table(rows: Sequence[Mapping[str, Any]] | Iterator[Mapping[str, Any]]) -> Table:
    """Rows as a table with all columns of `UNITS`; what a row does not say is empty."""
    frame = pd.DataFrame(list(rows), columns=list(UNITS))
    for column in (
        "row",
        "model_a",
        "model_b",
        "tokens",
        "kind",
        "tap_a",
        "tap_b",
        "less",
        "members",
    ):
        frame[column] = frame[column].astype(object).where(frame[column].notna(), "").astype(str)
    return Table(frame, UNITS)


def verdict(row: Any) -> int | None:
    """1 if a difference is above 0, -1 if below, 0 if its interval holds 0; None where too few
    minibatches decide nothing."""
    if pd.isna(row.difference_low) or row.minibatches < FEWEST:
        return None
    return 1 if row.difference_low > 0 else -1 if row.difference_high < 0 else 0


def spelt(row: Any) -> str:
    """A CKA with its interval, where there is one: a single minibatch has none."""
    return (
        f"{row.cka:.2f}" if pd.isna(row.low) else f"{row.cka:.2f} [{row.low:.2f}, {row.high:.2f}]"
    )


def spelt_difference(row: Any) -> str:
    """A difference with its interval, where there is one.

    >>> spelt_difference(pd.Series({"difference": 0.125, "difference_low": -0.0625, "difference_high": 0.25}))
    '+0.12 [-0.06, +0.25]'
    >>> spelt_difference(pd.Series({"difference": -0.0021, "difference_low": -0.0042, "difference_high": -0.0004}))  # not -0.00
    '-0.0021 [-0.0042, -0.0004]'
    """
    numbers = [
        row.difference,
        *(() if pd.isna(row.difference_low) else (row.difference_low, row.difference_high)),
    ]
    sizes = [abs(number) for number in numbers]
    telling = (
        min(sizes) if min(numbers) > 0 or max(numbers) < 0 else max(sizes)
    )  # an end that is not 0 does not look like it
    digits = min(max(2, -math.floor(math.log10(telling))), 6) if telling > 0 else 2
    value, *ends = (f"{number:+.{digits}f}" for number in numbers)
    return f"{value} [{', '.join(ends)}]" if ends else value


def unsure(row: Any) -> str:
    """Why a difference decides nothing, as the end of a sentence."""
    if verdict(row) is None:
        count = "one minibatch" if row.minibatches == 1 else f"{row.minibatches:.0f} minibatches"
        return f"{spelt_difference(row)}, and {count} cannot decide"
    return f"{spelt_difference(row)}, which is not decided"
