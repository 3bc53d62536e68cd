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

if TYPE_CHECKING:
    from sslens.data import ImageSet
    from sslens.training.loop import Training


@dataclass(frozen=True)
class Command:
    """Pre-train a Vision Transformer or a CNN on images with a self-supervised objective.

    The learning rate is scaled with the minibatch and printed. Under torchrun the same command uses all its processes.

    Examples:
      sslens pretrain mae --images photos/train --arch vit_small_patch16_224 --epochs 200
      sslens pretrain moco-v3 --images cifar10:train --arch vit_mini_patch8_32 --set base_lr=3e-4 --out runs/moco
      sslens pretrain fcmae --images photos/train --arch convnextv2_atto --batch-size 128
      sslens pretrain moco-v3 --images photos/train --arch resnet50 --recipe resnet50-e100 --out runs/resnet
      sslens pretrain dino --images photos/train --arch vit_small_patch16_224 --recipe two-crops --batch-size 256
      torchrun --nproc-per-node 8 -m sslens pretrain mae --images photos/train --arch vit_base_patch16_224 --batch-size 4096
      sslens pretrain mae --images photos/train --arch vit_small_patch16_224 --out runs/mae --resume
      sslens pretrain dino --images photos/train --arch vit_small_patch16_224 --knn photos/val --knn-every 5
    """

    objective: tyro.conf.Positional[str]
    """dino, fcmae, mae, moco-v3 or msn."""
    images: str
    """A folder, an .npz file, cifar10:train, or scenes[:SEED[:COUNT]]."""
    arch: str
    """vit_SIZE_patchP_S: SIZE is nano, mini, tiny, small, base, large or huge; P the patch and S the image size in pixels.
    For dino and moco-v3 also resnet18 to resnet152, for fcmae convnextv2_atto to convnextv2_huge, with _S for other images than
    224 px."""
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


def run(command: Command, line: str, say: Text) -> Path | None:
    """Carry it out; returns the path of the encoder."""
    from sslens.find import names

    if command.objective not in names("objectives"):
        raise InputError(
            f'There is no objective "{command.objective}": {nearest(command.objective, names("objectives"))}'
        )
    from sslens.models.arch import parse
    from sslens.recipes import meant_for, recipe
    from sslens.training import loop, track
    from sslens.training.watch import Watch

    kind = parse(command.arch).kind
    chosen = recipe(command.objective, command.recipe or meant_for(command.objective, kind))
    settings = changed(chosen.settings, command.set)
    common = command.common
    training = _training(command, *((chosen.epochs, chosen.batch_size) if command.recipe else (100, 256)))
    first = os.environ.get("RANK", "0") == "0"
    watch = Watch(command.knn_every)
    for wanted in ("tensorboard", "wandb"):
        if getattr(command, wanted):
            track.require(wanted)

    images = _opened(command.images, command, common.limit, say)
    held = held_out(command.knn, command.knn_bank, lambda source: _opened(source, command, None, say))
    world = int(os.environ.get("WORLD_SIZE", "1"))
    schedule = loop.plan(command.objective, len(images), command.arch, settings, training, world)
    out = common.out or Path("runs") / command.objective
    if held and first:
        say(f"k-NN on {len(held.queries):,} images by {len(held.bank):,}{also_trained_on(held, images)}")
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


def _opened(source: str, command: Command, limit: int | None, say: Text) -> "ImageSet":
    """The images of a source; those that were left out are said once, however many processes there are."""
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


def _training(command: Command, epochs: int, batch_size: int) -> "Training":
    """How long and on what, with the epochs and the minibatch of a recipe unless the command gives others."""
    from sslens.processes import best_device
    from sslens.training.loop import Training

    device = best_device(command.common.device)
    workers = 0 if device == "cpu" else min(8, os.cpu_count() or 1)
    return Training(
        epochs=epochs if command.epochs is None else command.epochs,
        batch_size=batch_size if command.batch_size is None else command.batch_size,
        accumulate=command.accumulate,
        seed=command.common.seed,
        device=device,
        precision=command.precision,
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
