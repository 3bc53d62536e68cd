"""CKA before and after fine-tuning (figure 5 of Shekhar et al., 2022; figures 4, 8, 9, 10 of 2023; claim C9)."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from sslens.analyses import Inputs, _families, _pairs, _panels, _roles
from sslens.analyses._pairs import Pairs, find
from sslens.analyses._roles import JE, REC
from sslens.figure import Figure, Panel
from sslens.measures._inference import Sampled, average
from sslens.table import Table

TITLE = "What does fine-tuning make alike?"
CAPTION = (
    "Minibatch CKA between models before (PT) and after fine-tuning (FT): all four combinations of two models, block by "
    "block, then the same depth only, for the blocks and for three types of layer, beside two random initialisations "
    "(dashed). A fine-tuned model is matched with the pre-trained model of its objective and architecture. Bands are 95 % "
    "bootstrap intervals over minibatches; a difference is taken within each replicate, and those of the layer types hold "
    "at once."
)
VERSION = 2
NEEDS = ("grams",)
KINDS = ("block", "norm1", "qkv", "fc1")
#: combinations of two models drawn, and sentences at most
SHOWN, SAID = 3, 6
UNITS = _pairs.UNITS | {"tuned_a": "whether model_a was fine-tuned", "tuned_b": "whether model_b was"}


def without(about: Mapping[str, Mapping[str, Any]], controls: Sequence[str]) -> str | None:
    """A fine-tuned and a pre-trained version of one model must be there."""
    if matched(about, _roles.models(about, controls)):
        return None
    return "of no model both a pre-trained and a fine-tuned version are given (the same objective and architecture)"


def matched(about: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> dict[str, str]:
    """Fine-tuned models, each with the first pre-trained one of the same objective and architecture.

    >>> known = {"mae": {"objective": "mae", "arch": "vit"}, "ft": {"objective": "mae", "arch": "vit", "tuned": "fine-tuned"}}
    >>> matched(known, ["mae", "ft"])
    {'ft': 'mae'}
    """
    found = {}
    for name in names:
        own = about.get(name, {})
        if _roles.is_tuned(own) and own.get("objective"):
            before = [
                other
                for other in names
                if not _roles.is_tuned(about[other])
                and all(about[other].get(key) == own.get(key) for key in ("objective", "arch"))
            ]
            if before:
                found[name] = before[0]
    return found


def compute(inputs: Inputs) -> Table:
    """CKA of all pairs of models by kind of tap, and what fine-tuning changed in it."""
    before = matched(inputs.about, inputs.models)

    def wanted(a: str, b: str) -> bool:
        return (a in inputs.controls) == (b in inputs.controls) and "pixels" not in (a, b)

    rows: list[dict[str, Any]] = []
    for tokens in _roles.tokens(inputs):
        rises = {}
        for kind in KINDS:
            pairs = _pairs.compare(inputs, tokens, kind, wanted)
            rows += _pairs.rows(inputs, pairs)
            rows += _matches(inputs, pairs, tokens, kind, before)
            rows += _changes(inputs, pairs, tokens, kind, before)
            rise = _rise(inputs, pairs, before)
            if rise:
                rises[kind] = rise
                names = _families.names(tokens, kind, f"{REC}, fine-tuned", JE, rise[2], _members(inputs, before))
                yet = (f"{REC} · {JE}, both pre-trained", rise[1])
                rows.append(names | _pairs.contrast("families", rise[0], yet))
        rows += _by_type(inputs, rises, tokens, before)
    frame = _pairs.table(rows).frame
    tuned = [name for name in inputs.models if _roles.is_tuned(inputs.about.get(name, {}))]
    return Table(frame.assign(tuned_a=frame.model_a.isin(tuned), tuned_b=frame.model_b.isin(tuned)), UNITS)


def _members(inputs: Inputs, before: Mapping[str, str]) -> str:
    """Which model is taken for which before fine-tuning, and why; and the JE models held against."""
    rec = [name for name in before if inputs.about[name].get("family") == REC]
    return "; ".join(_match(inputs, name, before[name]) for name in rec) + f"; {JE}: {_roles.listed(_je(inputs))}"


def _match(inputs: Inputs, tuned: str, first: str) -> str:
    about = inputs.about[tuned]
    return f"{tuned} from {first}: both {about['objective']}, {about.get('arch') or 'unknown architecture'}"


def _je(inputs: Inputs) -> list[str]:
    return _families.both(inputs)[0]


def _matches(
    inputs: Inputs, pairs: Pairs, tokens: str, kind: str, before: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Each fine-tuned model with itself before, and there the last third of the depths less the first."""
    for tuned, first in before.items():
        pair = find(pairs, tuned, first)
        if pair:
            late, early = pair.late()
            low, high = (late - early).interval()
            names = _families.names(tokens, kind, tuned, first, 1, _match(inputs, tuned, first))
            difference = float((late - early).value), float(low), float(high)
            yield (
                names
                | _pairs.contrast("matched", pair.same.mean())
                | _pairs.differing("the first third", *difference, 1)
            )


