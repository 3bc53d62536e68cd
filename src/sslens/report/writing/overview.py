"""What the overview picture shows, in words."""

from collections.abc import Sequence

from sslens.comparisons.choices import Choice
from sslens.comparisons.likeness import Likeness
from sslens.comparisons.readings import READINGS
from sslens.report.writing.numbers import spell_count, spell_share
from sslens.report.writing.similarity import REGRESSED


def write_placed(pairs: Sequence[Likeness]) -> str:
    """Write what decides the places of models.

    Args:
        pairs: all pairs in the picture.
    """
    beyond = sum(pair.beyond for pair in pairs)
    clause = ""
    if beyond == len(pairs):
        clause = f", {REGRESSED}"
    elif beyond:
        clause = (
            f", {REGRESSED} where that is defined ({spell_count(beyond)} of"
            f" {spell_count(len(pairs))} pairs)"
        )
    return f"The nearer, the more alike: 1 less mean CKA at the same depth{clause}."


def write_sized(choices: Sequence[Choice]) -> str:
    """Write what decides the sizes of models; empty where nothing is known."""
    if not choices:
        return ""
    first = choices[0]
    how = f"{first.k}-NN" if first.k else "a probe"
    return (
        f"The larger, the better are classes separated: accuracy of {how} at each model's best"
        f" features, on {spell_count(first.accuracy.n)} images that had no part in the choice."
    )


def write_note(choice: Choice) -> str:
    """Write how well a model separates the classes, and where."""
    how = f"{choice.k}-NN" if choice.k else f"probe of {choice.layers} layers"
    where = f"{READINGS[choice.pooling]} at {' and '.join(choice.taps)}"
    return f"{how} {spell_share(choice.accuracy)}, {where}"
