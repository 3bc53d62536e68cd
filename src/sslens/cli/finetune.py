"""`sslens finetune`."""

import contextlib
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    describe_trained,
    open_held_out,
    open_trackers,
    require_trackers,
    write_report,
)
from sslens.slurm import Slurm

if TYPE_CHECKING:
    from sslens.data import ImageSet
    from sslens.training.watch import HeldOut

GROUP = "train"
#: images that will do
FEWEST = 1


@dataclass(frozen=True)
class Command:
    """Fine-tune a pre-trained model: all its weights, and a classifier on top, learn the classes of
    labelled images.

    Layers near the images move more slowly than those near the classifier. After each epoch the
    images of --val are classified (top-1, top-5); --out keeps the model of the best epoch,
    best.safetensors, and the last, both for `sslens compare` and sslens.load. Fine-tune a control
    too, random:NAME: what it also comes to is the recipe's, not the pre-training's.

    Examples:
      sslens finetune mae_vitb16 --images photos/train --val photos/val --preset mae-official --out
          runs/mae-ft
      sslens finetune runs/mae --images cifar10:train --val cifar10:val --epochs 30 --batch-size
          256 --set layer_decay=0.75
      sslens finetune random:vit_small_patch16_224:0 --images photos/train --val photos/val --out
          runs/control
      torchrun --nproc-per-node 8 -m sslens finetune dino_vitb16 --images photos/train --val
          photos/val --preset paper-2023
      sslens finetune runs/mae --images photos/train --val photos/val --path --out runs/mae-ft
      sslens finetune runs/mae --images photos/train --val photos/val --path --out runs/mae-ft
          --resume
    """

    model: tyro.conf.Positional[str]
    """A card's name, a checkpoint file, a folder of sslens pretrain, timm:NAME,
    random:NAME[:SEED] or MODULE:FUNCTION."""
    images: str
    """Labelled images: a folder with a subfolder a class, an index FILE.csv[:SPLIT] (path, label,
    split), an .npz file, cifar10:train, or scenes[:SEED[:COUNT]]."""
    val: str | None = None
    """Labelled images held out, of the same classes."""
    common: tyro.conf.OmitArgPrefixes[Common] = Common()
    preset: str | None = None
    """mae-official, mae-official-large, mae-official-huge, paper-2023 or paper-2022: settings,
    epochs and minibatch as published. The settings of mae-official with other epochs and
    minibatch unless given."""
    epochs: int | None = None
    """Passes over the images; the preset's, or 100, unless given."""
    batch_size: int | None = None
    """Images of a step, over all processes; the preset's, or 256, unless given."""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE")] = ()
    """Settings, e.g. pooling=cls, base_lr=1e-3, layer_decay=0.75, mixup=0, cutmix=0,
    randaugment=rand-m9-n3, ema=0.9999."""
    path: bool = False
    """Also measure how far the weights get and how far they travel for that, by kind of parameter
    and by block, into path.csv."""
    name: str | None = None
    """Of the tuned model in reports; that of the model with -ft unless given."""
    watch: tyro.conf.OmitArgPrefixes[WatchOptions] = WatchOptions()
    training: tyro.conf.OmitArgPrefixes[TrainingOptions] = TrainingOptions()
    slurm: tyro.conf.OmitArgPrefixes[Slurm] = Slurm()


def run(command: Command, line: str, say: Text) -> Reply | None:
    """Carry it out; returns the path of the last model."""
    from sslens import zoo

    zoo.check(command.model)
    check_training(command, "finetune", command.preset, _out(command), (command.model,))
    settings, epochs, batch_size = _choose(command)
    from sslens.study.training_cost import Looks, estimate_training
    from sslens.tasks import classification
    from sslens.tasks.accuracy import Accuracy
    from sslens.training.finetune import finetune, require_fit
    from sslens.training.schedule import schedule_run
    from sslens.training.watch import Watch

    watch = Watch(command.watch.knn_every, states=command.watch.states)
    require_trackers(command.training)
    first, common = first_process(), command.common
    training = build_training(command, epochs, batch_size)
    images = open_source(command.images, command, common.limit, say)
    held_out = None if command.val is None else open_source(command.val, command, None, say)
    classified = open_held_out(
        command.watch, lambda source: open_source(source, command, None, say), say
    )
    model = zoo.load(command.model)
    if command.preset is not None:
        require_fit(command.preset, model)
    name, out = command.name or f"{model.name}-ft", _out(command)
    if held_out is not None and first and (note := describe_trained(held_out, images)):
        say(note)
    if common.dry_run:
        world = int(os.environ.get("WORLD_SIZE", "1"))
        job = classification.job(model, images, settings)
        schedule = schedule_run(job, len(images), training, world)
        judge = Accuracy(held_out, model.transform, job.settings.classes) if held_out else None
        looks = Looks(judge, *watch.count_looks(schedule, classified))
        cost = estimate_training(job, images, training, schedule, looks)
        say(describe_run(model.name, images, schedule, out, settings, cost))
        return None
    with contextlib.ExitStack() as stack:
        config: dict[str, object] = {"settings": asdict(settings), "training": asdict(training)}
        tell = open_trackers(stack, command.training, out, name, config) if first else ()
        path = finetune(
            model,
            images,
            out,
            settings=settings,
            training=training,
            held=held_out,
            resume=command.training.resume,
            overwrite=command.common.overwrite,
            name=name,
            watch=replace(watch, held=classified, tell=tell),
            path=command.path,
            say=say,
        )
    return _conclude(path, (out, name, line), held_out, classified, say) if first else None


def _conclude(
    path: Path,
    run: tuple[Path, str, str],
    held_out: "ImageSet | None",
    classified: "HeldOut | None",
    say: Text,
) -> Reply:
    """Write the page of a run, and say how good the model is.

    Args:
        path: the last model.
        run: the folder of the run, the model's name, and what was typed.
        held_out: the images of --val.
        classified: the images of --knn.
        say: speaks to the person.
    """
    from sslens.training.curves import Judged

    judged = None if held_out is None else Judged.of(held_out)
    report = write_report(*run, "Fine-tuning", judged, classified)
    say("\n".join([*describe_kept(run[0], judged, classified), f"report    {report}"]))
    return Reply(describe_training(run[0], report, judged, classified), path)


def check(command: Command) -> None:
    """Refuse, before a job waits in a queue, what is known to be wrong without the images and the
    job's GPUs."""
    from sslens import zoo

    zoo.check(command.model)
    _, _, batch_size = _choose(command)
    require_startable(command, batch_size, _out(command), (command.model,))


def _choose(command: Command) -> tuple[Any, int, int]:
    """Settings, epochs and minibatch: those of a preset where it is asked for, unless the command
    gives others."""
    from sslens.recipes import recipe

    chosen = recipe("finetune", command.preset or "mae-official")
    return choose_settings(command, chosen, asked=command.preset is not None)


def _out(command: Command) -> Path:
    return command.common.out or Path("runs") / "finetune"
