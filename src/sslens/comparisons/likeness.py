"""How alike the models of a study are, pair by pair, and which models are more like each other than
like any other."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import pandas as pd
from jaxtyping import Float64

from sslens.comparisons.pairs import read_cka, select_pair
from sslens.comparisons.panels import list_tokens_in
from sslens.statistics.estimate import SMALLEST, Estimate, subtract_unpaired
from sslens.table import Results

#: CKA below which two models are called not alike: that of unrelated features is 0
LOW = 0.1


@final
@dataclass(frozen=True)
class Likeness:
    """The mean CKA of two models at the same depth.

    Attributes:
        a: name of the first model.
        b: name of the second model.
        control: whether a control is among the two.
        value: the CKA; with the raw pixels regressed out if `beyond`.
        plain: the CKA without regressing anything out.
        beyond: whether the raw pixels are regressed out, which is defined where they leave at
            least 5 % of a layer.
        depths: at how many depths they are, of how many; None where it is all of them.
        there: the mean of the plain CKA at these depths; `plain` is at all.
    """

    a: str
    b: str
    control: bool
    value: Estimate
    plain: Estimate
    beyond: bool
    depths: tuple[int, int] | None = None
    there: float = np.nan


@final
@dataclass(frozen=True)
class Group:
    """Models that are more like each other than like any other model.

    Attributes:
        members: their names, two or more.
        weakest: the two of them that are least alike, by the value of their CKA.
        nearest: a member and a model that is none, the two that are most alike, by the value.
        gap: the CKA of the two members with the lowest end of an interval, less that of the member
            and the other model with the highest; above 0, so that no two intervals overlap.
    """

    members: tuple[str, ...]
    weakest: Likeness
    nearest: Likeness
    gap: Estimate

    @property
    def settled(self) -> bool:
        """Whether another draw of the minibatches would find the group too, in 97.5 % of cases.

        The gap g has the half-width h = h₁ + h₂, the sum of those of two intervals, which is √2 ·
        1.96 s where both are as wide, with the gap's standard error s. The gap of a second draw of
        as many minibatches differs from g by √2 s, and is seen if it is above h. So g must be
        h + 1.96 · √2 s = 2 h or more. `runs/alike.py` holds that against draws of real Grams.
        """
        return self.gap.low >= self.gap.value - self.gap.low


def read_likenesses(blocks: Results, kind: str = "block") -> tuple[Likeness, ...]:
    """Read the table `means` of an exhibit of pairs, for the first choice of tokens that it has.

    Pairs without a defined CKA, and pairs of a model with itself, are left out.
    """
    rows = blocks["means"]
    tokens = list_tokens_in(rows)
    if not tokens:
        return ()
    rows = rows[(rows.tokens == tokens[0]) & (rows.kind == kind) & (rows.model_a != rows.model_b)]
    pairs = []
    for row in rows.to_dict("records"):
        if pd.isna(row["cka"]):
            continue
        beyond, plain = pd.notna(row.get("deconfounded")), read_cka(row)
        value = read_cka(row, "deconfounded") if beyond else plain
        names = str(row["model_a"]), str(row["model_b"])
        one = Likeness(*names, bool(row["control"]), value, plain, bool(beyond))
        pairs.append(_add_depths(one, blocks, tokens[0], kind))
    return tuple(pairs)


def _add_depths(one: Likeness, blocks: Results, tokens: str, kind: str) -> Likeness:
    """Say at which depths the raw pixels are regressed out, where these are not all."""
    if not one.beyond or "same-depth" not in blocks:
        return one
    rows = select_pair(blocks["same-depth"], one.a, one.b, tokens)
    rows = rows[(rows.kind == kind) & rows.cka.notna()]
    left = rows[rows.deconfounded.notna()]
    if len(left) == len(rows):
        return one
    return replace(one, depths=(len(left), len(rows)), there=float(left.cka.mean()))


def is_unlike(cka: Estimate) -> bool:
    """Whether two models are not alike: the whole interval of their CKA lies below `LOW`. An
    interval over too few minibatches decides nothing, and no more does a CKA without an interval.

    >>> is_unlike(Estimate(-0.01, -0.07, 0.05, "minibatches", 12)), is_unlike(Estimate(0.3))
    (True, False)
    >>> is_unlike(Estimate(-0.08, -0.08, -0.07, "minibatches", 2))
    False
    """
    few = cka.n and cka.sign is None  # of older tables the number is not known
    return not few and bool(cka.high < LOW)


def compare_alike(pairs: Sequence[Likeness]) -> tuple[Likeness, ...]:
    """Give all pairs one kind of CKA: with the pixels regressed out if that is defined for all of
    them, else plain."""
    if all(pair.beyond for pair in pairs):
        return tuple(pairs)
    return tuple(replace(pair, value=pair.plain, beyond=False, depths=None) for pair in pairs)


def find_groups(pairs: Sequence[Likeness]) -> tuple[Group, ...]:
    """Find the models that are more like each other than like any other.

    A group is a set of models of which any two are more alike than any member and any other model,
    by intervals that do not overlap and by 0.02 or more (the strong clusters of Apresjan, 1966).
    Two such sets are disjoint, or one holds the other; the largest are returned. Every one is a
    cluster of single linkage, so that only these are tried.

    Args:
        pairs: all pairs of the models, by one kind of CKA.
    """
    names = list(dict.fromkeys(name for pair in pairs for name in (pair.a, pair.b)))
    found: list[Group] = []
    for members in _link(pairs, names):
        inside = [pair for pair in pairs if pair.a in members and pair.b in members]
        across = [pair for pair in pairs if (pair.a in members) != (pair.b in members)]
        if not inside or not across:
            continue
        lowest = min(inside, key=lambda pair: pair.value.low)
        highest = max(across, key=lambda pair: pair.value.high)
        gap = subtract_unpaired(lowest.value, highest.value)
        if gap.find_side(SMALLEST["cka"]) == "more":
            weakest = min(inside, key=lambda pair: pair.value.value)
            nearest = max(across, key=lambda pair: pair.value.value)
            ordered = tuple(name for name in names if name in members)
            found = [one for one in found if not set(one.members) <= members]
            found.append(Group(ordered, weakest, nearest, gap))
    return tuple(sorted(found, key=lambda one: names.index(one.members[0])))


def _link(pairs: Sequence[Likeness], names: Sequence[str]) -> list[set[str]]:
    """The clusters of single linkage, the smaller ones first."""
    cluster = {name: {name} for name in names}
    clusters = []
    for pair in sorted(pairs, key=lambda pair: -pair.value.value):
        one, other = cluster[pair.a], cluster[pair.b]
        if one is not other:
            both = one | other
            clusters.append(both)
            cluster |= dict.fromkeys(both, both)
    return clusters


def make_dissimilarities(
    pairs: Sequence[Likeness], names: Sequence[str]
) -> Float64[np.ndarray, "model model"]:
    """Return 1 − CKA of each two models, at least 0; nan where it is not known.

    >>> one = Likeness("a", "b", False, Estimate(0.75), Estimate(0.9), True)
    >>> make_dissimilarities([one], ["a", "b", "c"]).tolist()
    [[0.0, 0.25, nan], [0.25, 0.0, nan], [nan, nan, 0.0]]
    """
    place = {name: number for number, name in enumerate(names)}
    apart = np.full((len(names), len(names)), np.nan)
    np.fill_diagonal(apart, 0.0)
    for pair in pairs:
        if pair.a in place and pair.b in place:
            i, j = place[pair.a], place[pair.b]
            apart[i, j] = apart[j, i] = max(0.0, 1 - pair.value.value)
    return apart


def list_placed(pairs: Sequence[Likeness], names: Sequence[str]) -> list[str]:
    """List the models of which the likeness to some other model is known, in the order of
    `names`."""
    known = set(itertools.chain.from_iterable((pair.a, pair.b) for pair in pairs))
    return [name for name in names if name in known]
