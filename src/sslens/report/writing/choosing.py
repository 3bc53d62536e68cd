"""Which model to choose, in words: how well the first separates the classes with what is to be used
of it, and whether it is better than the others and than raw pixels."""

from collections.abc import Collection, Sequence

from sslens.claims.advice import Recommendation
from sslens.comparisons.choices import Choice, Standing, rank_choices
from sslens.comparisons.options import is_above_chance
from sslens.report.front.screen import Answer
from sslens.report.writing.front import BEST, HERE, explain_effect, list_few
from sslens.report.writing.numbers import spell_over, spell_points, spell_share
from sslens.report.writing.overview import write_read
from sslens.statistics.estimate import SMALLEST, Contrast, Estimate

#: how the first model stands against raw pixels
WORDS_OF_PIXELS = {"more": "beats pixels", "less": "pixels win", "the same": "as pixels"}
#: models that are named where they are not told apart
NAMED = 4
#: what is said where raw pixels are not compared
NO_PIXELS = "Raw pixels are not compared: how alike models are may be due to the pixels alone."
#: what is said where images have no labels
NO_LABELS = (
    "Labels are needed to choose a model: give images with a subfolder a class, or an index file"
    " with labels. Until then see which models are alike, and where they part."
)


def write_separation(
    choices: Sequence[Choice], link: str, over_places: Collection[str] = ()
) -> Answer:
    """Write which model separates the classes best, and whether it is better than raw pixels.

    Args:
        choices: what was chosen of each model and control.
        link: the section with the evidence.
        over_places: the models of which the mean is over places (`readings.find_over_places`).
    """
    studied = [one for one in rank_choices(choices) if not one.control]
    first, standing = studied[0], Standing.of(choices)
    pixels, unsure = first.over_pixels, bool(standing.near or standing.near_controls)
    whose = f"{first.model} " if unsure else ""
    how = f"{_name_classifier(first)} of the {write_read(first, places=first.model in over_places)}"
    parts = [f"{whose}{spell_share(first.use)} by {how}"]
    if pixels.defined:
        parts.append(f"{spell_points(pixels)} over raw pixels{_say_why(first, pixels)}")
    next_ = _find_next(standing)
    if next_ is not None:
        points = spell_points(next_.gains["first_over"])
        parts.append(f"{points} over {_name_next(next_, first, over_places)}")
    judged = (pixels, *([] if next_ is None else [next_.gains["first_over"]]))
    strengths = [one.measure_strength(SMALLEST["accuracy"]) for one in judged if one.defined]
    alone = len(studied) == 1
    question = f"Does {first.model} separate the classes better than pixels?" if alone else BEST
    share = spell_share(Estimate(first.use.value))
    sides = {one.over_pixels.find_side(SMALLEST["accuracy"]) for one in (first, *standing.near)}
    against = "undecided"  # unless it is one answer for all that are named, and training's
    if len(sides) == 1 and not standing.near_controls:
        against = WORDS_OF_PIXELS.get(sides.pop(), against)
    return Answer(
        question,
        against if pixels.defined else share,
        ", ".join(parts),
        spell_over(first.use),
        _write_controls(choices),
        link,
        min(filter(None, strengths), default=0.0),
        names="" if alone and not unsure else _write_standing(first, standing),
        scope=HERE,
    )


def _find_next(standing: Standing) -> Choice | None:
    """The model that comes next to the first: of those that are not told apart from it, if any."""
    return next(iter((*standing.near, *standing.below)), None)


def _write_standing(first: Choice, standing: Standing) -> str:
    """Name the first model, the models and controls that are not told apart from it, and then those
    that are shown to be below it; the first alone where all others are."""
    named = _name_near(first.model, [one.model for one in standing.near])
    controls = _name_controls(standing.near_controls)
    if standing.near:
        told = f"{named}, not told apart{f', nor from {controls}' if controls else ''}"
    elif controls:
        told = f"{named}, not told apart from {controls}"
    else:
        return named
    below = [*(one.model for one in standing.below)]
    below += [f"{one.model} (untrained)" for one in standing.below_controls]
    return f"{told}; {first.model} is above {list_few(below)}" if below else told


