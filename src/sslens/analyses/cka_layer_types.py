"""CKA by type of layer: norm1, qkv, fc1 (figure 2 of Shekhar et al., 2022; figure 1b of 2023; claim
C3)."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sslens.comparisons import families as _families
from sslens.comparisons import pairs as _pairs
from sslens.comparisons import panels as _panels
from sslens.comparisons import roles as _roles
from sslens.comparisons.inputs import Inputs
from sslens.comparisons.roles import JE, REC
from sslens.figure import Figure, Panel
from sslens.models.about import About
from sslens.statistics.sampled import Sampled, average
from sslens.table import Table

TITLE = "In which type of layer do they differ?"
CAPTION = (
    "Minibatch CKA between two models at every block, for the LayerNorm before attention (norm1),"
    " the qkv projection and the first MLP layer (fc1), all tokens flattened. Below, the same depth"
    " only, beside the controls: random initialisations and raw pixels. Bands are 95 % bootstrap"
    " intervals over minibatches. Two types are compared within each replicate, over the depths at"
    " which both are defined; the three such intervals of a pair hold at once. A cell is undefined"
    " (grey) where a layer gives the same output for every image."
)
VERSION = 3
NEEDS = ("grams",)
KINDS = ("norm1", "qkv", "fc1")
#: sentences at most
SAID = 6


def without(about: Mapping[str, About], controls: Sequence[str]) -> str | None:
    """Of CNNs some have an fc1, and none has the others."""
    names = _roles.models(about, controls)
    if names and all(_roles.is_cnn(about[name]) for name in names):
        return (
            "it is about attention, normalisation and MLP layers of transformers, and these models"
            " are CNNs"
        )
    return None


def compute(inputs: Inputs) -> Table:
    """CKA of every tap with every tap of its type, for all pairs of models and controls, and of the
    types with each other."""
    rows: list[dict[str, Any]] = []
    for tokens in _roles.tokens(inputs):
        pairs = {kind: _pairs.compare(inputs, tokens, kind, null=True) for kind in KINDS}
        for kind in KINDS:
            rows += [
                *_pairs.rows(inputs, pairs[kind]),
                *_families.rows(inputs, pairs[kind], tokens, kind),
            ]
        names = itertools.combinations(inputs.models, 2)
        for a, b in names:
            known = {
                kind: found.same for kind in KINDS if (found := _pairs.find(pairs[kind], a, b))
            }
            about = {"model_a": a, "model_b": b, "pairs": 1, "control": False, "tokens": tokens}
            rows += [about | row for row in _between("types", known)]
        across = {kind: _families.of(inputs, pairs[kind])[1] for kind in KINDS}
        if all(across.values()):
            grid = max((pair.depths for each in across.values() for pair in each), key=len)
            known = {
                kind: average([pair.at(grid) for pair in each]) for kind, each in across.items()
            }
            about = _families.names(
                tokens, "", JE, REC, len(across["fc1"]), _families.members(inputs)
            )
            rows += [about | row for row in _between("families, types", known)]
    return _pairs.table(rows)


def _between(row: str, known: Mapping[str, Sampled]) -> Iterator[dict[str, Any]]:
    """Each type less each one before it, over the depths at which all are defined; the intervals
    hold at once."""
    if len({len(each.value) for each in known.values()}) != 1 or len(known) < 2:
        return
    defined = np.logical_and.reduce([np.isfinite(each.value) for each in known.values()])
    if not defined.any():
        return
    means = {kind: each[defined].mean() for kind, each in known.items()}
    twos = list(itertools.combinations(means, 2))
    differences = Sampled.stack([means[high] - means[low] for low, high in twos])
    low, high = differences.together()
    for k, (less, more) in enumerate(twos):
        difference = _pairs.differing(
            less, float(differences.value[k]), float(low[k]), float(high[k]), len(twos)
        )
        yield _pairs.contrast(row, means[more]) | {"kind": more} | difference


def draw(table: Table) -> Figure:
    """A row of heat maps a pair of models, a column a type; then curves at the same depth."""
    cells = _panels.Cells.of(table.frame)
    tokens, names = cells.tokens(), cells.models()
    pairs = list(itertools.combinations(names, 2)) or [(name, name) for name in names]
    grid: list[list[Panel | None]] = [
        [_panels.heatmap(cells, a, b, tokens[0], kind, f"{kind}: {a} · {b}") for kind in KINDS]
        for a, b in pairs
    ]
    shown = _panels.pairs_shown(cells)
    for each in tokens:
        grid.append(
            [
                _panels.curves(cells, each, kind, f"{kind}, {_panels.LABELS[each]}", shown)
                for kind in KINDS
            ]
        )
    return _panels.figure("cka-layer-types", grid)


def findings(table: Table) -> tuple[str, ...]:
    """Whether JE and REC differ in attention and normalisation, and the types in which each pair is
    least and most alike."""
    frame, cells = table.frame[table.frame.row != "cell"], _panels.Cells.of(table.frame)
    tokens = cells.tokens()
    said = [_family(frame, each) for each in tokens]
    said += [
        _pair(frame, a, b, each)
        for each in tokens[:1]
        for a, b in itertools.combinations(cells.models(), 2)
    ]
    found = [sentence for sentence in said if sentence]
    left = len(found) - SAID
    if left > 0:
        found = [
            *found[: SAID - 1],
            f"{left + 1} more pairs, with {cells.models()[-1]} and others, are in the table.",
        ]
    return tuple(found)


def _family(frame: pd.DataFrame, tokens: str) -> str | None:
    """Claim C3: fc1 against norm1 and qkv, between JE and REC."""
    rows = frame[
        (frame.row == "families, types") & (frame.tokens == tokens) & (frame.kind == "fc1")
    ].set_index("less")
    if not {"norm1", "qkv"} <= set(rows.index):
        return None
    said = f"{JE} and {REC} models ({rows.iloc[0].members}) {_roles.TOKENS[tokens]}"
    parts = []
    for kind, label in (("norm1", "normalisation (norm1)"), ("qkv", "attention (qkv)")):
        row = rows.loc[kind]
        sign = _pairs.verdict(row)
        if sign:
            parts.append(
                f"{'more' if sign > 0 else 'less'} alike in fc1 than in {label}"
                f" ({_pairs.spelt_difference(row)})"
            )
        else:
            parts.append(f"fc1 against {label} {_pairs.unsure(row)}")
    return f"{said}: {'; '.join(parts)}."


def _pair(frame: pd.DataFrame, a: str, b: str, tokens: str) -> str | None:
    """The types of layer in which two models are least and most alike."""
    here = frame[(frame.tokens == tokens) & (frame.model_a == a) & (frame.model_b == b)]
    means = here[(here.row == "mean") & here.cka.notna()].set_index("kind")
    between = here[here.row == "types"]
    if len(means) < 2:
        return None
    least, most = means.cka.idxmin(), means.cka.idxmax()
    said = (
        f"{a} and {b} are least alike in {least} ({_pairs.spelt(means.loc[least])}) "
        f"and most in {most} ({_pairs.spelt(means.loc[most])})"
    )
    rows = between[between.kind.isin((least, most)) & between.less.isin((least, most))]
    if rows.empty:
        return said + "."
    row = rows.iloc[0]
    if row.kind == least:  # the table has the difference the other way round
        turned = {"difference": -row.difference, "difference_low": -row.difference_high}
        row = row.copy()
        row[[*turned, "difference_high"]] = [*turned.values(), -row.difference_low]
    if _pairs.verdict(row):
        return f"{said}: {_pairs.spelt_difference(row)}."
    return f"{said}; the difference is {_pairs.unsure(row)}."
