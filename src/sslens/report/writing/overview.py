"""What the overview picture shows, in words."""

from collections.abc import Sequence

from sslens.comparisons.choices import Choice
from sslens.comparisons.likeness import Likeness
from sslens.comparisons.readings import name_features, name_pooling
from sslens.report.writing.numbers import spell_count, spell_level, spell_share


def write_placed(pairs: Sequence[Likeness], stress: float) -> str:
    """Write what decides the places of models.

    Args:
        pairs: all pairs in the picture.
        stress: Kruskal's stress-1 of the places.
    """
    clause = ", pixels regressed out" if all(pair.beyond for pair in pairs) else ""
    return f"Near is alike: 1 − CKA at the same depth{clause}; stress {spell_level(stress)}."


def write_sized(choices: Sequence[Choice]) -> str:
    """Write what decides the sizes of models; empty where nothing is known."""
    if not choices:
        return ""
    first = choices[0]
    how = f"{first.k}-NN" if first.k else "a probe"
    return f"Points: {how}, features to use, {spell_count(first.use.n)} images that did not choose"


def write_note(choice: Choice, *, places: bool = False) -> str:
    """Write how well a model separates the classes, and where; its mean is over places if so
    said."""
    how = f"{choice.k}-NN" if choice.k else f"probe of {choice.layers} layers"
    where = f"{name_pooling(choice.use_pooling, places=places)} at {' and '.join(choice.use_taps)}"
    return f"{how} {spell_share(choice.use)}, {where}{name_features(choice.use_features)}"
