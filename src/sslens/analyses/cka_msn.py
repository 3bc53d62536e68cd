"""CKA of masked siamese networks with both families (figures 15 and 16 of Shekhar et al., 2023;
claim C13)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from sslens.comparisons import families as _families
from sslens.comparisons import pairs as _pairs
from sslens.comparisons import panels as _panels
from sslens.comparisons import roles as _roles
from sslens.comparisons.inputs import Inputs
from sslens.comparisons.pairs import Pairs, find
from sslens.comparisons.roles import JE, REC
from sslens.figure import Figure, Panel
from sslens.models.about import About
from sslens.statistics.sampled import average
from sslens.table import Table

TITLE = "Is a masked siamese network like joint embedding or like reconstruction?"
CAPTION = (
    "MSN embeds two views like joint embedding (JE) and masks patches like reconstruction (REC)."
    " Minibatch CKA between the blocks of MSN and of every other model, pre-trained or fine-tuned,"
    " over all tokens; below, at the same depth, beside the controls: random initialisations with"
    " each other and with MSN, and raw pixels. Bands are 95 % bootstrap intervals over minibatches;"
    " a difference is taken within each replicate."
)
VERSION = 2
NEEDS = ("grams",)
KIND = "block"
#: sentences at most
SAID = 6
UNITS = _pairs.UNITS | {"msn": "whether model_a is MSN"}


def without(about: Mapping[str, About], controls: Sequence[str]) -> str | None:
    """There must be an MSN model, and a model of a family to hold it against."""
    names = _roles.models(about, controls)
    masked = [name for name in names if is_msn(about[name])]
    if not masked:
        return "there is no MSN model among the models"
    if not any(about[name].family in (JE, REC) for name in names if name not in masked):
        return "there is no other joint-embedding or reconstruction model to hold MSN against"
    return None


def is_msn(about: About) -> bool:
    """Whether a model was pre-trained as a masked siamese network."""
    return about.objective == "msn"


def compute(inputs: Inputs) -> Table:
    """CKA of MSN with every model; and MSN with JE less MSN with REC, of pre-trained models."""
    masked = [name for name in inputs.models if is_msn(inputs.about[name])]

    def wanted(a: str, b: str) -> bool:
        return a == b or a in masked or b in masked or {a, b} <= set(inputs.controls)

    rows: list[dict[str, Any]] = []
    for tokens in _roles.tokens(inputs):
        pairs = _pairs.compare(inputs, tokens, KIND, wanted)
        rows += [*_pairs.rows(inputs, pairs), *_claim(inputs, pairs, tokens, masked)]
    table = _pairs.table(rows)
    return Table(table.frame.assign(msn=table.frame.model_a.isin(masked)), UNITS)


def _claim(
    inputs: Inputs, pairs: Pairs, tokens: str, masked: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Pre-trained MSN with JE, less MSN with REC."""
    je, rec = ([name for name in each if name not in masked] for each in _families.both(inputs))
    first = [name for name in masked if not _roles.is_tuned(inputs.about[name])]
    inside = [pair for own in first for other in je if (pair := find(pairs, own, other))]
    outside = [pair for own in first for other in rec if (pair := find(pairs, own, other))]
    if not inside or not outside:
        return
    members = f"{_roles.listed(first)}; {JE}: {_roles.listed(je)}; {REC}: {_roles.listed(rec)}"
    near, far = (average([pair.same.mean() for pair in side]) for side in (inside, outside))
    own, other = (
        _families.names(tokens, KIND, "MSN", family, len(side), members)
        for family, side in ((JE, inside), (REC, outside))
    )
    yield own | _pairs.contrast("families", near, (f"MSN · {REC}", far))
    yield other | _pairs.contrast("families", far)


def draw(table: Table) -> Figure:
    """Heat maps of MSN with each other model, then curves at the same depth beside the controls."""
    frame, cells = table.frame, _panels.Cells.of(table.frame)
    tokens, names = cells.tokens(), cells.models()
    masked = list(dict.fromkeys(frame[frame.msn].model_a))
    pairs = {own: [other for other in names if other != own] for own in masked}
    grid: list[list[Panel | None]] = [
        [_panels.heatmap(cells, own, other, tokens[0], KIND) for other in others]
        for own, others in pairs.items()
    ]
    shown = [(own, other) for own, others in pairs.items() for other in others]
    shown = [*dict.fromkeys(shown), *_panels.beside(cells, masked[:1])]
    grid.append([_panels.curves(cells, each, KIND, _panels.LABELS[each], shown) for each in tokens])
    return _panels.figure("cka-msn", grid)


def findings(table: Table) -> tuple[str, ...]:
    """To which family MSN is nearer, for each choice of tokens; and how near to each model."""
    frame = table.frame
    said = [
        _family(row)
        for row in frame[(frame.row == "families") & (frame.model_b == JE)].itertuples()
    ]
    masked = list(dict.fromkeys(frame[frame.msn].model_a))
    return (*said, *(_each(frame, own) for own in masked))[:SAID]


def _family(row: Any) -> str:
    said = (
        f"MSN ({row.members}) has a mean CKA at the same depth of {_pairs.spelt(row)} with {JE}"
        f" {_roles.TOKENS[row.tokens]}"
    )
    sign = _pairs.verdict(row)
    if not sign:
        return f"{said}; against that with {REC} {_pairs.unsure(row)}."
    side = "more" if sign > 0 else "less"
    return (
        f"{said}, {side} than with {REC} ({_pairs.spelt_difference(row)}): it is nearer to"
        f" {JE if sign > 0 else REC}."
    )


def _each(frame: pd.DataFrame, own: str) -> str:
    """The mean CKA with each other model, the nearest first."""
    tokens = _panels.tokens_in(frame)[0]
    rows = frame[
        (frame.row == "mean")
        & (frame.tokens == tokens)
        & ~frame.control
        & (frame.model_a != frame.model_b)
    ]
    rows = (
        rows[(rows.model_a == own) | (rows.model_b == own)]
        .dropna(subset="cka")
        .sort_values("cka", ascending=False)
    )
    parts = [
        f"{row.model_b if row.model_a == own else row.model_a} {_pairs.spelt(row)}"
        for row in rows.itertuples()
    ]
    said = f"{own} at the same depth, {_roles.TOKENS[tokens]}: {', '.join(parts)}"
    if (frame.row == "families").any():
        return said + "."
    return (
        f"{said}; to say which family it is nearer to, a pre-trained {JE} and a pre-trained {REC}"
        " model are needed."
    )