def _changes(
    inputs: Inputs, pairs: Pairs, tokens: str, kind: str, before: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """For each fine-tuned model and each pre-trained one of another objective: CKA after less before."""
    others = [name for name in inputs.models if not _roles.is_tuned(inputs.about.get(name, {}))]
    for (tuned, first), other in itertools.product(before.items(), others):
        after, yet = find(pairs, tuned, other), find(pairs, first, other)
        if other != first and after and yet:
            names = _families.names(tokens, kind, tuned, other, 1, _match(inputs, tuned, first))
            yield names | _pairs.contrast("fine-tuned", after.same.mean(), (f"{first} · {other}", yet.same.mean()))


def _rise(inputs: Inputs, pairs: Pairs, before: Mapping[str, str]) -> tuple[Sampled, Sampled, int] | None:
    """Claim C9: CKA(REC fine-tuned, JE), CKA(REC, JE), and the number of pairs."""
    rec = {tuned: first for tuned, first in before.items() if inputs.about[tuned].get("family") == REC}
    both = [
        (after.same.mean(), yet.same.mean())
        for (tuned, first), je in itertools.product(rec.items(), _je(inputs))
        if (after := find(pairs, tuned, je)) and (yet := find(pairs, first, je))
    ]
    if not both:
        return None
    return average([after for after, _ in both]), average([yet for _, yet in both]), len(both)


def _by_type(
    inputs: Inputs, rises: Mapping[str, tuple[Sampled, Sampled, int]], tokens: str, before: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """By how much more CKA rose in norm1 and in qkv than in fc1; the intervals hold at once."""
    if not {"norm1", "qkv", "fc1"} <= set(rises):
        return
    rose = {kind: after - yet for kind, (after, yet, _) in rises.items()}
    more = Sampled.stack([rose["norm1"] - rose["fc1"], rose["qkv"] - rose["fc1"]])
    low, high = more.together()
    for k, kind in enumerate(("norm1", "qkv")):
        names = _families.names(tokens, kind, f"{REC}, fine-tuned", JE, rises[kind][2], _members(inputs, before))
        difference = _pairs.differing("the rise in fc1", float(more.value[k]), float(low[k]), float(high[k]), 2)
        yield names | _pairs.contrast("rise by type", rises[kind][0]) | difference


def draw(table: Table) -> Figure:
    """A row of four heat maps a combination of two models, then curves by kind of tap."""
    frame, cells = table.frame, _panels.Cells.of(table.frame)
    tokens = cells.tokens()
    changes = frame[(frame.row == "fine-tuned") & (frame.tokens == tokens[0]) & (frame.kind == "block")]
    before = _before(frame)
    after = {first: tuned for tuned, first in before.items()}
    combined: dict[frozenset[str], list[tuple[str, str]]] = {}
    for row in changes.itertuples():
        first, other = before[row.model_a], row.model_b
        four = [(first, other), (row.model_a, other)]
        if other in after:
            four += [(first, after[other]), (row.model_a, after[other])]
        combined.setdefault(frozenset((first, other)), four)
    shown = list(combined.values())[:SHOWN] or [[(first, tuned)] for tuned, first in before.items()]
    grid: list[list[Panel | None]] = [
        [_panels.heatmap(cells, a, b, tokens[0], "block", _stages(frame, a, b)) for a, b in four] for four in shown
    ]
    random = _panels.beside(cells, ())
    kinds = [kind for kind in KINDS if (frame.kind == kind).any()]
    for four, each in itertools.product(shown, tokens[:2]):
        grid.append(
            [_panels.curves(cells, each, kind, f"{kind}, {_panels.LABELS[each]}", [*four, *random]) for kind in kinds]
        )
    return _panels.figure("cka-finetune", grid)


def _before(frame: pd.DataFrame) -> dict[str, str]:
    """The pre-trained model of each fine-tuned one."""
    rows = frame[frame.row == "matched"]
    return dict(zip(rows.model_a, rows.model_b, strict=True))


def _stages(frame: pd.DataFrame, a: str, b: str) -> str:
    tuned = set(frame[frame.tuned_a].model_a) | set(frame[frame.tuned_b].model_b)
    return " · ".join(f"{name} ({'FT' if name in tuned else 'PT'})" for name in (a, b))


def findings(table: Table) -> tuple[str, ...]:
    """Whether fine-tuned REC resembles pre-trained JE, in which type of layer most, and how far each model moved."""
    frame = table.frame[table.frame.row != "cell"]
    tokens = _panels.tokens_in(frame)
    said = [sentence for each in tokens if (sentence := _family(frame, each))]
    if not said:
        changes = frame[(frame.row == "fine-tuned") & (frame.tokens == tokens[0]) & (frame.kind == "block")]
        said = [_change(row) for row in changes.itertuples()][:SHOWN]
    moved = frame[(frame.row == "matched") & (frame.tokens == tokens[0]) & (frame.kind == "block")]
    return (*said, *(_moved(row) for row in moved.itertuples()))[:SAID]


def _family(frame: pd.DataFrame, tokens: str) -> str | None:
    here = frame[frame.tokens == tokens]
    rise = here[here.row == "families"].set_index("kind")
    if "block" not in rise.index or pd.isna(rise.loc["block"].difference):
        return None
    row = rise.loc["block"]
    where = _roles.TOKENS[tokens]
    said = f"Fine-tuned {REC} and pre-trained {JE} ({row.members}) have a mean CKA at the same depth of {_pairs.spelt(row)} {where}"
    sign = _pairs.verdict(row)
    if not sign:
        return f"{said}; against that before fine-tuning {_pairs.unsure(row)}."
    said += f", {'more' if sign > 0 else 'less'} than before fine-tuning ({_pairs.spelt_difference(row)})"
    by_type = here[here.row == "rise by type"].set_index("kind")
    parts = [
        f"{kind} rises {'more' if sign > 0 else 'less'} than fc1 ({_pairs.spelt_difference(by_type.loc[kind])})"
        if (sign := _pairs.verdict(by_type.loc[kind]))
        else f"the rise in {kind} against that in fc1 {_pairs.unsure(by_type.loc[kind])}"
        for kind in by_type.index
    ]
    return "; ".join([said, *parts]) + "."


def _change(row: Any) -> str:
    said = f"{row.model_a} and {row.model_b}: mean CKA at the same depth {_pairs.spelt(row)}"
    sign = _pairs.verdict(row)
    if not sign:
        return f"{said}; against that of {row.less} {_pairs.unsure(row)}."
    return f"{said}, {'more' if sign > 0 else 'less'} than {row.less} ({_pairs.spelt_difference(row)})."


def _moved(row: Any) -> str:
    """How alike a model still is to itself before, late against early."""
    said = f"{row.model_a} keeps a mean CKA at the same depth of {_pairs.spelt(row)} with {row.model_b} ({row.members})"
    sign = _pairs.verdict(row)
    if not sign:
        return f"{said}; the last third of the depths less the first {_pairs.unsure(row)}."
    side = "more" if sign > 0 else "less"
    return f"{said}, {side} in the last third of the depths than in the first ({_pairs.spelt_difference(row)})."
