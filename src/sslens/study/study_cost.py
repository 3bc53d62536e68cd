"""What a study will cost: its passes, its analyses and its report."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sslens.study.capturing import list_own_passes
from sslens.study.costing import Cost, PassProbe, measure_memory
from sslens.study.detecting import estimate_detectors
from sslens.study.probe_cost import make_up, time_fit
from sslens.study.sample_cost import estimate_samples
from sslens.study.seen import list_seen

if TYPE_CHECKING:
    from sslens.capture import Features
    from sslens.study.planning import StudyPlan

#: processor time in seconds of an analysis, of each model and 256 images, beside probes; measured
#: of 5 models, 64 and 256 images, on one core, where the fit of `_time_reference` takes `REFERENCE`
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
#: the same of analyses that train probes: of each model, and in proportion to images, width and
#: classes, for 256 images of 128 values in 8 classes
PROBES: Mapping[str, tuple[float, float]] = {
    "agreement": (0.7, 0.25),
    "probe-layers": (0.08, 0.22),
    "probe-depth": (0.1, 0.73),
}
WIDTH, CLASSES = 128, 8
#: processor time of probing a patch of a tap, and of each of its values and classes, scores and
#: k-NN with them; of 664 nuclei images at 160 px (5 models, 6 blocks of 128 values) and of
#: `bench/dense.py --images 400` on an EPYC of Zen 5
PATCH, VALUE = 2.2e-5, 1.9e-8
#: parts in which the images are predicted where there is no bank
FOLDS = 5
#: images, values and classes of a fit that tells the speed of this machine, and its usual seconds
FIT, REFERENCE = (96, 64, 8), 0.045
#: processor time of a report, and of each section in it
REPORT, SECTION = 0.6, 0.1


def estimate_study(plan: "StudyPlan") -> Cost:
    """Estimate the cost of what a study has not in the store; tables are taken as not there."""
    runner = plan.runner
    seconds = {"start": time.process_time()}
    passes = [*plan.passes, *list_own_passes(plan.situation, plan.analyses, runner.store)]
    seconds["passes"] = PassProbe(runner.device, runner.precision).estimate(passes)
    images = 0 if plan.images is None else len(plan.images)
    grown = len(plan.members) * (1 + images / IMAGES)
    speed = _time_reference()
    plain = [name for name in plan.analyses if name not in PROBES]
    seconds["analyses"] = speed * grown * sum(SECONDS.get(name, USUAL) for name in plain)
    if probes := _estimate_probes(plan):
        seconds["probes"] = speed * probes
    if dense := _estimate_dense(plan):
        seconds["dense probes"] = speed * dense
    seconds["report"] = speed * (REPORT + SECTION * len(plan.analyses))
    trainings = estimate_detectors(plan.situation, plan.analyses, runner.store)
    if "samples" in plan.analyses:
        seconds["samples"] = estimate_samples(plan.situation, runner.store, speed)
    if trainings:
        seconds["detectors"] = sum(one.seconds for one in trainings)
    trained = max((one.memory for one in trainings), default=0.0)
    kept = sum(one.disk for one in trainings)
    return Cost(
        seconds, measure_memory() + _count_held(plan) + trained, _count_written(plan) + kept
    )


def _time_reference() -> float:
    """How slow this machine is beside the one on which analyses were timed."""
    features, labels = make_up(*FIT)
    return time_fit(features, labels, "cpu") / REFERENCE


def _estimate_probes(plan: "StudyPlan") -> float:
    """The seconds of the analyses that train probes, by the sizes of what they read."""
    if plan.images is None or plan.images.labels is None:
        return 0.0
    count = len(plan.images) if plan.bank is None else len(plan.bank)
    classes, total = len(plan.images.classes), 0.0
    for features in _list_features(plan):
        # of more values than images no more directions matter than there are images
        width = min(max(features.columns.values()), count)
        size = count / IMAGES * width / WIDTH * max(1.0, classes / CLASSES)
        for name in plan.analyses:
            fixed, grown = PROBES.get(name, (0.0, 0.0))
            once = name == "agreement" and plan.bank is not None
            total += (fixed + grown * size) / (FOLDS if once else 1)
    return total


def _estimate_dense(plan: "StudyPlan") -> float:
    """The seconds of dense probes, by the patches of all taps, their values and the classes."""
    from sslens.capture import MapReducer
    from sslens.capture.planned import plan_features

    if "dense-depth" not in plan.analyses or plan.images is None or plan.images.objects is None:
        return 0.0
    classes, total = len(plan.images.objects.categories) + 1, 0.0
    count = sum(map(len, plan.situation.sets))
    for model in list_seen(plan.situation).values():
        values = MapReducer().image_bytes(model) / 2  # of float16, all taps
        width = max(plan_features(model, plan.images).columns.values())
        total += count * values * (PATCH / min(width, values) + VALUE * classes)
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
