"""CKA against the distance of two blocks in depth, across architectures (figure 11 of Shekhar et
al., 2023; claim C4)."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sslens.comparisons import pairs as _pairs
from sslens.comparisons import panels as _panels
from sslens.comparisons import roles as _roles
from sslens.comparisons.inputs import Inputs
from sslens.comparisons.pairs import Pair, Pairs, find
from sslens.comparisons.roles import JE, REC
from sslens.figure import Figure, Line, Lines
from sslens.models.about import About
from sslens.statistics.sampled import Sampled, average
from sslens.table import Table

TITLE = "Objective or architecture?"
CAPTION = (
    "Minibatch CKA of all pairs of blocks of two models against the distance of their relative"
    " depths, averaged within steps of 0.1. A transformer and a CNN of one family of objectives are"
    " held against two transformers of different families: where the first curve lies above, the"
    " objective decides more than the architecture. Bands are 95 % bootstrap intervals over"
    " minibatches; differences are taken within each replicate, and those at all distances hold at"
    " once. The dashed line is the control: random initialisations of two architectures."
)
VERSION = 2
NEEDS = ("grams",)
KIND = "block"
#: of the distance of relative depths
STEP = 0.1
#: curves in a panel where families are unknown
CURVES = 6
UNITS = {
    "row": (
        "curve: a pair of models at a distance; control: the same of random initialisations;"
        " objective: pairs of one family across architectures less pairs across families, at the"
        " same depth; objective at a distance: the same at a distance"
    ),
    "model_a": "name of a model, or a family and architecture where pairs are averaged",
    "model_b": "name of a model, or a family and architecture",
    "family": "the family that a comparison is about; of two models, that of both or empty",
    "across": (
        "what two models differ in: architectures (transformer and CNN of one family), families"
        " (two transformers, JE and REC), or other"
    ),
    "pairs": "pairs of models averaged",
    "tokens": "which tokens were flattened: all, cls or patch",
    "distance": "middle of the step of |depth_a - depth_b|, relative depths",
    "cells": "pairs of blocks averaged",
    "cka": "mean minibatch CKA, unbiased",
    "low": "lower end of the 95 % bootstrap interval over minibatches",
    "high": "upper end",
    "less": "what is subtracted in the difference",
    "difference": "cka less that of `less`, on the same images",
    "difference_low": "lower end of its 95 % interval, minibatches drawn for both together",
    "difference_high": "upper end",
    "together": "differences for which the interval holds at once",
    "minibatches": "drawn from by the bootstrap",
}


def without(about: Mapping[str, About], controls: Sequence[str]) -> str | None:
    """There must be two models."""
    names = [name for name in _roles.models(about, controls) if name != "pixels"]
    return None if len(names) > 1 else "it needs two models, best a transformer and a CNN"


def on_request(about: Mapping[str, About], controls: Sequence[str]) -> bool:
    """Of models of one kind of network only when asked for."""
    return (
        len(
            {
                _roles.is_cnn(about[name])
                for name in _roles.models(about, controls)
                if name != "pixels"
            }
        )
        < 2
    )


def compute(inputs: Inputs) -> Table:
    """A curve a pair of models, a control, and both families' pairs across architectures less those
    across families."""
    tokens = _roles.tokens(inputs)[0]

    def wanted(a: str, b: str) -> bool:
        return (
            a != b and (a in inputs.controls) == (b in inputs.controls) and "pixels" not in (a, b)
        )

    pairs = _pairs.compare(inputs, tokens, KIND, wanted)
    rows: list[dict[str, Any]] = []
    for (a, b), pair in pairs.items():
        if a not in inputs.controls:
            rows += _curve(
                pair,
                {"row": "curve", "model_a": a, "model_b": b, "pairs": 1} | _differ(inputs, a, b),
            )
    twins = _control(inputs, pairs)
    if twins:
        names = {
            "row": "control",
            "model_a": twins[0],
            "model_b": twins[1],
            "family": "",
            "across": "",
            "pairs": 1,
        }
        rows += _curve(pairs[twins], names)
    for family, other in ((JE, REC), (REC, JE)):
        rows += _contrasts(inputs, pairs, family, other)
    everywhere = {"tokens": tokens, "less": ""}
    return Table(pd.DataFrame([everywhere | row for row in rows], columns=list(UNITS)), UNITS)


def _differ(inputs: Inputs, a: str, b: str) -> dict[str, str]:
    """The family of two pre-trained models, and what they differ in."""
    about = [inputs.about[name] for name in (a, b)]
    families = {str(each.family) for each in about}
    networks = {_roles.is_cnn(each) for each in about}
    known = families <= {JE, REC} and not any(_roles.is_tuned(each) for each in about)
    if known and len(families) == 1 and len(networks) == 2:
        return {"family": families.pop(), "across": "architectures"}
    across = "families" if known and len(families) == 2 and networks == {False} else "other"
    return {"family": "", "across": across}


def _control(inputs: Inputs, pairs: Pairs) -> tuple[str, str] | None:
    """Random initialisations of the first two models of different architecture, else of the first
    two models."""
    models = list(itertools.combinations(inputs.models, 2))
    apart = [
        pair for pair in models if len({_roles.is_cnn(inputs.about[name]) for name in pair}) == 2
    ]
    twins = _roles.twins(inputs, *(apart or models)[0])
    return next((pair for pair in pairs if twins and set(pair) == set(twins)), None)


def binned(pair: Pair) -> dict[int, tuple[Sampled, int]]:
    """The mean CKA of the blocks at each step of distance, and how many pairs of blocks that is."""
    found: dict[int, list[int]] = {}
    for cell, (a, b) in enumerate(itertools.product(pair.a.taps, pair.b.taps)):
        step = int(
            np.floor(abs(a.depth - b.depth) / STEP + 0.5 - 1e-9)
        )  # 0.25 is a distance of 0.2 on every machine
        found.setdefault(step, []).append(cell)
    return {
        step: (pair.cells[np.array(cells)].mean(), len(cells))
        for step, cells in sorted(found.items())
    }


def _curve(pair: Pair, names: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for step, (mean, cells) in binned(pair).items():
        low, high = mean.interval()
        numbers = {
            "cka": float(mean.value),
            "low": float(low),
            "high": float(high),
            "minibatches": mean.batches,
        }
        yield names | {"distance": step * STEP, "cells": cells} | numbers


def _contrasts(inputs: Inputs, pairs: Pairs, family: str, other: str) -> Iterator[dict[str, Any]]:
    """Transformers with CNNs of their family, less transformers with transformers of the other
    family."""
    cnn = [name for name in inputs.models if _roles.is_cnn(inputs.about[name])]
    vit = [name for name in inputs.models if name not in cnn]
    own = _roles.untuned(inputs.about, vit, family)
    same = [
        find(pairs, a, b)
        for a, b in itertools.product(own, _roles.untuned(inputs.about, cnn, family))
    ]
    across = [
        find(pairs, a, b)
        for a, b in itertools.product(own, _roles.untuned(inputs.about, vit, other))
    ]
    inside, outside = [pair for pair in same if pair], [pair for pair in across if pair]
    if not inside or not outside:
        return
    names = {
        "model_a": f"{family} transformer",
        "model_b": f"{family} CNN",
        "family": family,
        "across": "",
        "pairs": len(inside),
    }
    less = f"{family} transformer · {other} transformer"
    value, against = (average([pair.same.mean() for pair in side]) for side in (inside, outside))
    yield names | _pairs.contrast("objective", value, (less, against))
    steps = [[binned(pair) for pair in side] for side in (inside, outside)]
    shared = sorted(set.intersection(*(set(each) for side in steps for each in side)))
    near, far = (
        Sampled.stack([average([each[step][0] for each in side]) for step in shared])
        for side in steps
    )
    low, high = (near - far).together()
    for k, step in enumerate(shared):
        point = _pairs.contrast("objective at a distance", near[k]) | {"distance": step * STEP}
        difference = float((near - far).value[k])
        yield (
            names
            | point
            | _pairs.differing(less, difference, float(low[k]), float(high[k]), len(shared))
        )


def draw(table: Table) -> Figure:
    """A panel a family that has a CNN, with its curves and those across families; else one panel of
    all pairs."""
    frame = table.frame
    curves = frame[frame.row == "curve"]
    known = list(dict.fromkeys(frame[frame.row == "objective"].family))
    panels = [
        _panel(frame, _about(curves, family), f"{family} across architectures") for family in known
    ]
    return _panels.figure(
        "cka-distance", [panels or [_panel(frame, curves, "All pairs of models")]]
    )


def _about(curves: pd.DataFrame, family: str) -> pd.DataFrame:
    """The curves of a family across architectures, and of transformers across families."""
    return curves[
        ((curves.across == "architectures") & (curves.family == family))
        | (curves.across == "families")
    ]


def _panel(frame: pd.DataFrame, curves: pd.DataFrame, title: str) -> Lines:
    lines = [
        _line(points, f"{a} · {b}")
        for (a, b), points in curves.groupby(["model_a", "model_b"], sort=False)
    ]
    control = frame[frame.row == "control"]
    if len(control):
        lines.append(
            _line(control, f"{control.model_a.iloc[0]} · {control.model_b.iloc[0]}", control=True)
        )
    return Lines(title, "distance of relative depths", "CKA", tuple(lines), (-0.1, 1.05))


def _line(points: pd.DataFrame, name: str, *, control: bool = False) -> Line:
    x, y, low, high = (
        points[column].to_numpy(float) for column in ("distance", "cka", "low", "high")
    )
    return Line(name, x, y, low, high, control=control)


def findings(table: Table) -> tuple[str, ...]:
    """Whether the objective or the architecture decides, for each family; else how far the blocks
    of two models reach."""
    frame = table.frame
    said = [_objective(frame, row) for row in frame[frame.row == "objective"].itertuples()]
    return tuple(said) if said else tuple(_reach(frame))


def _objective(frame: pd.DataFrame, row: Any) -> str:
    of = _about(frame[frame.row == "curve"], row.family)
    names = _roles.listed(list(dict.fromkeys([*of.model_a, *of.model_b])))
    said = (
        f"{row.family} ({names}): transformer and CNN have a mean CKA at the same depth of"
        f" {_pairs.spelt(row)}"
    )
    sign = _pairs.verdict(row)
    other = row.less.replace(" · ", " and ")
    if not sign:
        return f"{said}; against {other} {_pairs.unsure(row)}."
    side = "more" if sign > 0 else "less"
    decides = (
        "objective decides more than the architecture"
        if sign > 0
        else "architecture decides more than the objective"
    )
    points = frame[(frame.row == "objective at a distance") & (frame.family == row.family)]
    clear = points[points.difference_low > 0]
    said = f"{said}, {side} than {other} ({_pairs.spelt_difference(row)}): the {decides}"
    return f"{said}; it is higher at {len(clear)} of {len(points)} distances."


def _reach(frame: pd.DataFrame) -> Iterator[str]:
    for (a, b), points in itertools.islice(
        frame[frame.row == "curve"].groupby(["model_a", "model_b"], sort=False), CURVES
    ):
        defined = points[points.cka.notna()]
        if len(defined) > 1:
            near, far = defined.iloc[0], defined.iloc[-1]
            yield (
                f"{a} and {b}: CKA {_pairs.spelt(near)} between blocks of about the same relative"
                f" depth, {_pairs.spelt(far)} at a distance of {far.distance:.1f}."
            )
