"""`sslens finetune`."""

import contextlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from sslens.cli._options import Common, Text
from sslens.cli._watching import trackers, write_report
from sslens.cli.pretrain import changed, opened, training_of
from sslens.slurm import Slurm


@dataclass(frozen=True)
class Command:
    """Fine-tune a pre-trained model: all its weights, and a classifier on top, learn the classes of labelled images.

    Layers near the images move more slowly than those near the classifier. After each epoch the images of --val are classified
    (top-1, top-5); --out keeps the model of the best epoch, best.safetensors, and the last, both for `sslens compare` and
    sslens.load. Fine-tune a control too, random:NAME: what it also comes to is the recipe's, not the pre-training's.

    Examples:
      sslens finetune mae_vitb16 --images photos/train --val photos/val --preset mae-official --out runs/mae-ft
      sslens finetune runs/mae --images cifar10:train --val cifar10:test --epochs 30 --batch-size 256 --set layer_decay=0.75
      sslens finetune random:vit_small_patch16_224:0 --images photos/train --val photos/val --out runs/control
      torchrun --nproc-per-node 8 -m sslens finetune dino_vitb16 --images photos/train --val photos/val --preset paper-2023
      sslens finetune runs/mae --images photos/train --val photos/val --path --out runs/mae-ft
      sslens finetune runs/mae --images photos/train --val photos/val --path --out runs/mae-ft --resume
    """

    model: tyro.conf.Positional[str]
    """A card's name, a checkpoint file, a folder of sslens pretrain, timm:NAME, or random:NAME[:SEED]."""
    images: str
    """Labelled images: a folder with a subfolder a class, an .npz file, cifar10:train, or scenes[:SEED[:COUNT]]."""
    val: str | None = None
    """Labelled images held out, of the same classes."""
    common: tyro.conf.OmitArgPrefixes[Common] = Common()
    preset: str | None = None
    """mae-official, mae-official-large, mae-official-huge, paper-2023 or paper-2022: settings, epochs and minibatch as published.
    The settings of mae-official with other epochs and minibatch unless given."""
    epochs: int | None = None
    """Passes over the images; the preset's, or 100, unless given."""
    batch_size: int | None = None
    """Images of a step, over all processes; the preset's, or 256, unless given."""
    accumulate: int = 1
    """Parts in which a process computes its share of a step; the step is the same, with less memory."""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE")] = ()
    """Settings, e.g. pooling=cls, base_lr=1e-3, layer_decay=0.75, mixup=0, cutmix=0, randaugment=rand-m9-n3, ema=0.9999."""
    path: bool = False
    """Also measure how far the weights get and how far they travel for that, by kind of parameter and by block, into path.csv."""
    resume: bool = False
    """Go on from the last checkpoint in --out, if there is one."""
    name: str | None = None
    """Of the tuned model in reports; that of the model with -ft unless given."""
    on_bad: Literal["stop", "skip"] = "stop"
    """What to do with an image that cannot be decoded."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """bfloat16 is autocast; losses are float32."""
    compile: bool = False
    """Run the network's blocks by code that torch generates for them first; the same but for rounding."""
    recompute: bool = False
    """Keep only the inputs of the network's blocks, and compute the rest again in the backward pass; the step is the same, with
    less memory and in more time."""
    workers: int | None = None
    """Processes that decode and augment; 0 on a CPU and up to 8 beside a GPU unless given."""
    save_every: int = 0
    """Steps between checkpoints; an epoch unless given."""
    log_every: int = 10
    """Steps between lines of log.jsonl."""
    tensorboard: bool = False
    """Also write the log's lines as TensorBoard events, into --out; wants pip install 'sslens[track]'."""
    wandb: bool = False
    """Also send the log's lines to Weights & Biases; wants pip install 'sslens[track]'."""
    slurm: tyro.conf.OmitArgPrefixes[Slurm] = Slurm()


def run(command: Command, line: str, say: Text) -> Path | None:
    """Carry it out; returns the path of the last model."""
    from sslens import zoo

    zoo.check(command.model)
    settings, epochs, batch_size = _chosen(command)
    from sslens.training import finetune, track
    from sslens.training.watch import Watch

    for wanted in ("tensorboard", "wandb"):
        if getattr(command, wanted):
            track.require(wanted)
    first, common = os.environ.get("RANK", "0") == "0", command.common
    training = training_of(command, epochs, batch_size)
    images = opened(command.images, command, common.limit, say)
    held = None if command.val is None else opened(command.val, command, None, say)
    model = zoo.load(command.model)
    if command.preset is not None:
        finetune.require_fit(command.preset, model)
    name, out = command.name or f"{model.name}-ft", _out(command)
    if held is not None and first and (both := len(held.contents & images.contents)):
        say(
            f"note      {both:,} of the {len(held):,} images of --val are also trained on: what is measured on them says too much."
        )
    if common.dry_run:
        schedule = finetune.tuned(model, images, settings).plan(
            len(images), training, int(os.environ.get("WORLD_SIZE", "1"))
        )
        say(
            f"{model.name}, {len(images):,} images of {images.name}: {schedule.epoch:,} steps an epoch, {schedule.steps:,} in all, "
            f"{schedule.steps * batch_size:,} images seen; into {out}\n{settings}"
        )
        return None
    with contextlib.ExitStack() as stack:
        asked = {"tensorboard": command.tensorboard and first, "wandb": command.wandb and first}
        tell = trackers(stack, out, name, {"settings": asdict(settings), "training": asdict(training)}, **asked)
        path = finetune.finetune(
            model,
            images,
            out,
            settings=settings,
            training=training,
            held=held,
            resume=command.resume,
            name=name,
            watch=Watch(tell=tell),
            path=command.path,
            say=say,
        )
    if not first:
        return None
    say(f"report    {write_report(out, name, line, 'Fine-tuning')}")
    return path


def check(command: Command) -> None:
    """Refuse, before a job waits in a queue, what is known to be wrong without the images and the job's GPUs."""
    from sslens import zoo

    zoo.check(command.model)
    _, _, batch_size = _chosen(command)
    from sslens.training.folder import Folder
    from sslens.training.loop import require_shares

    require_shares(batch_size, command.slurm.tasks, command.accumulate)
    if not command.resume:
        Folder(_out(command), {}).state(resume=False)


def _chosen(command: Command) -> tuple[Any, int, int]:
    """Settings, epochs and minibatch: those of a preset where it is asked for, unless the command gives others."""
    from sslens.recipes import recipe

    chosen = recipe("finetune", command.preset or "mae-official")
    epochs, batch_size = (chosen.epochs, chosen.batch_size) if command.preset else (100, 256)
    return (
        changed(chosen.settings, command.set),
        epochs if command.epochs is None else command.epochs,
        batch_size if command.batch_size is None else command.batch_size,
    )


def _out(command: Command) -> Path:
    return command.common.out or Path("runs") / "finetune"
