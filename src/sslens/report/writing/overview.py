"""What the overview picture shows, in words."""

from collections import Counter
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
    beyond = bool(pairs) and all(pair.beyond for pair in pairs)
    kind, clause = ("CKA", ", pixels regressed out") if beyond else ("plain CKA", "")
    return f"Near is alike: 1 − {kind} at the same depth{clause}; stress {spell_level(stress)}."


def write_sized(choices: Sequence[Choice], shared: str = "") -> str:
    """Write what decides the sizes of models; empty where nothing is known.

    Args:
        choices: what was chosen of each model and control.
        shared: the features that are not named below each name (`find_shared`).
    """
    if not choices:
        return ""
    first = choices[0]
    how = f"{first.k}-NN" if first.k else "a probe"
    count = spell_count(first.use.n)
    of = f"the {shared}, or as below a name" if shared else "the features below each name"
    return f"Points: {how} of {of}; {count} held-out images"


def find_shared(reads: Sequence[str]) -> str:
    """Find the features that most accuracies are of; empty where no two are of the same.

    >>> find_shared(["CLS token at norm", "mean at norm", "CLS token at norm"])
    'CLS token at norm'
    """
    found = Counter(reads).most_common(1)
    return found[0][0] if found and found[0][1] > 1 else ""


def write_note(choice: Choice, *, places: bool = False) -> str:
    """Write how well a model separates the classes, and where; its mean is over places if so
    said."""
    how = f"{choice.k}-NN" if choice.k else f"probe of {spell_count(choice.layers, 'layer')}"
    return f"{how} {spell_share(choice.use)}, {write_read(choice, places=places)}"


def write_read(choice: Choice, *, places: bool = False) -> str:
    """Write of which features the accuracy of a model is; its mean is over places if so said."""
    where = f"{name_pooling(choice.use_pooling, places=places)} at {' and '.join(choice.use_taps)}"
    return f"{where}{name_features(choice.use_features)}"
