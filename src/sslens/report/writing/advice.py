"""Advice in sentences."""

from collections.abc import Collection, Sequence

from sslens.claims.advice import KnnChoice, ProbeChoice, Recommendation
from sslens.comparisons.readings import name_features, name_pooling
from sslens.report.writing.numbers import compare, spell_count, spell_points, spell_share
from sslens.statistics.estimate import Estimate


def sentences(
    recommendations: Sequence[Recommendation], over_places: Collection[str] = ()
) -> tuple[str, ...]:
    """Write one recommendation per model, then how the recommendations were made; nothing if there
    are none.

    Args:
        recommendations: one a model.
        over_places: the models of which the mean is over places (`readings.find_over_places`).
    """
    if not recommendations:
        return ()
    images = recommendations[0].usual.accuracy.n
    trained = recommendations[0].usual.layers > 0
    few = recommendations[0].chosen_on
    made = f"{few or ''} validation images".lstrip() if trained else _name_third(few)
    judged = spell_count(images, "test image") if trained else f"the {images} others"
    among = ", among probes that have converged" if trained else ", among 20-NN with weighted votes"
    how = (
        f"Each choice was made on {made}, and is judged on {judged} that had no part in it{among};"
        " gains are paired, with 95 % intervals over these images. Of other trainings of a model"
        " they say nothing."
    )
    written = (_write_recommendation(one, one.model in over_places) for one in recommendations)
    return (*written, how)


def write_unsure(one: Recommendation) -> str:
    """Write that what is to be used of a model is not shown to be above chance, as a clause."""
    return f"not shown to be above chance ({spell_share(Estimate(one.chance))})"


def _write_recommendation(one: Recommendation, places: bool) -> str:
    """Write the recommendation for one model, of which the mean is over places if so said."""
    usual = f"the usual choice, {name_probe(one.usual, places=places)}"
    if one.unsettled:
        return f"{one.model}: not decided, for {usual}, is not to be relied on: {one.unsettled}."
    accuracy = spell_share(one.usual.accuracy)
    if one.is_chance:
        return (
            f"{one.model}: nothing is recommended, {write_unsure(one)}: {usual}, has {accuracy}"
            f"{write_untrained(one)}."
        )
    options, images = _name_options(one)
    after = _write_knn(one.knn) + _write_pixels(one) + write_untrained(one)
    if one.gain is None:
        others = (
            f"no other of {one.probes} {options} does better on {images}"
            if one.probes > 1
            else "there is no other"
        )
        return f"{one.model}: keep {usual}: {accuracy}; {others}{after}."
    if one.answer == "holds":
        gain = spell_points(one.gain.difference)
        return (
            f"{one.model}: use {name_probe(one.use, places=places)}:"
            f" {spell_share(one.use.accuracy)}, {gain} over {usual} ({accuracy}){after}."
        )
    head = "not decided; meanwhile keep" if one.answer == "undecided" else "keep"
    against = compare(one.gain.difference, "it", "accuracy")
    return (
        f"{one.model}: {head} {usual}: {accuracy}. The best of {one.probes} {options} on"
        f" {images}, {name_probe(one.best, places=places)}, is {against} on the test images{after}."
    )


def _name_options(one: Recommendation) -> tuple[str, str]:
    """Name what was chosen from, and the images that decided."""
    if one.usual.layers:
        return "probes", "the validation images"
    return "choices", _name_third(one.chosen_on)


def _name_third(chosen_on: int) -> str:
    """Name the images on which neighbours were chosen, about a third of all."""
    return f"{spell_count(chosen_on)} of the images" if chosen_on else "about a third of the images"


def _write_pixels(one: Recommendation) -> str:
    """Write how the recommended choice stands against raw pixels, as a clause."""
    if one.over_pixels is None:
        return ""
    return f"; it is {compare(one.over_pixels, 'raw pixels', 'accuracy')}"


def write_untrained(one: Recommendation) -> str:
    """Write the accuracy of the best untrained network, read as models are, as a clause; empty
    where the model has more."""
    best = one.untrained
    if best is None or not best.use.value >= one.use.accuracy.value:
        return ""
    return f"; {best.model} (untrained) has {spell_share(best.use)}"


def name_probe(choice: ProbeChoice, *, places: bool = False) -> str:
    """Name a probe or k-NN with the features that it reads, with means over places if so said."""
    pooling = name_pooling(choice.pooling, places=places)
    taps = " and ".join(choice.taps)
    if choice.k:
        return f"{choice.k}-NN of the {pooling} at {taps}{name_features(choice.features)}"
    probe = "a linear probe" if choice.layers == 1 else f"a probe of {choice.layers} layers"
    return f"{probe} of the {pooling} at {taps}"


def _write_knn(knn: KnnChoice | None) -> str:
    """Write the accuracy of k-NN, which needs no training, at the same tap."""
    if knn is None:
        return ""
    return f"; {knn.k}-NN, which trains nothing, has {spell_share(knn.accuracy)} at {knn.tap}"
