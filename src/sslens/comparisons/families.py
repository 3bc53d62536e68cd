"""CKA within the family of joint-embedding models (JE) less CKA of JE with reconstruction (REC)."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from sslens.comparisons import trainings
from sslens.comparisons.contrasts import BETWEEN, MEAN, PairContrast, estimate_value
from sslens.comparisons.inputs import Models
from sslens.comparisons.pairs import (
    THERE,
    Pair,
    Pairs,
    Row,
    make_cka_columns,
    make_difference_columns,
)
from sslens.comparisons.pairs import UNITS as CKA_UNITS
from sslens.comparisons.roles import JE, REC, is_cnn, list_names, list_pretrained
from sslens.comparisons.trainings import Sides
from sslens.statistics.sampled import Sampled, average

#: the columns that say of which families and taps a row is
FAMILIES = ("model_a", "model_b", "pairs", "members", "tokens", "kind")
#: the columns of the tables of families: the mean CKA at the same depth, over all pairs of taps and
#: at each depth (whose intervals hold at once); of two trainings of one objective less that of the
#: families that have it; and which models the families have
TABLES: Mapping[str, tuple[str, ...]] = {
    "families": (*FAMILIES, *MEAN, "minibatches"),
    "families-all-pairs": (*FAMILIES, *BETWEEN, *THERE, "minibatches"),
    "families-by-depth": (*FAMILIES, "depth", *BETWEEN, "together", "minibatches"),
    "families-ceilings": (*FAMILIES, *BETWEEN, "depths", "minibatches"),
    "family-members": ("family", "model", "objective"),
}
UNITS = {
    **CKA_UNITS,
    **trainings.UNITS,
    "family": "JE: joint embedding; REC: reconstruction",
    "model": "its name",
    "objective": "its objective; empty if it is not known",
}


def list_families(models: Models) -> tuple[list[str], list[str]]:
    """The pre-trained JE models and the pre-trained REC models under study.

    CNNs are left out: between a CNN and a transformer the architecture may make the difference. If
    a study names groups of models, a group of CNNs alone is compared too. Of models with the same
    weights only the first one counts, and of states of one training only the last.
    """
    je, rec = (
        trainings.count_trainings_once(models, _list_comparable(models, family))
        for family in (JE, REC)
    )
    return je, rec


def _list_comparable(models: Models, family: str) -> list[str]:
    """The pre-trained models of a family that are no CNNs; all of them in a group of CNNs."""
    own = list_pretrained(models, models.studied, family)
    transformers = [name for name in own if not is_cnn(models.about(name))]
    return own if models.grouped and not transformers else transformers


def find_pairs(models: Models, pairs: Pairs) -> tuple[list[Pair], list[Pair]]:
    """List the compared pairs of two JE models of different objectives, and the compared pairs of a
    JE and a REC model.

    Two trainings of one objective are no pair of JE models: how alike they are is the ceiling.
    """
    je, rec = list_families(models)
    return find_within(models, pairs, je), pairs.find_all(je, rec)


def find_within(models: Models, pairs: Pairs, names: Sequence[str]) -> list[Pair]:
    """List the compared pairs of models that have different objectives."""
    found = [pairs.find(a, b) for a, b in trainings.list_across_objectives(models, names)]
    return [pair for pair in found if pair]


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
        for name in names:
            objective = models.about(name).objective or ""
            yield "family-members", {"family": family, "model": name, "objective": objective}


def compare_cka_of_families(models: Models, pairs: Pairs) -> Iterator[tuple[str, Row]]:
    """Compare the CKA of JE models with each other with the CKA of JE and REC models.

    The table `families` has means over taps at the same depth, `families-all-pairs` means over all
    pairs of taps, and `families-by-depth` the CKA at each depth with simultaneous intervals. Each
    difference has an interval over images, and one over images and trainings if every objective
    has two trainings or more. `families-ceilings` has the CKA of two trainings of one objective of
    the same families.

    Yields:
        Rows, each after the name of its table; none if there are not at least two JE objectives
        and one REC model.
    """
    je, rec = list_families(models)
    sides = {JE: je, REC: rec}
    within, across = find_pairs(models, pairs)
    members = describe_members(models)
    own = name_families(pairs, JE, JE, len(within), members)
    other = name_families(pairs, JE, REC, len(across), members)
    if not within or not across:
        return
    grid = max((pair.depths for pair in within + across), key=len)

    def choose(chosen: Sides) -> tuple[list[Pair], list[Pair]]:
        return find_within(models, pairs, chosen[JE]), pairs.find_all(chosen[JE], chosen[REC])

    against = f"{JE} · {REC}"
    same = PairContrast.of(models, sides, choose, lambda pair: pair.at(grid))
    every = PairContrast.of(models, sides, choose, lambda pair: pair.cells.mean())
    for table, contrast in (("families", same), ("families-all-pairs", every)):
        yield table, own | contrast.row(against)
        yield table, other | make_cka_columns(contrast.means()[1])  # type: ignore[arg-type]
    for depth, row in zip(grid, same.rows(against), strict=True):
        yield "families-by-depth", own | {"depth": depth} | row
    for k, depth in enumerate(grid):
        outside = make_cka_columns(same.outside[k])  # type: ignore[index]
        yield "families-by-depth", other | {"depth": depth} | outside
    yield from _compare_ceilings(models, pairs, same, grid)


def _compare_ceilings(
    models: Models, pairs: Pairs, families: PairContrast, grid: np.ndarray
) -> Iterator[tuple[str, Row]]:
    """Subtract the CKA of the families from the CKA of two trainings of their own objectives: JE
    with JE from trainings of JE alone, and JE with REC from those of both families, each family
    with the same weight, or of the one that has any.

    There is no row if no objective of these has two trainings.
    """
    seconds = {}
    for family, names in zip((JE, REC), list_families(models), strict=True):
        groups = trainings.group_by_objective(models, names).values()
        found = [pairs.find(a, b) for group in groups for a, b in itertools.combinations(group, 2)]
        seconds[family] = [pair for pair in found if pair]
    for other, value in ((JE, families.inside), (REC, families.outside)):
        known = [seconds[family] for family in dict.fromkeys((JE, other)) if seconds[family]]
        if value is None or not known:
            continue
        ceiling = average(
            [
                trainings.average_over_objectives(
                    models, {(pair.a, pair.b): pair.at(grid) for pair in group}, average
                )
                for group in known
            ]
        )
        among = [pair for group in known for pair in group]
        objectives = dict.fromkeys(trainings.name_objective(models, pair.a) for pair in among)
        members = "; ".join(pair.name for pair in among)
        columns = name_families(
            pairs, list_names([*objectives]), "another training", len(among), members
        )
        fine = np.asarray(np.isfinite((ceiling - value).value))
        estimate = estimate_value((ceiling - value).mean())
        row = make_difference_columns(
            f"{JE} · {other}", estimate.value, estimate.low, estimate.high
        )
        row |= make_cka_columns(ceiling.where(fine).mean()) | {"depths": int(fine.sum())}
        yield "families-ceilings", columns | row


def average_same(pairs: Sequence[Pair]) -> Sampled:
    """The mean CKA at the same depth, averaged over pairs of models."""
    return average([pair.same.mean() for pair in pairs])
