"""Blocks of correspondence: the first quarter of one family's depths against both halves of
another's (section 2.1 of Shekhar et al., 2022; claim C18)."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from sslens.comparisons import trainings
from sslens.comparisons.contrasts import BETWEEN, PairContrast
from sslens.comparisons.families import (
    FAMILIES,
    describe_members,
    find_pairs,
    find_within,
    list_families,
    name_families,
)
from sslens.comparisons.inputs import Models
from sslens.comparisons.pairs import THERE, Pair, Pairs, Row, make_cka_columns
from sslens.comparisons.roles import JE, REC
from sslens.comparisons.trainings import Sides
from sslens.statistics.sampled import Sampled, average

TABLES: Mapping[str, tuple[str, ...]] = {
    "families-quarters": (*FAMILIES, *BETWEEN, *THERE, "minibatches")
}
#: what the CKA with the first half is held against
LESS = "with the second half"


def compare_quarters(models: Models, pairs: Pairs) -> Iterator[tuple[str, Row]]:
    """Compare the first quarter of REC models with both halves of JE models.

    The row of JE with JE is a control: the first quarter of any model may be more like the first
    half of another than like its second half, because near depths are alike.

    Yields:
        Rows of the table `families-quarters`, each after its name.
    """
    je, rec = list_families(models)
    within, across = find_pairs(models, pairs)

    def choose_across(sides: Sides) -> tuple[list[Pair], list[Pair]]:
        return pairs.find_all(sides[JE], sides[REC]), []

    def choose_within(sides: Sides) -> tuple[list[Pair], list[Pair]]:
        return find_within(models, pairs, sides[JE]), []

    for family, firsts, chosen, sides, choose in (
        (REC, rec, across, {JE: je, REC: rec}, choose_across),
        (JE, je, within, {JE: je}, choose_within),
    ):
        if not chosen:
            continue
        halves = {(pair.a, pair.b): average_halves(pair, firsts) for pair in chosen}
        contrast = PairContrast.of(models, sides, choose, partial(_subtract_halves, firsts))
        near = {names: half[0] for names, half in halves.items()}
        names = name_families(
            pairs,
            f"{family}, first quarter",
            f"{JE}, first half",
            len(chosen),
            describe_members(models),
        )
        first = trainings.average_over_objectives(models, near, average)
        yield "families-quarters", names | contrast.row(LESS) | make_cka_columns(first)


def _subtract_halves(firsts: Sequence[str], pair: Pair) -> Sampled:
    near, far = average_halves(pair, firsts)
    return near - far


def average_halves(pair: Pair, firsts: Sequence[str]) -> tuple[Sampled, Sampled]:
    """Average the CKA of the first quarter of one model with each half of the other one.

    The quarter has the taps up to a relative depth of 0.25, and at least one; the halves divide at
    0.5.

    Args:
        pair: two models; if both are in `firsts`, the means are over both orders.
        firsts: names of the models that give the quarter.

    Returns:
        The mean with the first half, and the mean with the second half.
    """
    a, b = (np.array([tap.depth for tap in taps]) for taps in pair.taps)
    orders = [(a, b, False)] if pair.a in firsts else []
    orders += [(b, a, True)] if pair.b in firsts else []
    means = []
    for own, other, turned in orders:
        early = own <= max(0.25, own.min())
        masks = (early[:, None] & half[None] for half in (other <= 0.5, other > 0.5))
        means.append([pair.cells[(m.T if turned else m).ravel()].mean() for m in masks])
    near, far = (average(list(side)) for side in zip(*means, strict=True))
    return near, far
