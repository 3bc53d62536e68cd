"""Grams of a few taps over minibatches of up to 1,024 images."""

from typing import Any

from sslens.capture import WideGramReducer
from sslens.comparisons.inputs import WideGrams
from sslens.study.asked import Study
from sslens.study.situation import Captured, Lack, Situation, lack_of_passes

TYPE = WideGrams


def reducers(study: Study) -> tuple[WideGramReducer, ...]:
    """Ask for joined minibatches at taps that the study's seed draws."""
    return (WideGramReducer(seed=study.seed),)


def unmet(situation: Situation) -> Lack | None:
    """Fingerprints hold the Grams of small minibatches, which cannot be joined."""
    return lack_of_passes(situation)


def gather(captured: Captured) -> WideGrams:
    """Return the wide Grams of each model."""
    (reducer,) = reducers(captured.situation.study)
    return captured.of(reducer)


def key(value: WideGrams) -> dict[str, dict[str, Any]]:
    """Return the key of each model's Grams."""
    return {name: dict(grams.key) for name, grams in value.items()}
