"""Whether fine-tuning brings models together: the CKA of two models after it less that before."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

from sslens.comparisons.inputs import Models
from sslens.comparisons.likeness import Likeness, compare_alike, read_likenesses
from sslens.comparisons.majorities import Majority, PairChange, find_majority
from sslens.comparisons.roles import is_tuned
from sslens.comparisons.tuned import is_control, list_controls, match_origins
from sslens.statistics.estimate import subtract_unpaired
from sslens.table import Results

#: the CKA of two models, by their names in either order
Values = Mapping[frozenset[str], Likeness]


def compare_together(models: Models, results: Results) -> Majority | None:
    """Compare models after fine-tuning with the same models before, by the table `means` of
    cka-finetune.

    Two models that were both fine-tuned are compared after and before; where only one was, it is
    compared with every model that was only pre-trained. The control is the CKA of the second model
    with a random initialisation that was fine-tuned by the same recipe as the first.

    Args:
        models: the models and the controls.
        results: the results of cka-finetune.

    Returns:
        The side is "more" if most pairs are more alike after fine-tuning than before; None where no
        model is there before and after with another one.
    """
    pairs = compare_alike(read_likenesses(results))
    values = {frozenset((pair.a, pair.b)): pair for pair in pairs}
    before = {
        name: first
        for name, first in match_origins(models).items()
        if not is_control(models.about(name)) and not models.is_control(name)
    }
    changes = list(_list_changes(models, before, values))
    if not changes:
        return None
    return find_majority(changes, beyond=bool(pairs) and pairs[0].beyond)


def _list_changes(
    models: Models, before: Mapping[str, str], values: Values
) -> Iterator[PairChange]:
    """The change of each pair of which the CKA is known before and after."""
    for after, first in _list_stages(models, before):
        end, start = values.get(frozenset(after)), values.get(frozenset(first))
        if end is None or start is None:
            continue
        change = subtract_unpaired(end.value, start.value)
        names = list_controls(models, models.names, after[0])
        beside = [values.get(frozenset((name, after[1]))) for name in names if name != after[1]]
        known = [one for one in beside if one is not None]
        if not known:
            yield PairChange(*after, change, paired=False)
            continue
        control = max(known, key=lambda one: one.value.value)
        name = control.a if control.b == after[1] else control.b
        over = subtract_unpaired(end.value, control.value)
        yield PairChange(*after, change, name, over, paired=False)


def _list_stages(
    models: Models, before: Mapping[str, str]
) -> Sequence[tuple[tuple[str, str], tuple[str, str]]]:
    """The pairs after and before: of two fine-tuned models, or else of one with each other model
    that was only pre-trained."""
    both = [
        ((one, other), (before[one], before[other]))
        for one, other in itertools.combinations(before, 2)
        if before[one] != before[other]
    ]
    if both:
        return both
    others = [name for name in models.studied if not is_tuned(models.about(name))]
    return [
        ((name, other), (first, other))
        for name, first in before.items()
        for other in others
        if other != first
    ]
