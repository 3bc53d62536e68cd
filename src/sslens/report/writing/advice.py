"""Advice in sentences."""

from collections.abc import Sequence

from sslens.claims.advice import KnnChoice, ProbeChoice, Recommendation
from sslens.comparisons.readings import READINGS
from sslens.report.writing.numbers import compare, spell_points, spell_share


def sentences(recommendations: Sequence[Recommendation]) -> tuple[str, ...]:
    """Write one recommendation per model, then how the recommendations were made; nothing if there
    are none."""
    if not recommendations:
        return ()
    images = recommendations[0].usual.accuracy.n
    how = (
        f"Each choice was made on validation images, and is judged on {images} test images that had"
        " no part in it, among probes that have converged; gains are paired, with 95 % intervals"
        " over these images. Of other trainings of a model they say nothing."
    )
    return (*(_write_recommendation(one) for one in recommendations), how)


def _write_recommendation(one: Recommendation) -> str:
    """Write the recommendation for one model."""
    usual = f"the usual choice, {_name_probe(one.usual)}"
    if one.unsettled:
        return f"{one.model}: not decided, for {usual}, is not to be relied on: {one.unsettled}."
    accuracy = spell_share(one.usual.accuracy)
    after = _write_knn(one.knn)
    if one.gain is None:
        others = (
            f"no other of {one.probes} probes does better on the validation images"
            if one.probes > 1
            else "there is no other"
        )
        return f"{one.model}: keep {usual}: {accuracy}; {others}{after}."
    if one.answer == "holds":
        gain = spell_points(one.gain.difference)
        return (
            f"{one.model}: use {_name_probe(one.use)}: {spell_share(one.use.accuracy)}, {gain} over"
            f" {usual} ({accuracy}){after}."
        )
    head = "not decided; meanwhile keep" if one.answer == "undecided" else "keep"
    against = compare(one.gain.difference, "it", "accuracy")
    return (
        f"{one.model}: {head} {usual}: {accuracy}. The best of {one.probes} probes on the"
        f" validation images, {_name_probe(one.best)}, is {against} on the test images{after}."
    )


def _name_probe(choice: ProbeChoice) -> str:
    probe = "a linear probe" if choice.layers == 1 else f"a probe of {choice.layers} layers"
    return f"{probe} of the {READINGS[choice.pooling]} at {' and '.join(choice.taps)}"


def _write_knn(knn: KnnChoice | None) -> str:
    """Write the accuracy of k-NN, which needs no training, at the same tap."""
    if knn is None:
        return ""
    return f"; {knn.k}-NN, which trains nothing, has {spell_share(knn.accuracy)} at {knn.tap}"
