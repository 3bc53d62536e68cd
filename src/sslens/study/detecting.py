"""The detectors of a study: they are trained, judged and kept."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sslens.counts import spell_count
from sslens.data.rle import import_hotcoco
from sslens.errors import Doubt, Interrupted
from sslens.progress import announce, progress
from sslens.store import Store, digest, home
from sslens.study.detector_runs import DetectorRun, Protocol, list_runs
from sslens.study.situation import Captured, Situation

if TYPE_CHECKING:
    from torch import Tensor

    from sslens.comparisons.detectors import DetectorSet, TrainedDetector
    from sslens.processes import Processes
    from sslens.scoring.areas import AreaBins
    from sslens.scoring.detected import Detected
    from sslens.study.detector_cost import TrainingsCost
    from sslens.tasks.detecting import Judged
    from sslens.tasks.detection_maps import CachedMaps

#: the kind of what the store keeps of each detector
KIND = "detectors"
#: the analyses that train detectors: whether networks are trained too, and whether several blocks
#: are joined
DETECTORS: Mapping[str, tuple[bool, bool]] = {
    "detection-frozen": (False, False),
    "detection-finetuned": (True, False),
    "detection-layers": (False, True),
}
#: the cost of trainings that was estimated in this process, by what they are
_ESTIMATED: "dict[str, TrainingsCost]" = {}
#: what is scored, the boxes first
_PLURALS = ("boxes", "masks")
#: images of COCO's val2017 with an object, at least: fewer are a part of it
VAL2017 = 4900
#: box AP under which a detector has learned nothing
UNLEARNED = 0.005


def train_all(captured: Captured, *, tuned: bool = False, several: bool = False) -> "DetectorSet":
    """Train the detectors of a study that the store lacks, and judge them; each goes on where it
    was stopped.

    Under torchrun every process calls this, and all share each training.
    """
    from sslens.comparisons.detectors import DetectorSet
    from sslens.scoring.areas import choose_areas

    situation, store = captured.situation, captured.store or Store(home() / "store")
    protocol = Protocol.of(situation, tuned=tuned, several=several)
    runs = list_runs(situation, protocol, store)
    _list_missing(runs, store)
    detectors = {run.member.name: _read(run) or _train(run) for run in runs}
    numbers = [one.numbers for one in detectors.values()]
    sizes = describe_areas(choose_areas(runs[0].train))
    judged = runs[0].images
    if not situation.quiet and all(one.value[0, 0] < UNLEARNED for one in numbers):
        too = ", the controls' included" if any(run.member.control for run in runs) else ""
        network = "a fine-tuned network" if tuned else "joined blocks" if several else "one block"
        warnings.warn(
            f"No detector on {network} has learned to find objects{too}: train longer, or on more"
            " images.",
            Doubt,
            stacklevel=2,
        )
    as_published = (
        judged.is_coco
        and len(judged) >= VAL2017
        and not choose_areas(runs[0].train).relative
        and protocol.settings.heads == "vitdet"
    )
    return DetectorSet(detectors, judged, sizes, protocol.describe(), as_published)


def _list_missing(runs: Sequence[DetectorRun], store: Store) -> list[DetectorRun]:
    """List the runs without numbers in the store.

    Raises:
        InputError: there are some, and the package that scores them is not installed: a detector is
            scored after hours of training.
    """
    missing = [run for run in runs if not store.has(KIND, run.judged_key)]
    if missing:
        import_hotcoco()
    return missing


def _train(run: DetectorRun) -> "TrainedDetector":
    """Train a detector, judge it, and keep its numbers."""
    from sslens.processes import processes
    from sslens.tasks.detecting import AveragePrecision
    from sslens.training.detect import train_detector

    protocol, network = run.protocol, run.member.network
    maps, judged = None, None
    with processes(run.situation.device) as where:
        quiet = run.situation.quiet or not where.first
        with progress(f"maps of {run.member.name}", quiet=quiet) as report:
            if not protocol.tuned:
                maps = run.make_maps(training=True, report=report)
            judged = run.judged()
        network.to("cpu")
    try:
        train_detector(
            network,
            run.train,
            run.folder,
            settings=replace(protocol.settings, size=run.side),
            training=protocol.training(run.situation),
            maps=maps,
            evaluation=AveragePrecision(judged, run.member.name, run.situation.quiet),
            resume=True,
            name=run.member.name,
        )
    except Interrupted as error:  # a study goes on by itself, and not every command has an option
        raise Interrupted(error.message, mend="say the same again to go on") from None
    with processes(run.situation.device) as where:
        _judge(run, judged, maps, where)
    kept = _read(run)
    assert kept is not None
    return kept


def _judge(
    run: DetectorRun, judged: "Judged", maps: "CachedMaps | None", where: "Processes"
) -> None:
    """Score what a trained detector finds, and keep it; all processes wait until it is kept."""
    import torch
    import torch.distributed as dist

    from sslens.processes import best_precision
    from sslens.tasks.detecting import find_all
    from sslens.tasks.detection import Detection
    from sslens.training.detect import TrainingRecord, load_detector

    training = run.protocol.training(run.situation)
    settings = replace(run.protocol.settings, size=run.side, classes=run.train.categories)
    shape = None if maps is None else maps.shape
    method = Detection(run.member.network, settings, shape, run.train.has_masks)
    method = load_detector(run.folder, method).to(where.device)
    precision = best_precision(training.precision, where.device)
    quiet = run.situation.quiet or not where.first
    with progress(f"objects by {run.member.name}", quiet=quiet) as report:
        found = find_all(judged, method, where, precision, report)
    if where.first:
        scored = _score(found, run)
        record = TrainingRecord.of(run.folder, training.batch_size)
        length = [record.steps, record.seconds, record.loss, record.gained]
        tensors = scored | {"length": torch.tensor(length, dtype=torch.float64)}
        run.store.write(KIND, run.judged_key, tensors)
    if where.size > 1:
        dist.barrier()


def _score(found: "Mapping[str, Detected]", run: DetectorRun) -> "dict[str, Tensor]":
    """Score what a detector finds in all images, in draws of them too; as tensors for the store.
    Numbers of masks are nan where the objects that train or judge have none."""
    import torch

    from sslens.scoring.areas import choose_areas
    from sslens.scoring.score import Kind, Scores, score
    from sslens.statistics.bootstrap import DRAWS, Bootstrapped

    areas = choose_areas(run.train)
    has_masks = run.train.has_masks and run.images.has_masks
    kinds: tuple[Kind, ...] = ("box", "mask") if has_masks else ("box",)
    name, quiet, count = run.member.name, run.situation.quiet, len(run.images)
    announce(
        f"scoring {name}: {' and '.join(_PLURALS[: len(kinds)])} in {spell_count(count, 'image')},"
        f" then in {DRAWS:,} draws of these for intervals",
        quiet=quiet,
    )
    with progress(f"scored {name}", unit="", quiet=quiet) as report:
        scores: list[Scores] = []
        numbers: list[Bootstrapped] = []
        steps = 2 * len(kinds)
        for kind in kinds:
            scores.append(score(found, run.images, kind, areas))
            report(len(scores) + len(numbers), steps)
            numbers.append(scores[-1].bootstrap())
            report(len(scores) + len(numbers), steps)
    values = [each.value for each in numbers]
    draws = [each.draws for each in numbers]
    categories = [each.by_category[0] for each in scores]
    if len(kinds) == 1:
        for part in (values, draws, categories):
            part.append(np.full_like(part[0], np.nan))
    counts = [len(found[name]) for name in run.images.ids]
    columns = {
        "values": np.stack(values),
        "draws": np.stack(draws),
        "categories": np.stack(categories),
        "image": np.repeat(np.arange(len(counts)), counts),
        "boxes": np.concatenate([found[name].boxes for name in run.images.ids]),
        "scores": np.concatenate([found[name].scores for name in run.images.ids]),
        "labels": np.concatenate([found[name].labels for name in run.images.ids]),
    }
    return {name: torch.from_numpy(np.ascontiguousarray(each)) for name, each in columns.items()}


def describe_areas(areas: "AreaBins") -> str:
    """Say what small, medium and large mean.

    >>> from sslens.scoring.areas import COCO_AREAS, AreaBins
    >>> describe_areas(COCO_AREAS)
    'small: under 32 × 32 pixels; large: over 96 × 96 pixels (COCO)'
    >>> describe_areas(AreaBins(0.03, 0.065, relative=True))
    'thirds of the training objects by relative area; small: under 3.0 %, large: over 6.5 %'
    """
    if areas.relative:
        return (
            "thirds of the training objects by relative area; small: under"
            f" {areas.lower:.1%}, large: over {areas.upper:.1%}".replace("%", " %")
        )
    lower, upper = (f"{area**0.5:.0f} × {area**0.5:.0f}" for area in (areas.lower, areas.upper))
    return f"small: under {lower} pixels; large: over {upper} pixels (COCO)"


def _read(run: DetectorRun) -> "TrainedDetector | None":
    """Read a detector's numbers from the store; None where they are not there."""
    from sslens.comparisons.detectors import Found, TrainedDetector, TrainingLength
    from sslens.statistics.bootstrap import Bootstrapped

    stored = run.store.read(KIND, run.judged_key)
    if stored is None:
        return None
    arrays = {name: tensor.numpy() for name, tensor in stored.items()}
    drawn = (run.images.digest, run.judged_key["draws"])
    steps, seconds, loss, gained = arrays["length"].tolist()
    epochs, batch = run.protocol.request.epochs, run.protocol.request.batch_size
    return TrainedDetector(
        Bootstrapped(arrays["values"], arrays["draws"], drawn, len(run.images)),
        arrays["categories"],
        Found(arrays["image"], arrays["boxes"], arrays["scores"], arrays["labels"]),
        TrainingLength(int(steps), epochs, batch, seconds, loss, gained),
        run.judged_key,
    )


