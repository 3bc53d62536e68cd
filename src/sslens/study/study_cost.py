"""What a study will cost: its passes, its analyses and its report."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sslens.study.costing import Cost, PassProbe, measure_memory
from sslens.study.probe_cost import time_head

if TYPE_CHECKING:
    from sslens.capture import Features
    from sslens.study.planning import StudyPlan

#: processor time in seconds of an analysis, of each model and 256 images, beside probes; measured
#: of 5 models, 64 and 256 images, on one core of a Xeon of 2.1 GHz (LOG.md)
USUAL = 0.1
SECONDS: Mapping[str, float] = {
    "cka-blocks": 0.017,
    "cka-layer-types": 0.035,
    "cka-targets": 0.015,
    "other-measures": 0.08,
    "knn-depth": 0.15,
    "factors-depth": 0.07,
}
#: images for which these double
IMAGES = 256
#: processor time of a report, and of each section in it
REPORT, SECTION = 0.6, 0.1
#: parts that images without a bank are dealt out to, and the share of images that train
FOLDS, TRAINED = 5, 0.6
#: the share of a fit that one of many fits takes which go on together
TOGETHER = 0.25


def estimate_study(plan: "StudyPlan") -> Cost:
    """Estimate the cost of what a study has not in the store; tables are taken as not there."""
    runner = plan.runner
    seconds = {"start": time.process_time()}
    seconds["passes"] = PassProbe(runner.device, runner.precision).estimate(plan.passes)
    images = 0 if plan.images is None else len(plan.images)
    grown = len(plan.members) * (1 + images / IMAGES)
    seconds["analyses"] = grown * sum(SECONDS.get(name, USUAL) for name in plan.analyses)
    if probes := _estimate_probes(plan):
        seconds["probes"] = probes
    seconds["report"] = REPORT + SECTION * len(plan.analyses)
    return Cost(seconds, measure_memory() + _count_held(plan), _count_written(plan))


def _estimate_probes(plan: "StudyPlan") -> float:
    """The processor time of probes, by the sizes of what they read."""
    total = 0.0
    known: dict[tuple[object, ...], float] = {}
    if plan.images is None or plan.images.labels is None:
        return total
    classes = len(plan.images.classes)
    count = len(plan.images) if plan.bank is None else len(plan.bank)

    def fit(images: float, width: int, layers: int = 1) -> float:
        kind = (round(images), width, layers)
        if kind not in known:
            known[kind] = time_head(round(images), width, classes, layers, 0, plan.runner.device)
        return known[kind]

    for features in _list_features(plan):
        taps = list(dict.fromkeys(tap for tap, _ in features.columns))
        poolings = [pooling for pooling in features.poolings if pooling != "mean"] or ["mean"]
        width = max(features.columns.values())
        if "agreement" in plan.analyses:
            folds, share = (FOLDS, TRAINED) if plan.bank is None else (1, 0.8)
            total += folds * len(poolings[:2]) * fit(share * count, width)
        if "probe-layers" in plan.analyses:
            heads = 2 * len(taps) * len(poolings[:2])
            total += TOGETHER * heads * fit(0.4 * count, width)
        if "probe-depth" in plan.analyses:
            deeper = fit(0.4 * count, width, 2) + fit(0.4 * count, width, 3)
            total += len(poolings[:2]) * (fit(0.4 * count, width) + deeper)
    return total


def _list_features(plan: "StudyPlan") -> "list[Features]":
    """The planned features of every network."""
    from sslens.capture.planned import plan_features

    assert plan.images is not None
    return [
        plan_features(member.model, plan.images)
        for member in plan.members
        if member.model is not None
    ]


def _count_written(plan: "StudyPlan") -> float:
    """Bytes that passes write into the store: Grams and pooled features."""
    from sslens.capture.planned import plan_features

    total = 0.0
    for one in plan.passes:
        if not one.missing:
            continue
        squares = sum(size * size for size in one.plan.sizes)
        for reducer in one.reducers:
            if reducer.kind == "grams":
                total += 4.0 * squares * len(reducer.taps(one.model, one.model.pick(one.taps)))
            elif reducer.kind == "features":
                planned = plan_features(one.model, one.images)
                total += planned.row_bytes * len(planned)
    return total


def _count_held(plan: "StudyPlan") -> float:
    """Bytes of features that analyses hold together."""
    return _count_written(plan)
