"""Which model to choose, in words: how well the first separates the classes with its best features,
and whether it is better than the second and than raw pixels."""

from collections.abc import Collection, Sequence

from sslens.claims.advice import Recommendation
from sslens.comparisons.choices import (
    Choice,
    compare_first_two,
    list_not_told_apart,
    rank_choices,
)
from sslens.comparisons.readings import name_pooling
from sslens.report.front.screen import Answer
from sslens.report.writing.front import BEST, HERE, explain_effect
from sslens.report.writing.numbers import spell_over, spell_points, spell_share
from sslens.statistics.estimate import SMALLEST, Contrast, Estimate

#: how the first model stands against raw pixels
WORDS_OF_PIXELS = {"more": "beats pixels", "less": "pixels win", "the same": "as pixels"}
#: which features of a model an accuracy is of
FEATURES = "with its best features"
#: models that are named where they are not told apart
NAMED = 4
#: what is said where raw pixels are not compared
NO_PIXELS = "Raw pixels are not compared: how alike models are may be due to the pixels alone."
#: what is said where images have no labels
NO_LABELS = (
    "Labels are needed to choose a model: give images with a subfolder a class. Until then see"
    " which models are alike, and where they part."
)


def write_separation(choices: Sequence[Choice], link: str) -> Answer:
    """Write which model separates the classes best, and whether it is better than raw pixels.

    Args:
        choices: what was chosen of each model and control.
        link: the section with the evidence.
    """
    ranked = rank_choices(choices)
    studied = [one for one in ranked if not one.control]
    first, ahead = studied[0], compare_first_two(ranked)
    pixels = first.gains["over_pixels"]
    near, controls = list_not_told_apart(ranked)
    whose = f"{first.model} " if near else ""
    parts = [f"{whose}{spell_share(first.accuracy)} by {_name_classifier(first)} {FEATURES}"]
    if pixels.defined:
        parts.append(f"{spell_points(pixels)} over raw pixels{_say_why(first, pixels)}")
    if ahead.defined:
        parts.append(f"{spell_points(ahead)} over {studied[1].model}")
    strengths = [one.measure_strength(SMALLEST["accuracy"]) for one in (pixels, ahead)]
    decided = [
        strength
        for strength, one in zip(strengths, (pixels, ahead), strict=True)
        if one.defined and strength
    ]
    alone = len(studied) == 1
    question = f"Does {first.model} separate the classes better than pixels?" if alone else BEST
    named = first.model
    if ahead.defined and near:
        named = f"{_name_near(first.model, near)}, which are not told apart{_name_nor(controls)}"
    share = spell_share(Estimate(first.accuracy.value))
    sides = {
        one.gains["over_pixels"].find_side(SMALLEST["accuracy"])
        for one in studied
        if one.model in (first.model, *near)
    }
    against = "undecided"  # unless it is one answer for all that are named, and training's
    if len(sides) == 1 and not controls:
        against = WORDS_OF_PIXELS.get(sides.pop(), against)
    return Answer(
        question,
        against if pixels.defined else share,
        ", ".join(parts),
        spell_over(first.accuracy),
        _write_controls(choices),
        link,
        min(decided, default=0.0),
        names="" if alone else named,
        scope=HERE,
    )


def _say_why(choice: Choice, gain: Estimate) -> str:
    """Say in brackets why a gain over raw pixels decides nothing; empty where it decides."""
    smallest = SMALLEST["accuracy"]
    if gain.find_side(smallest) not in ("undecided", "too few"):
        return ""
    return f" ({explain_effect(Contrast(choice.model, 'pixels', gain), smallest)})"


def _name_near(first: str, others: Sequence[str]) -> str:
    """Name the models that are not told apart.

    >>> _name_near("a", ["b"]), _name_near("a", ["b", "c"]), _name_near("a", list("bcdef"))
    ('a or b', 'a, b or c', 'a, b, c or 3 more')
    """
    names = [first, *others]
    if len(names) > NAMED:
        return f"{', '.join(names[: NAMED - 1])} or {len(names) - NAMED + 1} more"
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _name_nor(controls: Sequence[str]) -> str:
    """Say that untrained controls are not told apart from the first model either."""
    return f", nor from {controls[0]} (untrained)" if controls else ""


def _name_classifier(choice: Choice) -> str:
    """Name what classifies."""
    return f"{choice.k}-NN" if choice.k else "a probe"


