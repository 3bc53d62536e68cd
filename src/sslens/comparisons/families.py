"""Families of objectives held against each other: joint embedding (JE) with itself and with
reconstruction (REC)."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from sslens.comparisons import pairs as _pairs
from sslens.comparisons import roles as _roles
from sslens.comparisons.inputs import Inputs
from sslens.comparisons.pairs import MEAN, Pair, Pairs, find
from sslens.comparisons.roles import JE, REC
from sslens.statistics.sampled import average


def both(inputs: Inputs) -> tuple[list[str], list[str]]:
    """The pre-trained JE and REC models; without CNNs, for what these differ in may be the
    architecture."""
    same = [name for name in inputs.models if not _roles.is_cnn(inputs.about[name])]
    return _roles.untuned(inputs.about, same, JE), _roles.untuned(inputs.about, same, REC)


def of(inputs: Inputs, pairs: Pairs) -> tuple[list[Pair], list[Pair]]:
    """The pairs of two JE models, and those of a JE and a REC model."""
    je, rec = both(inputs)
    within = [find(pairs, a, b) for a, b in itertools.combinations(je, 2)]
    across = [find(pairs, a, b) for a, b in itertools.product(je, rec)]
    return [pair for pair in within if pair], [pair for pair in across if pair]


def names(tokens: str, kind: str, a: str, b: str, count: int, members: str) -> dict[str, Any]:
    """The columns that say of which families and taps a row is."""
    known = {"model_a": a, "model_b": b, "pairs": count, "members": members}
    return known | {"control": False, "tokens": tokens, "kind": kind}


def members(inputs: Inputs) -> str:
    """The models of both families, for a table and a sentence."""
    sides = zip((JE, REC), both(inputs), strict=True)
    return "; ".join(f"{family}: {_roles.listed(names)}" for family, names in sides if names)


def rows(inputs: Inputs, pairs: Pairs, tokens: str, kind: str) -> Iterator[dict[str, Any]]:
    """JE with JE less JE with REC: at the same depth, over all pairs of taps, and at each depth
    (these hold at once)."""
    within, across = of(inputs, pairs)
    if not within or not across:
        return
    known = members(inputs)
    own, other = (
        names(tokens, kind, JE, JE, len(within), known),
        names(tokens, kind, JE, REC, len(across), known),
    )
    against = f"{JE} · {REC}"
    for row, (inside, outside) in {
        "families": [average([pair.same.mean() for pair in side]) for side in (within, across)],
        "families, all pairs of taps": [
            average([pair.cells.mean() for pair in side]) for side in (within, across)
        ],
    }.items():
        yield own | _pairs.contrast(row, inside, (against, outside))
        yield other | _pairs.contrast(row, outside)
    grid = max((pair.depths for pair in within + across), key=len)
    inside, outside = (average([pair.at(grid) for pair in side]) for side in (within, across))
    difference = inside - outside
    low, high = difference.together()
    together = int(np.isfinite(difference.value).sum())
    for side, who, apart in ((inside, own, True), (outside, other, False)):
        ends = side.interval()
        for k, depth in enumerate(grid):
            point = {
                "row": "families at a depth",
                "tap_a": MEAN,
                "tap_b": MEAN,
                "depth_a": depth,
                "depth_b": depth,
            }
            point |= {
                "cka": side.value[k],
                "low": ends[0][k],
                "high": ends[1][k],
                "minibatches": side.batches,
            }
            less = (
                _pairs.differing(against, difference.value[k], low[k], high[k], together)
                if apart
                else {}
            )
            yield who | point | less


def findings(frame: pd.DataFrame, tokens: str, kind: str) -> str | None:
    """Whether JE models are more alike than JE and REC are, and from which depth on; None where
    there are no families."""
    here = frame[(frame.tokens == tokens) & (frame.kind == kind) & (frame.model_a == JE)]
    mean = here[here.row == "families"].set_index("model_b")
    if mean.empty or pd.isna(mean.cka).any():
        return None
    own, other = mean.loc[JE], mean.loc[REC]
    where = _roles.TOKENS[tokens]
    numbers = (
        f"mean CKA at the same depth {_pairs.spelt(own)} {where}, {JE} with {REC}"
        f" {_pairs.spelt(other)}"
    )
    sign = _pairs.verdict(own)
    said = f"{JE} models with each other ({own.members}): {numbers}"
    if not sign:
        return f"{said}; the difference is {_pairs.unsure(own)}."
    side = "more alike" if sign > 0 else "less alike"
    said += f"; they are {side} to each other than to {REC} ({_pairs.spelt_difference(own)})"
    if sign > 0:
        points = here[(here.row == "families at a depth") & (here.model_b == JE)].sort_values(
            "depth_a"
        )
        parted = points[points.difference_low > 0]
        if len(parted):
            first = parted.iloc[0]
            said += (
                f", from relative depth {first.depth_a:.2f} on ({_pairs.spelt_difference(first)}"
                " there)"
            )
    return said + "."
