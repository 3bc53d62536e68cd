"""Detectors on networks that are trained too: trained, judged and kept."""

from collections.abc import Iterator, Mapping
from typing import Any

from sslens.comparisons.detectors import DetectorSet
from sslens.store import Store
from sslens.study.members import Member
from sslens.study.situation import Captured, Lack, Situation

TYPE = DetectorSet


def unmet(situation: Situation) -> Lack | None:
    """Detectors need images with boxes and masks, to train on and to be judged in."""
    from sslens.study.detector_runs import explain_lack

    return explain_lack(situation)


def list_members(situation: Situation) -> list[Member]:
    """List the models and controls of which detectors are trained."""
    from sslens.study.detector_runs import Protocol

    return Protocol.of(situation, tuned=True).list_members(situation)


def describe(situation: Situation, store: Store) -> Iterator[str]:
    """Say what would be trained, and its cost."""
    from sslens.study.detecting import describe_cost

    return describe_cost(situation, store, tuned=True)


def complete(captured: Captured) -> None:
    """Train and judge the detectors that the store lacks; all processes share each training."""
    gather(captured)


def gather(captured: Captured) -> DetectorSet:
    """Return the detectors, trained where the store lacks them."""
    from sslens.study.detecting import train_all

    return train_all(captured, tuned=True)


def key(value: DetectorSet) -> Mapping[str, Any]:
    """Return what decided each detector, and what small and large mean."""
    return value.key