def _write_controls(choices: Sequence[Choice]) -> str:
    """Write the accuracy of raw pixels and of the best random initialisation."""
    controls = {one.model: one for one in choices if one.control}
    pixels = controls.pop("pixels", None)
    parts = [] if pixels is None else [f"raw pixels {spell_share(pixels.accuracy)}"]
    if controls:
        best = max(controls.values(), key=lambda one: one.accuracy.value)
        parts.append(f"untrained {spell_share(Estimate(best.accuracy.value))}")
    return ", ".join(parts)


def write_pixels(choices: Sequence[Choice], advised: Sequence[Recommendation] = ()) -> str:
    """Write that raw pixels beat every model, or that no model is shown to be better than they
    are; empty where one is, or where there are no raw pixels.

    Args:
        choices: what was chosen of each model and control.
        advised: what is recommended of each model: where it is a probe, and a model beats raw
            pixels by it, that is said too.
    """
    gains = {
        one.model: (one, one.gains["over_pixels"])
        for one in rank_choices(choices)
        if not one.control and one.gains["over_pixels"].defined
    }
    if not gains:
        return ""
    sides = [gain.find_side(SMALLEST["accuracy"]) for _, gain in gains.values()]
    first, gain = next(iter(gains.values()))
    over = f"on {spell_over(first.accuracy)}"
    how = f"by {_name_classifier(first)} {over}"
    effect = f"{first.model}, the nearest, has {spell_points(gain)} over them {FEATURES}"
    probed = "" if first.layers else _write_probed(advised)
    if all(side == "less" for side in sides):
        return f"Raw pixels beat every model {how}: {effect}.{probed}"
    if "more" not in sides:
        return f"Nothing is shown to beat raw pixels {how}: {effect}.{probed}"
    return ""


def _write_probed(advised: Sequence[Recommendation]) -> str:
    """Write which model beats raw pixels by a probe, though none does by k-NN; empty if none."""
    gains = [
        (one.over_pixels, one)
        for one in advised
        if one.over_pixels is not None and not one.use.k and not one.unsettled
    ]
    won = [pair for pair in gains if pair[0].find_side(SMALLEST["accuracy"]) == "more"]
    if not won:
        return ""
    gain, one = max(won, key=lambda pair: pair[0].value)
    return f" By a linear probe {one.model} beats them: {spell_points(gain)}."


def write_no_choice(reason: str) -> str:
    """Write why no model can be chosen.

    Args:
        reason: why the classes are not told apart, as a clause.

    >>> write_no_choice("fingerprints hold the Grams of minibatches only")
    'Nothing here tells which model to use: fingerprints hold the Grams of minibatches only.'
    """
    return f"Nothing here tells which model to use: {reason}."


def write_choice(
    choices: Sequence[Choice],
    cnns: Collection[str] = (),
    advised: Sequence[Recommendation] = (),
) -> str:
    """Write which model to use, or why none is to be preferred; empty where there is no model.

    Args:
        choices: what was chosen of each model and control.
        cnns: the names of the CNNs among these.
        advised: what is recommended of each model.
    """
    studied = [one for one in rank_choices(choices) if not one.control]
    if not studied:
        return ""
    warning = write_pixels(choices, advised)
    if warning:
        return warning
    first, ahead = studied[0], compare_first_two(choices)
    over, gain = f"on {spell_over(first.accuracy)}", first.gains["over_pixels"]
    how = f"by {_name_classifier(first)} {FEATURES}"
    if ahead.defined and ahead.find_side(SMALLEST["accuracy"]) != "more":
        near, controls = list_not_told_apart(choices)
        nor = f"{_name_nor(controls)}," if controls else ""
        between = f" between {'them' if len(near) == 1 else 'the first two'}"
        return (
            f"Not told apart{nor} {over}: {_name_near(first.model, near)},"
            f" {spell_points(ahead)}{between} {how}{_say_why(first, ahead)}."
        )
    pooling = name_pooling(first.pooling, cnn=first.model in cnns)
    where = f"{pooling} at {' and '.join(first.taps)}"
    parts = [f"{spell_share(first.accuracy)} {over} {how} ({where})"]
    if ahead.defined:
        parts.append(f"{spell_points(ahead)} over {studied[1].model}")
    elif gain.defined:
        parts.append(f"{spell_points(gain)} over raw pixels")
    return f"Use {first.model}: {', '.join(parts)}."
