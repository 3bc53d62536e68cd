"""CKA before and after fine-tuning (figures 5, 6 of Shekhar et al., 2022; figures 4, 8, 9, 10 of
2023; claim C9)."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from sslens.comparisons import families as _families
from sslens.comparisons import pairs as _pairs
from sslens.comparisons import panels as _panels
from sslens.comparisons import roles as _roles
from sslens.comparisons import tuned as _tuned
from sslens.comparisons.inputs import Inputs
from sslens.comparisons.pairs import Pairs, find
from sslens.comparisons.roles import JE, REC
from sslens.figure import Figure, Lines, Panel
from sslens.models.about import About
from sslens.statistics.sampled import Sampled, average
from sslens.table import Table

TITLE = "What does fine-tuning make alike?"
CAPTION = (
    "Minibatch CKA between models before (PT) and after fine-tuning (FT): all four combinations of"
    " two models, block by block, of the first two also by type of layer, then each model with"
    " itself before. Below, the same depth only, for the blocks and for three types of layer,"
    " beside two random initialisations and, where one was fine-tuned likewise, beside that before"
    " and after (dashed): labels make any two networks more alike, and only what goes beyond that"
    " is due to the pre-training. Bands are 95 % bootstrap intervals over minibatches; a"
    " difference, and a difference of two, is taken within each replicate, and those of the layer"
    " types hold at once."
)
VERSION = 3
NEEDS = ("grams",)
TYPES = ("norm1", "qkv", "fc1")
KINDS = ("block", *TYPES)
#: combinations of two models drawn, and sentences at most
SHOWN, SAID = 3, 6
UNITS = _pairs.UNITS | {
    "tuned_a": "whether model_a was fine-tuned",
    "tuned_b": "whether model_b was",
}


@dataclass(frozen=True, eq=False)
class Rise:
    """CKA of fine-tuned models with others, that before, and by how much that of fine-tuned random
    initialisations rose.

    Attributes:
        count: pairs averaged.
        control: of the same architectures and recipe, with the same others; None where there are
            none.
    """

    after: Sampled
    yet: Sampled
    count: int
    control: Sampled | None

    @property
    def rise(self) -> Sampled:
        """What fine-tuning added."""
        return self.after - self.yet

    @property
    def beyond(self) -> Sampled | None:
        """That less what it added to the control."""
        return None if self.control is None else self.rise - self.control


def without(about: Mapping[str, About], controls: Sequence[str]) -> str | None:
    """A fine-tuned and a pre-trained version of one model must be there."""
    if _tuned.matched(about, _roles.models(about, controls)):
        return None
    return (
        "of no model both a pre-trained and a fine-tuned version are given (the same objective and"
        " architecture)"
    )


def compute(inputs: Inputs) -> Table:
    """CKA of all pairs of models by kind of tap, and what fine-tuning changed in it, beyond the
    control where there is one."""
    before = _tuned.matched(inputs.about, [*inputs.models, *inputs.controls])
    starts = {first for first in before.values() if first in inputs.controls}

    def wanted(a: str, b: str) -> bool:
        if "pixels" in (a, b):
            return False
        # what a fine-tuned control was before is held against that, and against what that is held
        # against
        ties = (
            one in starts and (before.get(other) == one or other not in before)
            for one, other in ((a, b), (b, a))
        )
        return (a in inputs.controls) == (b in inputs.controls) or any(ties)

    rows: list[dict[str, Any]] = []
    for tokens in _roles.tokens(inputs):
        rises: dict[str, Rise] = {}
        for kind in KINDS:
            pairs = _pairs.compare(inputs, tokens, kind, wanted)
            rows += _pairs.rows(inputs, pairs)
            rows += _matches(inputs, pairs, tokens, kind, before)
            rows += _changes(inputs, pairs, tokens, kind, before)
            if found := _family(inputs, pairs, before):
                rises[kind] = found
                names = _names(inputs, tokens, kind, before, found)
                rows.append(
                    names
                    | _pairs.contrast(
                        "families", found.after, (f"{REC} · {JE}, both pre-trained", found.yet)
                    )
                )
        rows += _by_type(inputs, rises, tokens, before)
        rows += _beyond(inputs, rises, tokens, before)
    frame = _pairs.table(rows).frame
    tuned = [name for name in inputs.models if _roles.is_tuned(inputs.about[name])]
    return Table(
        frame.assign(tuned_a=frame.model_a.isin(tuned), tuned_b=frame.model_b.isin(tuned)), UNITS
    )


def _names(
    inputs: Inputs, tokens: str, kind: str, before: Mapping[str, str], found: Rise
) -> dict[str, Any]:
    """The columns of a row of families: which model is taken for which before fine-tuning, and the
    JE models."""
    members = "; ".join(
        _tuned.match(inputs.about, name, before[name]) for name in _rec(inputs, before)
    )
    members += f"; {JE}: {_roles.listed(_je(inputs))}"
    return _families.names(tokens, kind, f"{REC}, fine-tuned", JE, found.count, members)


def _je(inputs: Inputs) -> list[str]:
    return _families.both(inputs)[0]


def _rec(inputs: Inputs, before: Mapping[str, str]) -> list[str]:
    return [name for name in before if inputs.about[name].family == REC]


def _matches(
    inputs: Inputs, pairs: Pairs, tokens: str, kind: str, before: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Each fine-tuned model with itself before, and there the last third of the depths less the
    first."""
    for tuned, first in before.items():
        pair = find(pairs, tuned, first)
        if pair:
            late, early = pair.late()
            low, high = (late - early).interval()
            names = _families.names(
                tokens, kind, tuned, first, 1, _tuned.match(inputs.about, tuned, first)
            )
            difference = float((late - early).value), float(low), float(high)
            yield (
                names
                | {"control": _tuned.is_control(inputs.about[tuned])}
                | _pairs.contrast("matched", pair.same.mean())
                | _pairs.differing("the first third", *difference, 1)
            )


