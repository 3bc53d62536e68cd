"""CKA between all blocks of all models (figure 1 of Shekhar et al., 2022; figure 1a of 2023; claims
C1 and C2)."""

import itertools

import pandas as pd

from sslens.comparisons import families as _families
from sslens.comparisons import pairs as _pairs
from sslens.comparisons import panels as _panels
from sslens.comparisons import roles as _roles
from sslens.comparisons.inputs import Inputs
from sslens.figure import Figure, Panel
from sslens.table import Table

TITLE = "How alike are the blocks?"
CAPTION = (
    "Minibatch CKA with the unbiased HSIC_1 between the outputs of every block of every model: 1 is"
    " the same up to rotation and scale, 0 is unrelated. All tokens of an image are flattened, as"
    " in the papers; the CLS token and the patch tokens alone are shown beside it. Bands are 95 %"
    " bootstrap intervals over minibatches; a difference is taken within each replicate, so that it"
    " is paired. The intervals are over images: of other trainings of the same objective they say"
    " nothing. Dashed lines are controls: random initialisations of the same architecture, with"
    " each other and with the models, and the raw pixels. A similarity that does not exceed them"
    " says nothing about what was learned. In the table, p is against images that were permuted,"
    " corrected over all cells of a pair."
)
VERSION = 3
NEEDS = ("grams",)
KIND = "block"
#: sentences at most
SAID = 6


def compute(inputs: Inputs) -> Table:
    """CKA of every block with every block, for all pairs of models and controls; of families, where
    these are known."""
    rows = []
    for tokens in _roles.tokens(inputs):
        pairs = _pairs.compare(inputs, tokens, KIND, null=True)
        rows += [*_pairs.rows(inputs, pairs), *_families.rows(inputs, pairs, tokens, KIND)]
    return _pairs.table(rows)


def draw(table: Table) -> Figure:
    """Heat maps of all pairs of models and one random initialisation; then curves at the same
    depth."""
    cells = _panels.Cells.of(table.frame)
    tokens = cells.tokens()
    names = cells.models()
    names += [name for name in cells.controls() if name != "pixels"][:1]
    rows: list[list[Panel | None]] = [
        [
            _panels.heatmap(cells, a, b, tokens[0], KIND) if j >= i else None
            for j, b in enumerate(names)
        ]
        for i, a in enumerate(names)
    ]
    shown = _panels.pairs_shown(cells)
    rows.append([_panels.curves(cells, each, KIND, _panels.LABELS[each], shown) for each in tokens])
    rows.append(
        [
            _panels.families(table.frame, each, KIND, f"families, {_panels.LABELS[each]}")
            for each in tokens
        ]
    )
    return _panels.figure("cka-blocks", rows)


def findings(table: Table) -> tuple[str, ...]:
    """Which families and which models are alike, against the control, and where they part."""
    frame, cells = table.frame[table.frame.row != "cell"], _panels.Cells.of(table.frame)
    tokens = cells.tokens()
    said = [_families.findings(frame, each, KIND) for each in tokens]
    pairs = list(itertools.combinations(cells.models(), 2))
    said += [_pair(frame, a, b, each) for each in tokens for a, b in pairs]
    found = [sentence for sentence in said if sentence]
    left = len(found) - SAID
    if left > 0:
        found = [
            *found[: SAID - 1],
            f"{left + 1} more such comparisons of {pairs[0][0]} and the others are in the table.",
        ]
    return tuple(found)


def _pair(frame: pd.DataFrame, a: str, b: str, tokens: str) -> str | None:
    """Two models' mean CKA, against two random initialisations, and late against early."""
    these = frame[(frame.tokens == tokens) & (frame.model_a == a) & (frame.model_b == b)].set_index(
        "row"
    )
    if "mean" not in these.index or pd.isna(these.loc["mean"].cka):
        return None
    mean = these.loc["mean"]
    said = f"{a} and {b}: mean CKA at the same depth {_pairs.spelt(mean)} {_roles.TOKENS[tokens]}"
    if mean.less:
        sign = _pairs.verdict(mean)
        sides = {1: "more than", -1: "less than"}
        if sign:
            said += (
                f", {sides[sign]} two random initialisations have with each other"
                f" ({_pairs.spelt_difference(mean)})"
            )
        else:
            said += f"; against two random initialisations {_pairs.unsure(mean)}"
    if "late" in these.index and pd.notna(these.loc["late"].difference):
        late = these.loc["late"]
        sign = _pairs.verdict(late)
        if sign:
            side = "more" if sign > 0 else "less"
            said += (
                f"; {side} alike in the last third than in the first"
                f" ({_pairs.spelt_difference(late)})"
            )
    return said + "."