def _say_why(choice: Choice, gain: Estimate) -> str:
    """Say in brackets why a gain over raw pixels decides nothing; empty where it decides."""
    smallest = SMALLEST["accuracy"]
    if gain.find_side(smallest) not in ("undecided", "too few"):
        return ""
    return f" ({explain_effect(Contrast(choice.model, 'pixels', gain), smallest)})"


def _name_near(first: str, others: Sequence[str]) -> str:
    """Name the models that are not told apart.

    >>> _name_near("a", []), _name_near("a", ["b", "c"]), _name_near("a", list("bcdef"))
    ('a', 'a, b or c', 'a, b, c or 3 more')
    """
    names = [first, *others]
    if len(names) == 1:
        return first
    if len(names) > NAMED:
        return f"{', '.join(names[: NAMED - 1])} or {len(names) - NAMED + 1} more"
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _name_controls(controls: Sequence[Choice]) -> str:
    """Name untrained controls: the first, which is the best of them."""
    return f"{controls[0].model} (untrained)" if controls else ""


def _name_classifier(choice: Choice) -> str:
    """Name what classifies."""
    return f"{choice.k}-NN" if choice.k else "a probe"


def _write_controls(choices: Sequence[Choice]) -> str:
    """Write the accuracy of raw pixels and of the best random initialisation."""
    controls = {one.model: one for one in choices if one.control}
    pixels = controls.pop("pixels", None)
    parts = [] if pixels is None else [f"raw pixels {spell_share(pixels.use)}"]
    if controls:
        best = max(controls.values(), key=lambda one: one.use.value)
        parts.append(f"{best.model} {spell_share(Estimate(best.use.value))}")
    studied = [one for one in choices if not one.control]
    if not _is_any_above_chance(studied):
        parts.append(f"chance {spell_share(Estimate(studied[0].chance))}")
    return ", ".join(parts)


def _is_any_above_chance(studied: Sequence[Choice]) -> bool:
    """Whether what is to be used of a model lies above the share of the most frequent class, by
    intervals that hold for all models at once."""
    return any(is_above_chance(one.use, one.chance, len(studied)) for one in studied)


def write_chance(choices: Sequence[Choice], over_places: Collection[str] = ()) -> str:
    """Write that no model is shown to be above chance; empty where one is.

    Args:
        choices: what was chosen of each model and control.
        over_places: the models of which the mean is over places (`readings.find_over_places`).
    """
    studied = [one for one in rank_choices(choices) if not one.control]
    if _is_any_above_chance(studied):
        return ""
    first = studied[0]
    chance = f"chance, {spell_share(Estimate(first.chance))}, always the most frequent class"
    where = write_read(first, places=first.model in over_places)
    how = f"by {_name_classifier(first)} ({where}) on {spell_over(first.use)}"
    if len(studied) == 1:
        return f"Not shown to be above {chance}: {spell_share(first.use)} {how}."
    return (
        f"No model is shown to be above {chance}: {first.model}, the first, has"
        f" {spell_share(first.use)} {how}."
    )


def write_pixels(
    choices: Sequence[Choice],
    advised: Sequence[Recommendation] = (),
    probed: Sequence[Choice] = (),
) -> str:
    """Write that raw pixels beat every model, or that no model is shown to be better than they
    are; empty where one is, or where there are no raw pixels.

    Args:
        choices: what was chosen of each model and control.
        advised: what is recommended of each model: where it is a probe, and a model beats raw
            pixels by it, that is said too.
        probed: what was chosen of each among probes, where `choices` are of k-NN.
    """
    gains = {
        one.model: (one, one.over_pixels)
        for one in rank_choices(choices)
        if not one.control and one.over_pixels.defined
    }
    if not gains:
        return ""
    sides = [gain.find_side(SMALLEST["accuracy"]) for _, gain in gains.values()]
    first, gain = next(iter(gains.values()))
    how = f"by {_name_classifier(first)} on {spell_over(first.use)}"
    effect = f"{first.model}, the nearest, has {spell_points(gain)} over them"
    by_probe = "" if first.layers else _write_probed(advised, probed)
    if all(side == "less" for side in sides):
        return f"Raw pixels beat every model {how}: {effect}.{by_probe}"
    if "more" not in sides:
        return f"Nothing is shown to beat raw pixels {how}: {effect}.{by_probe}"
    return ""


