"""`sslens pretrain`."""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from sslens.cli._options import Common, Text
from sslens.cli._watching import also_trained_on, held_out, trackers, write_report
from sslens.errors import InputError, nearest
from sslens.slurm import Slurm

if TYPE_CHECKING:
    from sslens.data import ImageSet
    from sslens.training.loop import Training


@dataclass(frozen=True)
class Command:
    """Pre-train a Vision Transformer or a CNN on images with a self-supervised objective, or with their labels.

    The learning rate is scaled with the minibatch and printed. Under torchrun the same command uses all its processes.

    Examples:
      sslens pretrain mae --images photos/train --arch vit_small_patch16_224 --epochs 200
      sslens pretrain moco-v3 --images cifar10:train --arch vit_mini_patch8_32 --set base_lr=3e-4 --out runs/moco
      sslens pretrain fcmae --images photos/train --arch convnextv2_atto --batch-size 128
      sslens pretrain moco-v3 --images photos/train --arch resnet50 --recipe resnet50-e100 --out runs/resnet
      sslens pretrain dino --images photos/train --arch vit_small_patch16_224 --recipe two-crops --batch-size 256
      torchrun --nproc-per-node 8 -m sslens pretrain mae --images photos/train --arch vit_base_patch16_224 --batch-size 4096
      sslens pretrain supervised --images photos/train --arch vit_small_patch16_224 --batch-size 256
      sslens pretrain mae --images photos/train --arch vit_small_patch16_224 --out runs/mae --resume
      sslens pretrain mae --images photos/train --arch vit_base_patch16_224 --batch-size 4096 --slurm --slurm-gpus 8 --dry-run
      sslens pretrain dino --images photos/train --arch vit_small_patch16_224 --knn photos/val --knn-every 5
    """

    objective: tyro.conf.Positional[str]
    """dino, fcmae, mae, moco-v3, msn, or supervised, which learns the classes of --images."""
    images: str
    """A folder, an .npz file, cifar10:train, or scenes[:SEED[:COUNT]]."""
    arch: str
    """vit_SIZE_patchP_S: SIZE is nano, mini, tiny, small, base, large or huge; P the patch and S the image size in pixels.
    For dino, moco-v3 and supervised also resnet18 to resnet152, for fcmae convnextv2_atto to convnextv2_huge, with _S for other
    images than 224 px."""
    common: tyro.conf.OmitArgPrefixes[Common] = Common()
    recipe: str | None = None
    """official or paper, for some objectives more: settings, epochs and minibatch as published. The settings of official, or for
    a ResNet of the first that is meant for one, with other epochs and minibatch, unless given."""
    epochs: int | None = None
    """Passes over the images; the recipe's, or 100, unless given."""
    batch_size: int | None = None
    """Images of a step, over all processes; the recipe's, or 256, unless given."""
    accumulate: int = 1
    """Parts in which a process computes its share of a step; the step is the same, with less memory."""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE")] = ()
    """Settings of the objective, e.g. mask_ratio=0.6 or base_lr=3e-4."""
    resume: bool = False
    """Go on from the last checkpoint in --out, if there is one."""
    name: str | None = None
    """Of the model in reports; the objective's unless given."""
    on_bad: Literal["stop", "skip"] = "stop"
    """What to do with an image that cannot be decoded."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """bfloat16 is autocast; losses are float32."""
    compile: bool = False
    """Run the networks' blocks by code that torch generates for them first; the same but for rounding."""
    recompute: bool = False
    """Keep only the inputs of the networks' blocks, and compute the rest again in the backward pass; the step is the same, with
    less memory and in more time."""
    workers: int | None = None
    """Processes that decode and augment; 0 on a CPU and up to 8 beside a GPU unless given."""
    save_every: int = 0
    """Steps between checkpoints; an epoch unless given."""
    log_every: int = 10
    """Steps between lines of log.jsonl."""
    knn: str | None = None
    """Labelled images held out, for k-NN accuracy while the training runs: a fifth of them, by SHA-256 of their ids, is
    classified by the rest."""
    knn_bank: str | None = None
    """Labelled images that classify those of --knn, of which all are then classified."""
    knn_every: int | None = None
    """Epochs between looks at the encoder (k-NN, and whether it makes the same of all images); a twentieth of the run unless
    given."""
    tensorboard: bool = False
    """Also write the log's lines as TensorBoard events, into --out; wants pip install 'sslens[track]'."""
    wandb: bool = False
    """Also send the log's lines to Weights & Biases; wants pip install 'sslens[track]'."""
    slurm: tyro.conf.OmitArgPrefixes[Slurm] = Slurm()


