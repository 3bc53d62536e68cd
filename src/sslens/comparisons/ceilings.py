"""The ceiling of similarity: how alike two trainings of one objective are.

Two trainings that differ in their seed alone learn the same as far as the objective decides it. No
two models of different objectives can be expected to be more alike.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from sslens.comparisons.inputs import Models
from sslens.comparisons.pairs import (
    CKA,
    DECONFOUNDED,
    DECONFOUNDED_DIFFERENCE,
    DIFFERENCE,
    PAIR,
    Pair,
    Pairs,
    Row,
    make_cka_columns,
    make_contrast_columns,
    make_pair_columns,
)
from sslens.comparisons.roles import is_tuned

#: `ceilings` has two trainings of one objective, and `below-ceilings` two models of different
#: objectives less two trainings of the objective of one of them; means at the same depth
TABLES = {
    "ceilings": ("objective", *PAIR, *CKA, *DECONFOUNDED, "left", "minibatches"),
    "below-ceilings": (
        "objective",
        *PAIR,
        *CKA,
        *DIFFERENCE,
        *DECONFOUNDED,
        *DECONFOUNDED_DIFFERENCE,
        "minibatches",
    ),
}
UNITS = {"objective": "the objective that two trainings share"}


class Ceiling(NamedTuple):
    """Two trainings of one objective.

    Attributes:
        objective: the name of the objective.
        a: the name of the first model.
        b: the name of the second model.
    """

    objective: str
    a: str
    b: str


def list_ceilings(models: Models) -> list[Ceiling]:
    """List all two models under study that are trainings of one objective with other random
    numbers.

    They have one objective and one architecture, other weights, and are not fine-tuned; where both
    say the settings of their training, these are the same. Two networks of one file, such as
    student and teacher, two states of a training, and two models of one seed are no two trainings.

    >>> from sslens.comparisons.inputs import ModelInfo
    >>> from sslens.models.about import About
    >>> mae = About("REC", "mae", "vit")
    >>> seeds = [ModelInfo(f"mae{seed}", about=mae, digest=seed) for seed in "01"]
    >>> other = ModelInfo("wide", about=About("REC", "mae", "vit large"), digest="2")
    >>> list_ceilings(Models((*seeds, other)))
    [Ceiling(objective='mae', a='mae0', b='mae1')]
    >>> later = ModelInfo("later", about=About("REC", "mae", "vit", step=60), digest="2")
    >>> sooner = ModelInfo("sooner", about=About("REC", "mae", "vit", step=30), digest="3")
    >>> list_ceilings(Models((sooner, later)))
    []
    """
    names = [name for name in models.studied if models.about(name).objective]
    return [
        Ceiling(str(models.about(a).objective), a, b)
        for a, b in itertools.combinations(names, 2)
        if _is_ceiling(models, a, b)
    ]


def _is_ceiling(models: Models, a: str, b: str) -> bool:
    one, other = models.about(a), models.about(b)
    recipes = {about.recipe for about in (one, other) if about.recipe}
    digests = models[a].digest, models[b].digest
    return (
        (one.objective, one.arch) == (other.objective, other.arch)
        and not is_tuned(one)
        and not is_tuned(other)
        and len(recipes) < 2
        and (one.branch, one.step, one.epochs) == (other.branch, other.step, other.epochs)
        and (one.seed is None or one.seed != other.seed)
        and (None in digests or digests[0] != digests[1])
        and not models.are_one_training(a, b)
    )


def list_rows(models: Models, compared: Pairs) -> Iterator[tuple[str, Row]]:
    """Make the rows of the tables `ceilings` and `below-ceilings`, each after the name of its
    table; none where no objective has two trainings among the models."""
    ceilings = [(one, compared.find(one.a, one.b)) for one in list_ceilings(models)]
    present = [(one, pair) for one, pair in ceilings if pair is not None]
    for one, pair in present:
        row = (
            make_pair_columns(compared, pair)
            | {"objective": one.objective}
            | make_cka_columns(pair.same.mean())
        )
        if pair.left is not None:
            row["left"] = float(pair.left[pair.same_cells].mean())
        yield "ceilings", row
    for pair in compared:
        for one, ceiling in present:
            if _is_below(models, pair, one.objective):
                value = pair.same.mean()
                row = (
                    make_pair_columns(compared, pair)
                    | {"objective": one.objective}
                    | make_cka_columns(value)
                )
                contrast = make_contrast_columns(value, ceiling.name, ceiling.same.mean())
                yield "below-ceilings", row | contrast


def _is_below(models: Models, pair: Pair, objective: str) -> bool:
    """Whether a pair is of two pre-trained objectives, one of which is this one."""
    if pair.control or any(is_tuned(models.about(name)) for name in (pair.a, pair.b)):
        return False
    both = [models.about(name).objective for name in (pair.a, pair.b)]
    return both[0] != both[1] and objective in both