def _write_probed(advised: Sequence[Recommendation], probed: Sequence[Choice]) -> str:
    """Write which model beats raw pixels by a probe, though none does by k-NN, and from which
    untrained ones it is not told apart; empty if none."""
    gains = [
        (one.over_pixels, one)
        for one in advised
        if one.over_pixels is not None and not one.use.k and not one.unsettled
    ]
    won = [pair for pair in gains if pair[0].find_side(SMALLEST["accuracy"]) == "more"]
    if not won:
        return ""
    gain, one = max(won, key=lambda pair: pair[0].value)
    first = next((choice.model for choice in probed if choice.first), None)
    near = Standing.of(probed).near_controls if one.model == first else ()
    apart = f", not told apart from {_name_controls(near)}" if near else ""
    return f" By a linear probe {one.model} beats them: {spell_points(gain)}{apart}."


def _write_first_probed(probed: Sequence[Choice], named: str) -> str:
    """Write which model is above the one that k-NN names first, or above all others, by a probe;
    empty if none is."""
    first = next((one for one in rank_choices(probed) if not one.control), None)
    standing = Standing.of(probed)
    if first is None:
        return ""
    how = "a linear probe" if first.layers == 1 else f"a probe of {first.layers} layers"
    said = f" By {how} {first.model} is above"
    below = {one.model: spell_points(one.gains["first_over"]) for one in standing.below}
    if named in below:
        return f"{said} {named}: {below[named]}."
    if standing.near or standing.near_controls or not below:
        return ""
    second = next(iter(below))
    return f"{said} all others: {below[second]} over {second}."


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
    over_places: Collection[str] = (),
    advised: Sequence[Recommendation] = (),
    probed: Sequence[Choice] = (),
) -> str:
    """Write which model to use, or why none is to be preferred; empty where there is no model.

    Args:
        choices: what was chosen of each model and control.
        over_places: the models of which the mean is over places (`readings.find_over_places`).
        advised: what is recommended of each model.
        probed: what was chosen of each among probes, where `choices` are of k-NN.
    """
    studied = [one for one in rank_choices(choices) if not one.control]
    if not studied:
        return ""
    warning = write_chance(choices, over_places) or write_pixels(choices, advised, probed)
    if warning:
        return warning
    first, standing = studied[0], Standing.of(choices)
    over, gain = f"on {spell_over(first.use)}", first.over_pixels
    how, next_ = f"by {_name_classifier(first)}", _find_next(standing)
    where = write_read(first, places=first.model in over_places)
    if standing.near or standing.near_controls:
        controls = _name_controls(standing.near_controls)
        if next_ is None or not standing.near:
            has = [f"; {one.model} {spell_share(one.use)}" for one in standing.near_controls]
            return (
                f"Not told apart from {controls} {over}: {first.model},"
                f" {spell_share(first.use)} {how} ({where}){''.join(has[:1])}."
                f"{_write_first_probed(probed, first.model)}"
            )
        nor = f", nor from {controls}," if controls else ""
        named = _name_near(first.model, [one.model for one in standing.near])
        ahead = next_.gains["first_over"]
        between = f" between {'them' if len(standing.near) == 1 else 'the first two'}"
        return (
            f"Not told apart{nor} {over}: {named},"
            f" {spell_points(ahead)}{between} {how}{_say_why(first, ahead)}."
            f"{_write_first_probed(probed, first.model)}"
        )
    parts = [f"{spell_share(first.use)} {over} {how} ({where})"]
    if next_ is not None:
        points = spell_points(next_.gains["first_over"])
        parts.append(f"{points} over {_name_next(next_, first, over_places)}")
    elif gain.defined:
        parts.append(f"{spell_points(gain)} over raw pixels")
    return f"Use {first.model}: {', '.join(parts)}."


def _name_next(next_: Choice, first: Choice, over_places: Collection[str]) -> str:
    """Name the model that the first is ahead of, with its features where they are others."""
    own, where = (write_read(one, places=one.model in over_places) for one in (next_, first))
    return next_.model if own == where else f"{next_.model} ({own})"
