"""CKA within the family of joint-embedding models (JE) less CKA of JE with reconstruction (REC)."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from sslens.comparisons.inputs import Models
from sslens.comparisons.pairs import (
    CKA,
    DIFFERENCE,
    Pair,
    Pairs,
    Row,
    make_cka_columns,
    make_contrast_columns,
    make_difference_columns,
)
from sslens.comparisons.pairs import UNITS as CKA_UNITS
from sslens.comparisons.roles import JE, REC, find_twins, is_cnn, list_names, list_pretrained
from sslens.statistics.sampled import Sampled, average

#: the columns that say of which families and taps a row is
FAMILIES = ("model_a", "model_b", "pairs", "members", "tokens", "kind")
#: the columns of the tables of families: the mean CKA at the same depth, over all pairs of taps and
#: at each depth (whose intervals hold at once), that of the pairs of random initialisations of the
#: same architectures, and which models the families have
TABLES: Mapping[str, tuple[str, ...]] = {
    "families": (*FAMILIES, *CKA, *DIFFERENCE, "minibatches"),
    "families-all-pairs": (*FAMILIES, *CKA, *DIFFERENCE, "minibatches"),
    "families-by-depth": (*FAMILIES, "depth", *CKA, *DIFFERENCE, "together", "minibatches"),
    "families-controls": (*FAMILIES, *CKA, *DIFFERENCE, "minibatches"),
    "family-members": ("family", "model"),
}
UNITS = CKA_UNITS | {"family": "JE: joint embedding; REC: reconstruction", "model": "its name"}


def list_families(models: Models) -> tuple[list[str], list[str]]:
    """The pre-trained JE models and the pre-trained REC models under study.

    CNNs are left out: between a CNN and a transformer the architecture may make the difference.
    """
    same = [name for name in models.studied if not is_cnn(models.about(name))]
    return list_pretrained(models, same, JE), list_pretrained(models, same, REC)


def find_pairs(models: Models, pairs: Pairs) -> tuple[list[Pair], list[Pair]]:
    """List the compared pairs of two JE models, and the compared pairs of a JE and a REC model."""
    je, rec = list_families(models)
    within = [pairs.find(a, b) for a, b in itertools.combinations(je, 2)]
    return [pair for pair in within if pair], pairs.find_all(je, rec)


def name_families(pairs: Pairs, a: str, b: str, count: int, members: str) -> Row:
    """Make the columns `FAMILIES` of a row.

    Args:
        pairs: the compared pairs; their `tokens` and `kind` go into the row.
        a: the first family, "JE" or "REC".
        b: the second family.
        count: number of pairs of models that are averaged.
        members: the names of both families' models, in words.
    """
    names = {"model_a": a, "model_b": b, "pairs": count, "members": members}
    return names | {"tokens": pairs.tokens, "kind": pairs.kind}


def describe_members(models: Models) -> str:
    """Name the models of both families in one text, such as "JE: dino and msn; REC: mae"."""
    sides = zip((JE, REC), list_families(models), strict=True)
    return "; ".join(f"{family}: {list_names(names)}" for family, names in sides if names)


def list_members(models: Models) -> Iterator[tuple[str, Row]]:
    """Make the rows of the table `family-members`: one row per model, with its family."""
    for family, names in zip((JE, REC), list_families(models), strict=True):
        yield from (("family-members", {"family": family, "model": name}) for name in names)


def compare_cka_of_families(models: Models, pairs: Pairs) -> Iterator[tuple[str, Row]]:
    """Compare the CKA of JE models with each other with the CKA of JE and REC models.

    The table `families` has means over taps at the same depth, `families-all-pairs` means over all
    pairs of taps, and `families-by-depth` the CKA at each depth with simultaneous intervals.
    `families-controls` has the same difference between random initialisations of the models'
    architectures.

    Yields:
        Rows, each after the name of its table; none if there are not at least two JE models and
        one REC model.
    """
    within, across = find_pairs(models, pairs)
    if not within or not across:
        return
    members = describe_members(models)
    own = name_families(pairs, JE, JE, len(within), members)
    other = name_families(pairs, JE, REC, len(across), members)
    against = f"{JE} · {REC}"
    for table, inside, outside in (
        ("families", average_same(within), average_same(across)),
        ("families-all-pairs", _average_cells(within), _average_cells(across)),
    ):
        yield (
            table,
            own | make_cka_columns(inside) | make_contrast_columns(inside, against, outside),
        )
        yield table, other | make_cka_columns(outside)
    controls = [_find_controls(models, pairs, side) for side in (within, across)]
    if all(controls):
        inside, outside = (average_same(side) for side in controls)
        less = f"random initialisations of {against}"
        yield (
            "families-controls",
            own | make_cka_columns(inside) | make_contrast_columns(inside, less, outside),
        )
    grid = max((pair.depths for pair in within + across), key=len)
    inside, outside = (average([pair.at(grid) for pair in side]) for side in (within, across))
    for row, difference in zip(
        _list_points(inside, grid), _list_differences(inside - outside, against), strict=True
    ):
        yield "families-by-depth", own | row | difference
    for row in _list_points(outside, grid):
        yield "families-by-depth", other | row


def average_same(pairs: Sequence[Pair]) -> Sampled:
    """The mean CKA at the same depth, averaged over pairs of models."""
    return average([pair.same.mean() for pair in pairs])


def _average_cells(pairs: Sequence[Pair]) -> Sampled:
    """The mean CKA over all pairs of taps, averaged over pairs of models."""
    return average([pair.cells.mean() for pair in pairs])


def _find_controls(models: Models, pairs: Pairs, side: Sequence[Pair]) -> list[Pair]:
    """Find, for each pair of models, the pair of random initialisations of their architectures.

    The list is empty if this pair is missing for any of the models.
    """
    twins = [find_twins(models, pair.a, pair.b) for pair in side]
    controls = [pairs.find(*names) for names in twins if names]
    present = [pair for pair in controls if pair]
    return present if len(present) == len(side) else []


def _list_points(value: Sampled, depths: np.ndarray) -> Iterator[Row]:
    """The columns of CKA at each depth."""
    for k, depth in enumerate(depths):
        yield {"depth": depth} | make_cka_columns(value[k])


def _list_differences(difference: Sampled, less: str) -> Iterator[Row]:
    """The columns of a difference at each depth; the intervals hold at once."""
    low, high = difference.simultaneous_interval()
    together = int(np.isfinite(difference.value).sum())
    for k, value in enumerate(difference.value):
        ends = float(low[k]), float(high[k])
        yield make_difference_columns(less, float(value), *ends) | {"together": together}
