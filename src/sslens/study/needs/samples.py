"""Images that a generator makes from the features of images."""

from collections.abc import Iterator, Mapping
from typing import Any

from sslens.capture import FeatureReducer
from sslens.comparisons.samples import SampleSet
from sslens.store import Store
from sslens.study.asked import Study
from sslens.study.situation import Captured, Lack, Situation

TYPE = SampleSet


def reducers(study: Study) -> tuple[FeatureReducer, ...]:
    """Ask for the features of all usual taps, of which the generator takes one."""
    return (FeatureReducer(),)


def unmet(situation: Situation) -> Lack | None:
    """Samples need a generator that knows one of the models."""
    from sslens.study.sampling import explain_lack

    return explain_lack(situation)


def describe(situation: Situation, store: Store) -> Iterator[str]:
    """Say how many samples are made."""
    from sslens.study.sampling import describe_cost

    return describe_cost(situation, store)


def gather(captured: Captured) -> SampleSet:
    """Make the samples, or take them from the store, and read what judges them."""
    from sslens.study.sampling import make_all

    return make_all(captured)


def key(value: SampleSet) -> Mapping[str, Any]:
    """Return what decided the samples."""
    return value.key
