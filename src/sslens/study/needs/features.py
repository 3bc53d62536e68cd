"""Pooled features of every block, over the images and over the bank."""

from typing import Any

from sslens.capture import FeatureReducer
from sslens.comparisons.inputs import FeatureSets
from sslens.study.asked import Study
from sslens.study.situation import Captured, Lack, Situation, lack_of_passes

TYPE = FeatureSets
BANK = True


def reducers(study: Study) -> tuple[FeatureReducer, ...]:
    """Ask for all taps after which features are usually read, with all their poolings."""
    return (FeatureReducer(),)


def unmet(situation: Situation) -> Lack | None:
    """Fingerprints hold no features."""
    return lack_of_passes(situation)


def gather(captured: Captured) -> FeatureSets:
    """Return the features of each model, over the images and over the bank."""
    (reducer,) = reducers(captured.situation.study)
    return FeatureSets(captured.of(reducer), captured.of(reducer, bank=True))


def key(value: FeatureSets) -> dict[str, dict[str, Any]]:
    """Return the key of each model's features."""
    return {
        role: {name: dict(features.key) for name, features in sets.items()}
        for role, sets in (("images", value.images), ("bank", value.bank))
    }
