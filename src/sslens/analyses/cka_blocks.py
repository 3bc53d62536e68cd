"""CKA between all blocks of all models (figure 1 of Shekhar et al., 2022; figure 1a of 2023)."""

import itertools

import pandas as pd

from sslens.analyses import Inputs, _pairs
from sslens.figure import Figure, Panel
from sslens.table import Table

TITLE = "How alike are the blocks?"
CAPTION = (
    "Minibatch CKA with the unbiased HSIC_1 between the outputs of every block of every model: 1 is the same up to "
    "rotation and scale, 0 is unrelated. All tokens of an image are flattened, as in the papers; the CLS token alone is "
    "shown beside it. Bands are 95 % bootstrap intervals over minibatches. Dashed lines are controls: random "
    "initialisations of the same architecture, with each other and with the models, and the raw pixels. A similarity that "
    "does not exceed them says nothing about what was learned."
)
VERSION = 1
NEEDS = ("grams:all", "grams:cls")
KIND = "block"


def compute(inputs: Inputs) -> Table:
    """CKA of every block with every block, for all pairs of models and controls."""
    return _pairs.table(inputs, (KIND,))


def draw(table: Table) -> Figure:
    """Heat maps of all pairs of models and one random initialisation; then curves at the same depth."""
    frame = table.frame
    names = _pairs.models(frame)
    names += [name for name in _pairs.controls(frame) if name != "pixels"][:1]
    rows: list[tuple[Panel | None, ...]] = []
    for i, a in enumerate(names):
        rows.append(tuple(_pairs.heatmap(frame, a, b, "all", KIND) if j >= i else None for j, b in enumerate(names)))
    tokens = [kind for kind in ("all", "cls") if (frame.tokens == kind).any()]
    lines = [_pairs.curves(frame, kind, KIND, {"all": "All tokens", "cls": "CLS token"}[kind]) for kind in tokens]
    width = max(len(names), len(lines))
    grid = [row + (None,) * (width - len(row)) for row in [*rows, tuple(lines)]]
    return Figure("cka-blocks", tuple(grid))


def findings(table: Table) -> tuple[str, ...]:
    """Which models are alike, against the control, and where they part."""
    frame = table.frame
    names = _pairs.models(frame)
    random = [name for name in _pairs.controls(frame) if name != "pixels"]
    said = []
    for a, b in itertools.combinations(names, 2):
        for tokens in ("all", "cls"):
            value, low, high = _pairs.mean_of(frame, a, b, tokens, KIND)
            if pd.isna(value):
                continue
            where = {"all": "over all tokens", "cls": "in the CLS token"}[tokens]
            sentence = f"{a} and {b}: mean CKA at the same depth {_pairs.spelt((value, low, high))} {where}"
            said.append(sentence + _against(frame, random, tokens, low, high) + _parting(frame, a, b, tokens) + ".")
    return tuple(said)


def _against(frame: pd.DataFrame, random: list[str], tokens: str, low: float, high: float) -> str:
    if len(random) < 2:
        return ""
    value, control_low, control_high = _pairs.mean_of(frame, random[0], random[1], tokens, KIND)
    if pd.isna(low) or pd.isna(control_low):
        return f"; two random initialisations have {value:.2f} with each other"
    side = "more than" if low > control_high else "less than" if high < control_low else "not distinguishable from"
    return f", {side} two random initialisations have with each other ({value:.2f})"


def _parting(frame: pd.DataFrame, a: str, b: str, tokens: str) -> str:
    """The first block whose CKA lies under the highest before it, their intervals apart."""
    line = _pairs.curve(frame, a, b, tokens, KIND)
    if line is None or line.low is None or line.high is None:
        return ""
    for i in range(1, len(line.y)):
        top = int(line.y[:i].argmax())
        if line.high[i] < line.low[top]:
            return f"; they part from relative depth {line.x[i]:.2f} on ({line.y[i]:.2f}; {line.y[top]:.2f} at {line.x[top]:.2f})"
    return "; at no depth do they clearly part"
