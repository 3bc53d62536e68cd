"""`sslens pretrain`."""

import contextlib
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from sslens.arguments.answers import Reply, describe_training
from sslens.arguments.options import Common, Text
from sslens.arguments.training import (
    TrainingOptions,
    build_training,
    check_training,
    choose_settings,
    describe_run,
    first_process,
    open_source,
    require_startable,
)
from sslens.arguments.watching import (
    WatchOptions,
    describe_kept,
    describe_overlap,
    open_held_out,
    open_trackers,
    require_trackers,
    write_report,
)
from sslens.counts import spell_count
from sslens.errors import InputError, nearest
from sslens.find import names
from sslens.slurm import Slurm

GROUP = "train"
#: images that will do
FEWEST = 1


@dataclass(frozen=True)
class Command:
    """Pre-train a Vision Transformer or a CNN: on images with a self-supervised objective, or with
    their labels.

    The learning rate is scaled with the minibatch and printed. Under torchrun the same command uses
    all its processes.

    Examples:
      sslens pretrain mae --images photos/train --arch vit_small_patch16_224 --epochs 200
      sslens pretrain moco-v3 --images cifar10:train --arch vit_mini_patch8_32 --set base_lr=3e-4
          --out runs/moco
      sslens pretrain fcmae --images photos/train --arch convnextv2_atto --batch-size 128
      sslens pretrain moco-v3 --images photos/train --arch resnet50 --recipe resnet50-e100 --out
          runs/resnet
      sslens pretrain dino --images photos/train --arch vit_small_patch16_224 --recipe two-crops
          --batch-size 256
      torchrun --nproc-per-node 8 -m sslens pretrain mae --images photos/train --arch
          vit_base_patch16_224 --batch-size 4096
      sslens pretrain supervised --images photos/train --arch vit_small_patch16_224 --batch-size 256
      sslens pretrain mae --images photos/train --arch vit_small_patch16_224 --out runs/mae --resume
      sslens pretrain mae --images photos/train --arch vit_base_patch16_224 --batch-size 4096
          --slurm --slurm-gpus 8 --dry-run
      sslens pretrain dino --images photos/train --arch vit_small_patch16_224 --knn photos/val
          --knn-every 5
    """

    objective: Annotated[
        str,
        tyro.conf.Positional,
        tyro.conf.arg(
            help=f"{', '.join(names('objectives'))}; supervised learns the classes of images."
        ),
    ]
    images: str
    """A folder, an index FILE.csv[:SPLIT] (path, label, split), an .npz file, cifar10:train, or
    scenes[:SEED[:COUNT]]."""
    arch: str
    """vit_SIZE_patchP_S: SIZE is nano, mini, tiny, small, base, large or huge; P the patch and S
    the image size in pixels. For dino, moco-v3 and supervised also resnet18 to resnet152, for fcmae
    convnextv2_atto to convnextv2_huge, with _S for other images than 224 px; for 32 px also
    resnet_mini_32 and convnextv2_mini_32."""
    common: tyro.conf.OmitArgPrefixes[Common] = Common()
    recipe: str | None = None
    """official: settings, epochs and minibatch as published; of dino, mae and moco-v3 also paper,
    of dino two-crops and resnet50, of moco-v3 resnet50-e100, resnet50-e300 and resnet50-e1000. The
    settings of official, or for a ResNet of the first that is meant for one, with other epochs and
    minibatch, unless given."""
    epochs: int | None = None
    """Passes over the images; the recipe's, or 100, unless given."""
    batch_size: int | None = None
    """Images of a step, over all processes; the recipe's, or 256, unless given."""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE")] = ()
    """Settings of the objective, e.g. mask_ratio=0.6 or base_lr=3e-4."""
    name: str | None = None
    """Of the model in reports; the objective's unless given."""
    watch: tyro.conf.OmitArgPrefixes[WatchOptions] = WatchOptions()
    training: tyro.conf.OmitArgPrefixes[TrainingOptions] = TrainingOptions()
    slurm: tyro.conf.OmitArgPrefixes[Slurm] = Slurm()


def run(command: Command, line: str, say: Text) -> Reply | None:
    """Carry it out; returns the path of the encoder."""
    _require_names(command)
    check_training(command, command.objective, command.recipe, _out(command))
    settings, epochs, batch_size = _choose(command)
    from sslens.methods.labels import with_classes
    from sslens.models.arch import parse
    from sslens.study.training_cost import Looks, estimate_training
    from sslens.training.pretrain import make_pretraining_job, pretrain
    from sslens.training.schedule import doubt_small, schedule_run
    from sslens.training.watch import Watch

    training = build_training(command, epochs, batch_size)
    first = first_process()
    watch = Watch(command.watch.knn_every, states=command.watch.states)
    require_trackers(command.training)

    images = open_source(command.images, command, command.common.limit, say)
    held_out = open_held_out(
        command.watch, lambda source: open_source(source, command, None, say), say
    )
    world = int(os.environ.get("WORLD_SIZE", "1"))
    settings = with_classes(command.objective, settings, images)
    job = make_pretraining_job(command.objective, command.arch, settings)
    schedule = schedule_run(job, len(images), training, world)
    out = _out(command)
    if held_out and first:
        overlap = describe_overlap(held_out, images, learnt=hasattr(settings, "classes"))
        by = f"{len(held_out.bank):,} ({held_out.describe_votes()})"
        say(f"k-NN on {spell_count(len(held_out.queries), 'image')} by {by}{overlap}")
    if first:
        doubt_small(images, parse(command.arch).image_size)
    if command.common.dry_run:
        looks = Looks(None, *watch.count_looks(schedule, held_out))
        cost = estimate_training(job, images, training, schedule, looks)
        what = f"{command.objective}, {command.arch}"
        say(describe_run(what, images, schedule, out, settings, cost))
        return None
    name = command.name or command.objective
    with contextlib.ExitStack() as stack:
        config: dict[str, object] = {"settings": asdict(settings), "training": asdict(training)}
        tell = open_trackers(stack, command.training, out, name, config) if first else ()
        path = pretrain(
            command.objective,
            images,
            command.arch,
            out,
            settings=settings,
            training=training,
            resume=command.training.resume,
            overwrite=command.common.overwrite,
            name=command.name,
            watch=replace(watch, held=held_out, tell=tell),
            say=say,
        )
    if not first:
        return None
    report = write_report(out, name, line, held=held_out)
    say("\n".join([*describe_kept(out, held=held_out), f"report    {report}"]))
    return Reply(describe_training(out, report, held=held_out), path)


def check(command: Command) -> None:
    """Refuse, before a job waits in a queue, what is known to be wrong without the images and the
    job's GPUs."""
    _, _, batch_size = _choose(command)
    require_startable(command, batch_size, _out(command))


def _require_names(command: Command) -> None:
    """Refuse an unknown objective or architecture."""
    if command.objective not in names("objectives"):
        raise InputError(
            f'There is no objective "{command.objective}":'
            f" {nearest(command.objective, names('objectives'))}"
        )
    from sslens.models.arch import parse

    parse(command.arch)


def _choose(command: Command) -> tuple[Any, int, int]:
    """Settings, epochs and minibatch: those of a recipe where it is asked for, unless the command
    gives others."""
    _require_names(command)
    from sslens.models.arch import parse
    from sslens.recipes import meant_for, recipe

    kind = parse(command.arch).kind
    chosen = recipe(command.objective, command.recipe or meant_for(command.objective, kind))
    return choose_settings(command, chosen, asked=command.recipe is not None)


def _out(command: Command) -> Path:
    return command.common.out or Path("runs") / command.objective
