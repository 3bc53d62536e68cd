"""Pre-training of an encoder with an objective, on the one loop."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from sslens.data.images import ImageSet
from sslens.errors import InputError
from sslens.find import plugin
from sslens.methods.job import TrainingJob, find_no_trivial
from sslens.methods.labels import with_classes
from sslens.methods.settings import require_optimisable
from sslens.models.about import About
from sslens.models.arch import EXAMPLES, parse
from sslens.models.sketching import sketch_networks
from sslens.training.loop import RunRequest, run
from sslens.training.schedule import Training
from sslens.training.watch import Watch
from sslens.zoo.evaluation import make_transform


def pretrain(
    objective: str,
    images: ImageSet,
    arch: str,
    out: Path,
    *,
    settings: Any = None,
    training: Training | None = None,
    resume: bool = False,
    overwrite: bool = False,
    name: str | None = None,
    watch: Watch | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Pre-train an encoder on images with an objective; returns the encoder's file.

    Args:
        objective: the name of a file of `objectives/`.
        images: the images to train on; labelled for an objective that learns classes.
        arch: a name such as `vit_mini_patch8_64`.
        out: the run's folder; the encoder is `last.safetensors` in it.
        settings: the objective's `Settings`; the defaults unless given.
        training: the length of the run, and on what it runs.
        resume: go on from the checkpoint in `out`, or start where there is none yet.
        overwrite: first remove the files of the run or study that `out` holds, and no others.
        name: the model's name in tables and figures; the objective's name unless given.
        watch: what is measured while the run goes on; the log is checked for warning signs only
            where this is given. The weights are the same without it.
        say: called with lines for a person.

    Raises:
        InputError: `out` holds another run, or this run and `resume` is False; too few images, or
            images without classes for an objective that learns them; a loss that is not finite;
            torch cannot compile.
        Mishap: memory ran out, or a data worker or another process was lost; the last state is
            kept.
        Interrupted: on Ctrl-C, SIGTERM, SIGUSR1 or SIGUSR2, after the state was kept; unless the
            signal was Ctrl-C, its handler from before the run is called then.
    """
    chosen = plugin("objectives", objective).Settings() if settings is None else settings
    job = make_pretraining_job(objective, arch, with_classes(objective, chosen, images))
    return run(
        RunRequest(
            job=job,
            images=images,
            out=out,
            training=training or Training(),
            name=name or objective,
            resume=resume,
            overwrite=overwrite,
            observers=() if watch is None else watch.observers(),
            judged=watch is not None,
            tell=() if watch is None else watch.tell,
            say=say,
        )
    )


def make_pretraining_job(objective: str, arch: str, settings: Any) -> TrainingJob:
    """Describe, for the loop, the pre-training of an architecture with an objective.

    Args:
        objective: the name of a file of `objectives/`.
        arch: a name such as `vit_mini_patch8_64`.
        settings: the objective's `Settings`, with the images' classes where the objective learns
            them.

    Raises:
        InputError: there is no such objective or architecture; a setting is out of bounds, or does
            not go with the architecture.
    """
    module, shape = plugin("objectives", objective), parse(arch)
    require_optimisable(settings)
    if shape.kind not in module.KINDS:
        raise InputError(
            f"{objective} cannot train {arch}: it trains"
            f" {' and '.join(EXAMPLES[kind] for kind in module.KINDS)}."
        )
    with sketch_networks():  # settings that do not go with the arch are refused without memory
        sketch = module.Objective(shape, settings)
    return TrainingJob(
        verb="pre-training",
        name=objective,
        learner=objective,
        network=arch,
        settings=settings,
        start=shape,
        batch=module.batch,
        build=lambda: module.Objective(shape, settings),
        sketch=sketch,
        config={"objective": objective, "arch": arch},
        shape=asdict(shape),
        about=About(
            family=module.FAMILY, objective=objective, arch=arch, more=_list_crops(settings)
        ),
        transform=make_transform(shape.image_size),
        in_parts=getattr(module, "IN_PARTS", ""),
        find_trivial=(
            partial(module.find_trivial, settings)
            if hasattr(module, "find_trivial")
            else find_no_trivial
        ),
    )


def _list_crops(settings: Any) -> dict[str, int]:
    """The number of small crops beside the large ones, where the objective has such a setting: in
    detection it tells models apart (`sslens.comparisons.multicrop`)."""
    crops = getattr(settings, "local_crops", None)
    return {} if crops is None else {"local_crops": crops}