def run(command: Command, line: str, say: Text) -> Path | None:
    """Carry it out; returns the path of the encoder."""
    settings, epochs, batch_size = _chosen(command)
    from sslens.models.arch import parse
    from sslens.training import loop, track
    from sslens.training.labels import with_classes
    from sslens.training.watch import Watch

    common = command.common
    training = training_of(command, epochs, batch_size)
    first = os.environ.get("RANK", "0") == "0"
    watch = Watch(command.knn_every)
    for wanted in ("tensorboard", "wandb"):
        if getattr(command, wanted):
            track.require(wanted)

    images = opened(command.images, command, common.limit, say)
    held = held_out(command.knn, command.knn_bank, lambda source: opened(source, command, None, say))
    world = int(os.environ.get("WORLD_SIZE", "1"))
    settings = with_classes(command.objective, settings, images)
    schedule = loop.plan(command.objective, len(images), command.arch, settings, training, world)
    out = _out(command)
    if held and first:
        also = also_trained_on(held, images, learnt=hasattr(settings, "classes"))
        say(f"k-NN on {len(held.queries):,} images by {len(held.bank):,}{also}")
    if first:
        loop.doubt_small(images, parse(command.arch).image_size)
    if common.dry_run:
        say(
            f"{command.objective}, {command.arch}, {len(images):,} images of {images.name}: {schedule.epoch:,} steps an epoch, "
            f"{schedule.steps:,} in all, {schedule.steps * training.batch_size:,} images seen; into {out}\n{settings}"
        )
        return None
    name = command.name or command.objective
    with contextlib.ExitStack() as stack:
        asked = {"tensorboard": command.tensorboard and first, "wandb": command.wandb and first}
        tell = trackers(stack, out, name, {"settings": asdict(settings), "training": asdict(training)}, **asked)
        path = loop.train(
            command.objective,
            images,
            command.arch,
            out,
            settings=settings,
            training=training,
            resume=command.resume,
            name=command.name,
            watch=replace(watch, held=held, tell=tell),
            say=say,
        )
    if not first:
        return None
    say(f"report    {write_report(out, name, line)}")
    return path


def check(command: Command) -> None:
    """Refuse, before a job waits in a queue, what is known to be wrong without the images and the job's GPUs."""
    _, _, batch_size = _chosen(command)
    from sslens.training.folder import Folder
    from sslens.training.loop import require_shares

    require_shares(batch_size, command.slurm.tasks, command.accumulate)
    if not command.resume:
        Folder(_out(command), {}).state(resume=False)


def _chosen(command: Command) -> tuple[Any, int, int]:
    """Settings, epochs and minibatch: those of a recipe where it is asked for, unless the command gives others."""
    from sslens.find import names

    if command.objective not in names("objectives"):
        raise InputError(
            f'There is no objective "{command.objective}": {nearest(command.objective, names("objectives"))}'
        )
    from sslens.models.arch import parse
    from sslens.recipes import meant_for, recipe

    kind = parse(command.arch).kind
    chosen = recipe(command.objective, command.recipe or meant_for(command.objective, kind))
    epochs, batch_size = (chosen.epochs, chosen.batch_size) if command.recipe else (100, 256)
    return (
        changed(chosen.settings, command.set),
        epochs if command.epochs is None else command.epochs,
        batch_size if command.batch_size is None else command.batch_size,
    )


def _out(command: Command) -> Path:
    return command.common.out or Path("runs") / command.objective


def opened(source: str, command: Any, limit: int | None, say: Text) -> "ImageSet":
    """The images of a source of a command that trains; those that were left out are said once, however many processes there are."""
    from sslens.data import open_images
    from sslens.progress import progress

    first = os.environ.get("RANK", "0") == "0"
    with progress("checking images", quiet=not first) as report:
        found = open_images(
            source, on_bad=command.on_bad, limit=limit, seed=command.common.seed, minimum=1, progress=report
        )
    if found.skipped and first:
        shown = "; ".join(f"{name} ({reason})" for name, reason in found.skipped[:20])
        say(f"{len(found.skipped)} images could not be decoded and were left out: {shown}")
    return found


def training_of(command: Any, epochs: int, batch_size: int) -> "Training":
    """How long a command trains, and on what."""
    from sslens.processes import best_device
    from sslens.training.loop import Training

    device = best_device(command.common.device)
    workers = 0 if device == "cpu" else min(8, os.cpu_count() or 1)
    return Training(
        epochs=epochs,
        batch_size=batch_size,
        accumulate=command.accumulate,
        seed=command.common.seed,
        device=device,
        precision=command.precision,
        compile=command.compile,
        recompute=command.recompute,
        workers=workers if command.workers is None else command.workers,
        save_every=command.save_every,
        log_every=command.log_every,
    )


def changed(settings: Any, overrides: Sequence[str]) -> Any:
    """The settings of an objective with KEY=VALUE overrides.

    Raises:
        InputError: a key is not one of the settings, or a value is not of its kind.
    """
    import yaml

    now = asdict(settings)
    now.pop("classes", None)  # those of the images
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise InputError(f'"{override}" is no setting: expected KEY=VALUE.')
        if key not in now:
            raise InputError(f'There is no setting "{key}": {nearest(key, now)}')
        kind = type(now[key])
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text
        if kind is float and isinstance(value, str | int):
            # YAML takes 3e-4 for text
            try:
                value = float(value)
            except ValueError:
                value = text
        if kind is tuple and isinstance(value, list):
            value = tuple(float(each) for each in value)
        if type(value) is not kind:
            raise InputError(f'The setting {key} is "{text}": expected a {kind.__name__} such as {now[key]}.')
        now[key] = value
    return type(settings)(**now)
