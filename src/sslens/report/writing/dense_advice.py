"""Advice on dense tasks in sentences."""

from collections.abc import Sequence

from sslens.comparisons.dense_advice import DenseRecommendation
from sslens.comparisons.probing import PLUS
from sslens.report.writing.numbers import compare, spell_count, spell_points, spell_share
from sslens.statistics.estimate import Estimate


def sentences(recommendations: Sequence[DenseRecommendation]) -> tuple[str, ...]:
    """Write one recommendation per model, then how they were made; nothing if there are none."""
    if not recommendations:
        return ()
    first = recommendations[0]
    how = (
        "For dense tasks each block was chosen on held-out training images, and is judged on"
        f" {spell_count(first.miou.n)} test images by mIoU, with a converged linear probe of the"
        f" frozen patch tokens; the least to beat is {spell_background(first.background)}; a"
        " detector or decoder on top, or fine-tuning, may order the blocks otherwise."
    )
    return (*(_write(one) for one in recommendations), how)


def spell_background(miou: float) -> str:
    """Say what calling everything background has.

    >>> spell_background(0.475)
    '47.5%, that of calling everything background'
    """
    return f"{spell_share(Estimate(miou))}, that of calling everything background"


def _write(one: DenseRecommendation) -> str:
    """Write the recommendation for one model; none where it is shown to be below a control."""
    miou = f"mIoU {spell_share(one.miou)}"
    after = ""
    if one.above_control.defined:
        against = compare(one.above_control, f"{one.control}, the best control", "accuracy")
        after = f"; it is {against}"
    if one.is_beaten:
        return (
            f"{one.model}: for dense tasks nothing is recommended: the patch tokens at"
            f" {_join(one.use)} have {miou}{after}."
        )
    if one.gain is None:
        return (
            f"{one.model}: for dense tasks use the patch tokens at {one.usual}, the last block:"
            f" {miou}; no other of {one.probes} linear probes does better on held-out"
            f" images{after}."
        )
    if one.answer == "holds":
        gain = spell_points(one.gain.difference)
        return (
            f"{one.model}: for dense tasks use the patch tokens at {_join(one.use)}: {miou}, {gain}"
            f" over {one.usual}, the last block{after}."
        )
    head = "not decided; meanwhile use" if one.answer == "undecided" else "for dense tasks use"
    against = compare(one.gain.difference, "it", "accuracy")
    lead = "for dense tasks " if one.answer == "undecided" else ""
    return (
        f"{one.model}: {lead}{head} the patch tokens at {one.usual}, the last block: {miou}. The"
        f" best on held-out images, {_join(one.best)}, is {against} on the test images{after}."
    )


def _join(tap: str) -> str:
    return tap.replace(PLUS, " and ")