def _changes(
    inputs: Inputs, pairs: Pairs, tokens: str, kind: str, before: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """For each fine-tuned model and each pre-trained one of another objective: CKA after less
    before, also beyond the control."""
    others = [name for name in inputs.models if not _roles.is_tuned(inputs.about[name])]
    for (tuned, first), other in itertools.product(before.items(), others):
        found = _rise(inputs, pairs, before, [tuned], [other]) if other != first else None
        if found:
            names = _families.names(
                tokens, kind, tuned, other, 1, _tuned.match(inputs.about, tuned, first)
            )
            names["control"] = _tuned.is_control(inputs.about[tuned])
            yield names | _pairs.contrast(
                "fine-tuned", found.after, (f"{first} · {other}", found.yet)
            )
            if found.control is not None and not names["control"]:
                less = _less(inputs, before, [tuned], other)
                yield names | _pairs.contrast(
                    "beyond the control", found.rise, (less, found.control)
                )


def _family(inputs: Inputs, pairs: Pairs, before: Mapping[str, str]) -> Rise | None:
    """Claim C9: CKA of fine-tuned REC and JE, and of REC and JE before."""
    return _rise(inputs, pairs, before, _rec(inputs, before), _je(inputs))


def _rise(
    inputs: Inputs,
    pairs: Pairs,
    before: Mapping[str, str],
    tuned: Sequence[str],
    others: Sequence[str],
) -> Rise | None:
    """CKA of fine-tuned models with others, averaged over all pairs; each pair beside the mean of
    its own controls."""
    after, yet, control = [], [], []
    for name, other in itertools.product(tuned, others):
        both = _both(pairs, name, before[name], other)
        if both:
            after.append(both[0])
            yet.append(both[1])
            held = [
                _both(pairs, each, before[each], other)
                for each in _tuned.controls(inputs.about, list(before), name)
            ]
            changes = [one - two for one, two in filter(None, held)]
            control += [average(changes)] if changes else []
    if not after:
        return None
    return Rise(
        average(after),
        average(yet),
        len(after),
        average(control) if len(control) == len(after) else None,
    )


def _both(pairs: Pairs, tuned: str, first: str, other: str) -> tuple[Sampled, Sampled] | None:
    """The mean CKA at the same depth with another model, of a fine-tuned model and of what it was
    before."""
    after, yet = find(pairs, tuned, other), find(pairs, first, other)
    return (after.same.mean(), yet.same.mean()) if after and yet else None


def _less(inputs: Inputs, before: Mapping[str, str], tuned: Sequence[str], other: str) -> str:
    """What the rise of fine-tuned models is held against, in words."""
    names = dict.fromkeys(
        name for each in tuned for name in _tuned.controls(inputs.about, list(before), each)
    )
    return (
        f"the rise of {_roles.listed([f'{name} (from {before[name]})' for name in names])} with"
        f" {other}"
    )


def _by_type(
    inputs: Inputs, rises: Mapping[str, Rise], tokens: str, before: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """By how much more CKA rose in norm1 and in qkv than in fc1; the intervals hold at once."""
    if not set(TYPES) <= set(rises):
        return
    rose = {kind: rises[kind].rise for kind in TYPES}
    more = Sampled.stack([rose["norm1"] - rose["fc1"], rose["qkv"] - rose["fc1"]])
    low, high = more.together()
    for k, kind in enumerate(("norm1", "qkv")):
        difference = _pairs.differing(
            "the rise in fc1", float(more.value[k]), float(low[k]), float(high[k]), 2
        )
        names = _names(inputs, tokens, kind, before, rises[kind])
        yield names | _pairs.contrast("rise by type", rises[kind].after) | difference


def _beyond(
    inputs: Inputs, rises: Mapping[str, Rise], tokens: str, before: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """By how much more CKA rose than that of the control: of the blocks, and of the layer types,
    whose intervals hold at once."""
    for kinds in (("block",), TYPES):
        beyond = {kind: rises[kind].beyond for kind in kinds if kind in rises}
        known = {kind: each for kind, each in beyond.items() if each is not None}
        if known:
            less = _less(inputs, before, _rec(inputs, before), JE)
            more = Sampled.stack(list(known.values()))
            low, high = more.interval() if len(known) == 1 else more.together()
            for k, kind in enumerate(known):
                difference = _pairs.differing(
                    less, float(more.value[k]), float(low[k]), float(high[k]), len(known)
                )
                names = _names(inputs, tokens, kind, before, rises[kind])
                yield names | _pairs.contrast("beyond the control", rises[kind].rise) | difference


def draw(table: Table) -> Figure:
    """A row of four heat maps a combination of two models, and each with itself; then curves by
    kind of tap."""
    frame, cells = table.frame, _panels.Cells.of(table.frame)
    tokens = cells.tokens()
    changes = frame[
        (frame.row == "fine-tuned") & (frame.tokens == tokens[0]) & (frame.kind == "block")
    ]
    before = _before(frame)
    after = {first: tuned for tuned, first in reversed(before.items())}
    combined: dict[frozenset[str], list[tuple[str, str]]] = {}
    for row in changes[~changes.control].itertuples():
        first, other = before[row.model_a], row.model_b
        four = [(first, other), (row.model_a, other)]
        if other in after:
            four += [(first, after[other]), (row.model_a, after[other])]
        combined.setdefault(frozenset((first, other)), four)
    shown = list(combined.values())[:SHOWN]
    kinds = [kind for kind in KINDS if (frame.kind == kind).any()]
    heat = [(four, kind) for four in shown[:1] for kind in kinds] + [
        (four, "block") for four in shown[1:]
    ]
    grid: list[list[Panel | None]] = [
        [_panels.heatmap(cells, a, b, tokens[0], kind, _stages(frame, a, b, kind)) for a, b in four]
        for four, kind in heat
    ]
    own = [(first, tuned) for tuned, first in before.items()]
    grid += [
        [
            _panels.heatmap(cells, a, b, tokens[0], "block", _stages(frame, a, b, "block"))
            for a, b in own[i : i + 4]
        ]
        for i in range(0, len(own), 4)
    ]
    for four, each in itertools.product(shown or [own], tokens[:2]):
        grid.append([_curves(cells, frame, each, kind, four) for kind in kinds])
    return _panels.figure("cka-finetune", grid)


def _curves(
    cells: _panels.Cells,
    frame: pd.DataFrame,
    tokens: str,
    kind: str,
    four: Sequence[tuple[str, str]],
) -> Lines:
    """The combinations of two models, and dashed the control with the second before it was tuned
    and with random weights."""
    panel = _panels.curves(cells, tokens, kind, f"{kind}, {_panels.LABELS[tokens]}", four)
    held = frame[
        (frame.row == "fine-tuned") & frame.control & (frame.model_b == four[0][1])
    ].model_a
    pairs = [
        (name, four[0][1]) for each in dict.fromkeys(held) for name in (_before(frame)[each], each)
    ][:2]
    beside = (
        _panels.curve(cells, a, b, tokens, kind) for a, b in [*_panels.beside(cells, ()), *pairs]
    )
    return replace(
        panel,
        lines=(*panel.lines, *(replace(line, control=True) for line in beside if line is not None)),
    )


def _before(frame: pd.DataFrame) -> dict[str, str]:
    """The pre-trained model of each fine-tuned one."""
    rows = frame[frame.row == "matched"]
    return dict(zip(rows.model_a, rows.model_b, strict=True))


def _stages(frame: pd.DataFrame, a: str, b: str, kind: str) -> str:
    tuned = set(frame[frame.tuned_a].model_a) | set(frame[frame.tuned_b].model_b)
    both = " · ".join(f"{name} ({'FT' if name in tuned else 'PT'})" for name in (a, b))
    return both if kind == "block" else f"{kind}: {both}"


def findings(table: Table) -> tuple[str, ...]:
    """Whether fine-tuned REC resembles pre-trained JE, and beyond the control; in which type of
    layer; how far each model moved."""
    frame = table.frame[table.frame.row != "cell"]
    tokens = _panels.tokens_in(frame)
    said = [sentence for each in tokens if (sentence := _claimed(frame, each))]
    if not said:
        here = frame[(frame.tokens == tokens[0]) & (frame.kind == "block") & ~frame.control]
        beyond = here[here.row == "beyond the control"].set_index(["model_a", "model_b"])
        changes = list(here[here.row == "fine-tuned"].itertuples())[:SHOWN]
        said = [
            _change(row, _held(beyond, (row.model_a, row.model_b), row.model_a)) for row in changes
        ]
    moved = frame[(frame.row == "matched") & (frame.tokens == tokens[0]) & (frame.kind == "block")]
    return (*said, *(_moved(row) for row in moved.itertuples()))[:SAID]


def _claimed(frame: pd.DataFrame, tokens: str) -> str | None:
    here = frame[(frame.tokens == tokens) & (frame.model_b == JE)]
    rise = here[here.row == "families"].set_index("kind")
    if "block" not in rise.index or pd.isna(rise.loc["block"].difference):
        return None
    row = rise.loc["block"]
    where = _roles.TOKENS[tokens]
    said = (
        f"Fine-tuned {REC} and pre-trained {JE} ({row.members}) have a mean CKA at the same depth"
        f" of {_pairs.spelt(row)} {where}"
    )
    beyond = here[here.row == "beyond the control"].set_index("kind")
    sign, held = _pairs.verdict(row), _held(beyond, "block", REC)
    if not sign:
        return f"{said}; against that before fine-tuning {_pairs.unsure(row)}." + (
            f" {held}" if len(beyond) else ""
        )
    said += (
        f", {'more' if sign > 0 else 'less'} than before fine-tuning"
        f" ({_pairs.spelt_difference(row)})"
    )
    by_type = here[here.row == "rise by type"].set_index("kind")
    parts = [
        (
            f"{kind} rises {'more' if sign > 0 else 'less'} than fc1"
            f" ({_pairs.spelt_difference(by_type.loc[kind])})"
            if (sign := _pairs.verdict(by_type.loc[kind]))
            else f"the rise in {kind} against that in fc1 {_pairs.unsure(by_type.loc[kind])}"
        )
        for kind in by_type.index
    ]
    each = [
        f"{kind} {_pairs.spelt_difference(beyond.loc[kind])}"
        for kind in TYPES
        if kind in beyond.index
    ]
    types = f" By type of layer it is {', '.join(each)}." if each else ""
    return f"{'; '.join([said, *parts])}. {held}{types}"


def _held(beyond: pd.DataFrame, at: Any, who: str) -> str:
    """What a rise comes to beyond that of the control, as a sentence: only that counts as nearness
    to the other model."""
    if at not in beyond.index:
        return (
            "Without a random initialisation that was fine-tuned likewise, it may be what labels do"
            " to any network."
        )
    row = beyond.loc[at]
    said = f"Beyond {row.less} the rise"
    sign = _pairs.verdict(row)
    if sign is None:
        return f"{said} is {_pairs.unsure(row)}."
    nearer = f", so {who} comes nearer" if row.low > 0 else ""  # it may only have moved away less
    verdict = {
        1: f"more than fine-tuning does to random weights{nearer}",
        0: "no more than fine-tuning does to random weights, as far as these images tell",
        -1: "less than fine-tuning does to random weights",
    }[sign]
    return f"{said} is {_pairs.spelt_difference(row)}: {verdict}."


def _change(row: Any, held: str) -> str:
    said = f"{row.model_a} and {row.model_b}: mean CKA at the same depth {_pairs.spelt(row)}"
    sign = _pairs.verdict(row)
    if not sign:
        return f"{said}; against that of {row.less} {_pairs.unsure(row)}."
    return (
        f"{said}, {'more' if sign > 0 else 'less'} than {row.less}"
        f" ({_pairs.spelt_difference(row)}). {held}"
    )


def _moved(row: Any) -> str:
    """How alike a model still is to itself before, late against early."""
    why = (
        f" ({row.members})" if ":" in row.members else ""
    )  # else it is the one whose weights it began with
    said = (
        f"{row.model_a} keeps a mean CKA at the same depth of {_pairs.spelt(row)} with"
        f" {row.model_b}{why}"
    )
    sign = _pairs.verdict(row)
    if not sign:
        return f"{said}; the last third of the depths less the first {_pairs.unsure(row)}."
    side = "more" if sign > 0 else "less"
    return (
        f"{said}, {side} in the last third of the depths than in the first"
        f" ({_pairs.spelt_difference(row)})."
    )
