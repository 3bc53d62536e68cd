"""Advice in sentences."""

from collections.abc import Sequence

from sslens.claims.advice import KnnChoice, ProbeChoice, Recommendation
from sslens.comparisons.readings import READINGS
from sslens.report.writing.numbers import spell_points, spell_share
from sslens.statistics.estimate import Contrast


def sentences(recommendations: Sequence[Recommendation]) -> tuple[str, ...]:
    """Write one recommendation per model, then how the recommendations were made; nothing if there
    are none."""
    if not recommendations:
        return ()
    images = recommendations[0].usual.accuracy.n
    how = (
        f"Each choice was made on validation images, and is judged on {images} test images that had"
        " no part in it; gains are paired, with 95 % bootstrap intervals over these images. Of"
        " other trainings of a model they say nothing."
    )
    return (*(_write_recommendation(one) for one in recommendations), how)


def _write_recommendation(one: Recommendation) -> str:
    """Write the recommendation for one model."""
    usual = f"the usual choice, {_name_probe(one.usual)}"
    accuracy = spell_share(one.usual.accuracy)
    after = _write_knn(one.knn)
    if one.gain is None:
        others = (
            f"no other of {one.probes} probes does better on the validation images"
            if one.probes > 1
            else "there is no other"
        )
        return f"{one.model}: keep {usual}: {accuracy}; {others}{after}."
    gain = spell_points(one.gain.difference)
    if one.answer == "holds":
        return (
            f"{one.model}: use {_name_probe(one.use)}: {spell_share(one.use.accuracy)}, {gain} over"
            f" {usual} ({accuracy}){after}."
        )
    return (
        f"{one.model}: keep {usual}: {accuracy}. The best of {one.probes} probes on the validation"
        f" images, {_name_probe(one.best)}, has {gain} on the test images,"
        f" {_write_reason(one.gain)}{after}."
    )


def _write_reason(gain: Contrast) -> str:
    """Write why the gain does not justify another probe than the usual one."""
    if gain.sign is None:
        return f"which {gain.difference.n} images cannot decide"
    if gain.sign == 0:
        return "which these images cannot tell from nothing"
    return "which is hardly worth a change" if gain.sign > 0 else "which is a loss"


def _name_probe(choice: ProbeChoice) -> str:
    probe = "a linear probe" if choice.layers == 1 else f"a probe of {choice.layers} layers"
    return f"{probe} of the {READINGS[choice.pooling]} at {' and '.join(choice.taps)}"


def _write_knn(knn: KnnChoice | None) -> str:
    """Write the accuracy of k-NN, which needs no training, at the same tap."""
    if knn is None:
        return ""
    return f"; {knn.k}-NN, which trains nothing, has {spell_share(knn.accuracy)} at {knn.tap}"
