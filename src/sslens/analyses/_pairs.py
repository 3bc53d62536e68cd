"""CKA of all pairs of models as rows of a table, and the panels that are drawn from them."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from sslens.analyses import Inputs
from sslens.capture import Artefact
from sslens.figure import Heatmap, Line, Lines
from sslens.measures.cka import Comparison, bootstrap_counts
from sslens.table import Table

UNITS = {
    "model_a": "name",
    "model_b": "name",
    "control": "whether a control is among the two",
    "tokens": "which tokens were flattened: all, cls or patch",
    "kind": "what the taps compute",
    "tap_a": "tap of model_a; 'same depth' for the mean over pairs of taps at the same relative depth",
    "tap_b": "tap of model_b",
    "depth_a": "relative depth, 0 to 1",
    "depth_b": "relative depth, 0 to 1",
    "cka": "minibatch CKA, unbiased; empty where a tap is constant over images and CKA is 0/0",
    "low": "lower end of the 95 % bootstrap interval over minibatches",
    "high": "upper end",
}
MEAN = "same depth"
REPLICATES = 1000


def table(inputs: Inputs, kinds: Sequence[str]) -> Table:
    """CKA of every tap with every tap, of all pairs of models and controls, each with itself too."""
    rows = [row for tokens, grams in inputs.grams.items() for row in _rows(inputs, tokens, grams, kinds)]
    return Table(pd.DataFrame(rows, columns=list(UNITS)), UNITS)


def _rows(inputs: Inputs, tokens: str, grams: Any, kinds: Sequence[str]) -> Iterator[dict[str, Any]]:
    names = [name for name in (*inputs.models, *inputs.controls) if name in grams]
    for a, b in itertools.combinations_with_replacement(names, 2):
        for kind in kinds:
            ga, gb = _of_kind(grams[a], kind), _of_kind(grams[b], kind)
            pair = {
                "model_a": a,
                "model_b": b,
                "control": a in inputs.controls or b in inputs.controls,
                "tokens": tokens,
                "kind": kind,
            }
            yield from _cells(ga, gb if b != a else ga, pair, inputs.seed)


def _of_kind(grams: Artefact, kind: str) -> Artefact:
    """The taps of a kind; raw pixels have one tap, which stands beside every kind."""
    return grams.at("pixels" if any(tap.kind == "pixels" for tap in grams.taps) else kind)


def _cells(a: Artefact, b: Artefact, pair: dict[str, Any], seed: int) -> Iterator[dict[str, Any]]:
    compared = Comparison.of(a, b)
    value = compared.cka()
    low, high = compared.interval(replicates=REPLICATES, seed=seed)
    for i, j in itertools.product(range(len(a.taps)), range(len(b.taps))):
        yield pair | {
            "tap_a": a.taps[i].name,
            "tap_b": b.taps[j].name,
            "depth_a": a.taps[i].depth,
            "depth_b": b.taps[j].depth,
            "cka": value[i, j],
            "low": low[i, j],
            "high": high[i, j],
        }
    mean, (mean_low, mean_high) = _mean(compared, partners(a, b), seed)
    numbers = {"depth_a": np.nan, "depth_b": np.nan, "cka": mean, "low": mean_low, "high": mean_high}
    yield pair | {"tap_a": MEAN, "tap_b": MEAN} | numbers


def partners(a: Artefact, b: Artefact) -> list[int]:
    """For each tap of `a`, the tap of `b` that is nearest in relative depth (the first of equally near ones)."""
    depths = np.array([tap.depth for tap in b.taps])
    return [int(np.abs(depths - tap.depth).argmin()) for tap in a.taps]


def _mean(compared: Comparison, beside: Sequence[int], seed: int) -> tuple[float, tuple[float, float]]:
    """CKA averaged over the pairs of taps at the same depth that are defined, with its bootstrap interval."""
    rows = [i for i, j in enumerate(beside) if compared.defined[i, j]]
    if not rows:
        return np.nan, (np.nan, np.nan)
    columns = [beside[i] for i in rows]
    cross, own_a, own_b = compared.cross[rows, columns], compared.own_a[rows], compared.own_b[columns]

    def mean(weights: torch.Tensor) -> np.ndarray:
        return ((cross @ weights) / ((own_a @ weights) * (own_b @ weights)).sqrt()).mean(0).numpy()

    batches = cross.shape[-1]
    value = float(mean(torch.ones(batches, 1, dtype=torch.float64))[0])
    if batches < 2:
        return value, (np.nan, np.nan)
    low, high = np.quantile(mean(bootstrap_counts(batches, REPLICATES, seed)), [0.025, 0.975])
    return value, (float(low), float(high))


def models(frame: pd.DataFrame) -> list[str]:
    """The models under study, in their order: those whose comparison with themselves is no control."""
    own = frame[(frame.model_a == frame.model_b) & ~frame.control]
    return list(dict.fromkeys(own.model_a))


def controls(frame: pd.DataFrame) -> list[str]:
    """The controls, in their order."""
    own = frame[(frame.model_a == frame.model_b) & frame.control]
    return list(dict.fromkeys(own.model_a))


def select(frame: pd.DataFrame, a: str, b: str, tokens: str, kind: str) -> pd.DataFrame:
    """The rows of one pair of models, whichever was named first, one kind and one choice of tokens; without the mean."""
    cells = frame[(frame.tokens == tokens) & (frame.kind == kind) & (frame.tap_a != MEAN)]
    found = cells[(cells.model_a == a) & (cells.model_b == b)]
    if len(found):
        return found
    turned = cells[(cells.model_a == b) & (cells.model_b == a)]
    return turned.rename(columns={"tap_a": "tap_b", "tap_b": "tap_a", "depth_a": "depth_b", "depth_b": "depth_a"})


def mean_of(frame: pd.DataFrame, a: str, b: str, tokens: str, kind: str) -> tuple[float, float, float]:
    """The mean CKA at the same depth of one pair of models, and the ends of its interval."""
    these = frame[(frame.tokens == tokens) & (frame.kind == kind) & (frame.tap_a == MEAN)]
    row = these[these.model_a.isin((a, b)) & these.model_b.isin((a, b)) & ((these.model_a != these.model_b) | (a == b))]
    return tuple(row[["cka", "low", "high"]].iloc[0]) if len(row) else (np.nan, np.nan, np.nan)


def spelt(mean: tuple[float, float, float]) -> str:
    """A mean with its interval, where there is one: a single minibatch has none."""
    value, low, high = mean
    return f"{value:.2f}" if pd.isna(low) else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def heatmap(frame: pd.DataFrame, a: str, b: str, tokens: str, kind: str, title: str | None = None) -> Heatmap:
    """Taps of `a` (rows) against taps of `b` (columns)."""
    cells = select(frame, a, b, tokens, kind)
    square = cells.pivot_table("cka", "tap_a", "tap_b", sort=False, dropna=False)
    square = square.reindex(index=list(dict.fromkeys(cells.tap_a)), columns=list(dict.fromkeys(cells.tap_b)))
    return Heatmap(
        title if title is not None else f"{a} · {b}",
        square.to_numpy(float),
        tuple(_short(name) for name in square.index),
        tuple(_short(name) for name in square.columns),
        x_label=f"block of {b}",
        y_label=f"block of {a}",
        limits=(0.0, 1.0),
        unit="CKA",
    )


def _short(tap: str) -> str:
    """The block's number in a tap's name; the name itself where there is none."""
    return next((part for part in tap.split(".") if part.isdecimal()), tap)


def curve(frame: pd.DataFrame, a: str, b: str, tokens: str, kind: str) -> Line | None:
    """CKA at the same relative depth, from the first block to the last; None where nothing is defined."""
    cells = select(frame, a, b, tokens, kind)
    if cells.depth_a.nunique() < cells.depth_b.nunique():
        cells = cells.assign(depth_a=cells.depth_b, depth_b=cells.depth_a)
    apart = (cells.depth_a - cells.depth_b).abs()
    nearest = cells.loc[apart.groupby(cells.depth_a).idxmin()].sort_values("depth_a")
    if nearest.cka.isna().all():
        return None
    x, y, low, high = (nearest[column].to_numpy(float) for column in ("depth_a", "cka", "low", "high"))
    own = frame[(frame.model_a == frame.model_b)].set_index("model_a").control
    return Line(f"{a} · {b}", x, y, low, high, control=bool(own.loc[[a, b]].any()))


def curves(frame: pd.DataFrame, tokens: str, kind: str, title: str) -> Lines:
    """CKA at the same depth: models with each other (with the first, when they are many), and beside the controls."""
    names, beside = models(frame), controls(frame)
    pairs = list(itertools.combinations(names, 2)) if len(names) <= 3 else [(names[0], other) for other in names[1:]]
    random = [name for name in beside if name != "pixels"]
    pairs += list(itertools.combinations(random[:2], 2))
    pairs += [
        (name, other) for name in names[:2] for other in [*random[:1], *(["pixels"] if "pixels" in beside else [])]
    ]
    lines = [curve(frame, a, b, tokens, kind) for a, b in pairs if len(select(frame, a, b, tokens, kind))]
    shown = tuple(line for line in lines if line is not None)
    return Lines(title, "relative depth", "CKA at the same depth", shown, (-0.1, 1.05))