def describe_cost(
    situation: Situation, store: Store, *, tuned: bool = False, several: bool = False
) -> Iterator[str]:
    """Say what detectors would be trained, and what that costs in time, memory and disk; the time
    of a step is measured on a small one."""
    protocol = Protocol.of(situation, tuned=tuned, several=several)
    runs = list_runs(situation, protocol, store)
    yield f"detectors {protocol.describe()}"
    missing = _list_missing(runs, store)
    names = ", ".join(run.member.name for run in missing)
    if not missing:
        yield f"          of {spell_count(len(runs), 'model')}, all in the store"
        return
    yield f"          {len(missing)} of {len(runs)} to be trained: {names}"
    cost = _estimate(missing)
    yield f"          {cost.describe()}"


def estimate_detectors(
    situation: Situation, analyses: Sequence[str], store: Store
) -> "list[TrainingsCost]":
    """Estimate what the detectors cost that analyses would train, those of the store left out."""
    costs = []
    for name in analyses:
        if name in DETECTORS:
            tuned, several = DETECTORS[name]
            protocol = Protocol.of(situation, tuned=tuned, several=several)
            runs = list_runs(situation, protocol, store)
            missing = _list_missing(runs, store)
            costs += [_estimate(missing)] if missing else []
    return costs


def _estimate(missing: "Sequence[DetectorRun]") -> "TrainingsCost":
    """Estimate the cost of trainings; a step is measured once."""
    from sslens.study.detector_cost import estimate_trainings

    key = digest([dict(run.judged_key) for run in missing])
    if key not in _ESTIMATED:
        _ESTIMATED[key] = estimate_trainings(missing)
    return _ESTIMATED[key]


def forget_unfinished(situation: Situation, analyses: tuple[str, ...], store: Store) -> None:
    """Remove the trainings of these analyses that were stopped, so that they begin anew."""
    from sslens.training.run_files import remove_run

    for name in analyses:
        if name in DETECTORS:
            tuned, several = DETECTORS[name]
            protocol = Protocol.of(situation, tuned=tuned, several=several)
            for run in list_runs(situation, protocol, store):
                if not store.has(KIND, run.judged_key):
                    remove_run(run.folder)
