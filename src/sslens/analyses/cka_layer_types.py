"""CKA by type of layer: norm1, qkv, fc1 (figure 2 of Shekhar et al., 2022; figure 1b of 2023)."""

import itertools

import pandas as pd

from sslens.analyses import Inputs, _pairs
from sslens.figure import Figure, Panel
from sslens.table import Table

TITLE = "In which type of layer do they differ?"
CAPTION = (
    "Minibatch CKA between two models at every block, for the LayerNorm before attention (norm1), the qkv projection and "
    "the first MLP layer (fc1), all tokens flattened. Below, the same depth only, beside the controls. A cell is undefined "
    "(grey) where a layer gives the same output for every image."
)
VERSION = 1
NEEDS = ("grams:all", "grams:cls")
KINDS = ("norm1", "qkv", "fc1")


def compute(inputs: Inputs) -> Table:
    """CKA of every tap with every tap of its type, for all pairs of models and controls."""
    return _pairs.table(inputs, KINDS)


def draw(table: Table) -> Figure:
    """A row of heat maps a pair of models, a column a type; then curves at the same depth."""
    frame = table.frame
    names = _pairs.models(frame)
    pairs = list(itertools.combinations(names, 2)) or [(name, name) for name in names]
    grid: list[tuple[Panel, ...]] = [
        tuple(_pairs.heatmap(frame, a, b, "all", kind, f"{kind}: {a} · {b}") for kind in KINDS) for a, b in pairs
    ]
    for tokens, label in (("all", "all tokens"), ("cls", "CLS token")):
        if (frame.tokens == tokens).any():
            grid.append(tuple(_pairs.curves(frame, tokens, kind, f"{kind}, {label}") for kind in KINDS))
    return Figure("cka-layer-types", tuple(grid))


def findings(table: Table) -> tuple[str, ...]:
    """The type of layer in which each pair of models is least and most alike."""
    frame = table.frame
    said = []
    for a, b in itertools.combinations(_pairs.models(frame), 2):
        means = {kind: _pairs.mean_of(frame, a, b, "all", kind) for kind in KINDS}
        means = {kind: mean for kind, mean in means.items() if not pd.isna(mean[0])}
        if len(means) < 2:
            continue
        least, most = min(means, key=lambda kind: means[kind][0]), max(means, key=lambda kind: means[kind][0])
        sentence = (
            f"{a} and {b} are least alike in {least} ({_pairs.spelt(means[least])}) "
            f"and most in {most} ({_pairs.spelt(means[most])})"
        )
        if pd.isna(means[least][2]):
            said.append(f"{sentence}, without intervals: there is one minibatch only.")
        else:
            sure = means[least][2] < means[most][1]
            said.append(sentence + ("." if sure else ", but their intervals overlap."))
    return tuple(said)
