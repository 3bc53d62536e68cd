"""The command line: arguments only; nothing heavy is imported before they are known to be right."""

import errno
import inspect
import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from sslens.errors import InputError, nearest

Text = Callable[[str], None]


@dataclass(frozen=True)
class Common:
    """What every command that computes takes."""

    out: Path | None = None
    """Folder for the results."""
    seed: int = 0
    """Of every choice that is random."""
    limit: int | None = None
    """Images taken at most, drawn by their ids and the seed."""
    device: str = "auto"
    """cpu, cuda, cuda:1, …; auto takes a GPU where there is one."""
    dry_run: bool = False
    """Print the plan and its cost, and stop."""


@dataclass(frozen=True)
class Compare:
    """Compare models on images: one report with CKA by block and layer type, and k-NN by depth.

    A MODEL is a folder or file of sslens pretrain, timm:NAME, or random:NAME[:SEED].

    Examples:
      sslens compare runs/mae runs/moco-v3 --images photos/val
      sslens compare timm:vit_base_patch16_224.mae timm:vit_base_patch16_224.dino --images photos --limit 1024
      sslens compare runs/mae random:vit_mini_patch8_64 --images scenes --dry-run
    """

    models: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="MODEL [MODEL ...]")]
    """Models to compare."""
    images: str
    """A folder (a class a subfolder, or flat), an .npz file, cifar10[:val|:train], or scenes[:SEED[:COUNT]]."""
    common: tyro.conf.OmitArgPrefixes[Common] = Common(limit=1024)
    bank: str | None = None
    """Labelled images whose neighbours vote in k-NN; without it each image is classified by all others."""
    analyses: tuple[str, ...] = ()
    """Which analyses; all of them unless given."""
    controls: bool = True
    """Random initialisations of each architecture and raw pixels beside the models."""
    batch: int = 32
    """Images in a minibatch of CKA."""
    on_bad: Literal["stop", "skip"] = "stop"
    """What to do with an image that cannot be decoded."""
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """Of the forward pass; Grams are float32."""


@dataclass(frozen=True)
class StudyFile:
    """Carry out a study from its file, such as the study.yaml that every report has beside it.

    Examples:
      sslens study report/study.yaml
      sslens study study.yaml limit=256 controls=false --out smaller
    """

    file: tyro.conf.Positional[Path]
    """The YAML file."""
    overrides: tyro.conf.Positional[tuple[str, ...]] = ()
    """KEY=VALUE for keys of the study."""
    out: Path = Path("sslens-report")
    """Folder for the report."""
    dry_run: bool = False
    """Print the plan and its cost, and stop."""


@dataclass(frozen=True)
class Pretrain:
    """Pre-train a Vision Transformer on images with a self-supervised objective.

    The learning rate is scaled with the minibatch and printed. Under torchrun the same command uses all its processes.

    Examples:
      sslens pretrain mae --images photos/train --arch vit_small_patch16_224 --epochs 200
      sslens pretrain moco-v3 --images cifar10:train --arch vit_mini_patch8_32 --set base_lr=3e-4 --out runs/moco
      torchrun --nproc-per-node 8 -m sslens pretrain mae --images photos/train --arch vit_base_patch16_224 --batch-size 4096
      sslens pretrain mae --images photos/train --arch vit_small_patch16_224 --out runs/mae --resume
    """

    objective: tyro.conf.Positional[str]
    """mae or moco-v3."""
    images: str
    """A folder, an .npz file, cifar10:train, or scenes[:SEED[:COUNT]]."""
    arch: str
    """vit_SIZE_patchP_S: SIZE is nano, mini, tiny, small, base, large or huge; P the patch and S the image size in pixels."""
    common: tyro.conf.OmitArgPrefixes[Common] = Common()
    epochs: int = 100
    """Passes over the images."""
    batch_size: int = 256
    """Images of a step, over all processes."""
    accumulate: int = 1
    """Parts in which a process computes its share of a step."""
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


@dataclass(frozen=True)
class Demo:
    """The whole way in a few minutes, with nothing downloaded: generate images, pre-train two models, compare them.

    Examples:
      sslens demo
      sslens demo --out my-demo
    """

    out: Path = Path("sslens-demo")
    """Folder for the report."""
    device: str = "auto"
    """cpu, cuda, …; auto takes a GPU where there is one."""
    dry_run: bool = False
    """Print the plan and its cost, and stop."""


def _command(name: str, kind: type) -> Any:
    """A subcommand with its whole docstring, examples too, as its help."""
    return Annotated[kind, tyro.conf.subcommand(name, description=inspect.cleandoc(kind.__doc__ or ""))]


Command = (
    _command("demo", Demo)
    | _command("compare", Compare)
    | _command("pretrain", Pretrain)
    | _command("study", StudyFile)
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 2 for what the user can mend, 1 for a fault of ours."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given == ["--version"]:
        from sslens import __version__

        print(f"sslens {__version__}")
        return 0
    try:
        command = tyro.cli(
            Command,
            prog="sslens",
            description="What did this training objective put into my vision backbone, and where?",
            args=given,
        )
        return _run(command, shlex.join(["sslens", *given]))
    except InputError as error:
        return _say_error(str(error))
    except KeyboardInterrupt:
        return _say_error(
            "Stopped. What was finished is kept: the same command goes on from there (a training with --resume)."
        )
    except BrokenPipeError:  # as in `sslens --help | head`
        sys.stdout = None  # which Python would flush into the closed pipe
        return 0
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _say_error(
                "The disk is full; nothing half-written was left. Free some space and run the same command again."
            )
        return _fault()
    except Exception:
        return _fault()


def _say_error(text: str) -> int:
    if os.environ.get("RANK", "0") == "0":  # under torchrun all processes come to the same
        print(f"sslens: {text}", file=sys.stderr)
    return 2


def _fault() -> int:
    """Say that the fault is ours, in one sentence, with the traceback in a file."""
    text = traceback.format_exc()
    try:
        with tempfile.NamedTemporaryFile("w", prefix="sslens-fault-", suffix=".txt", delete=False) as file:
            file.write(text)
        where = f"the details are in {file.name}; please send them with the command to the authors"
    except OSError:
        where = f"the details:\n{text}"
    error = sys.exception()
    last = f"{type(error).__name__}: {error}".splitlines()[0]
    print(f"sslens: this is a fault of sslens, not of your input ({last}); {where}.", file=sys.stderr)
    return 1


def _run(command: Any, line: str) -> int:
    say: Text = lambda text: print(text, file=sys.stderr)  # noqa: E731
    match command:
        case Compare():
            return _compare(command, line, say)
        case StudyFile():
            from sslens import study

            asked = study.read(command.file, command.overrides)
            report = study.run(asked, command.out, command=line, dry_run=command.dry_run, say=say)
            return _done(report)
        case Pretrain():
            return _pretrain(command, say)
        case _:
            from sslens.demo import run_demo

            return _done(run_demo(command.out, device=command.device, dry_run=command.dry_run, command=line, say=say))


def _done(report: Path | None) -> int:
    if report is not None:
        print(report)
    return 0


def _compare(command: Compare, line: str, say: Text) -> int:
    from sslens import study

    if len(command.models) < 1:
        raise InputError("Give one or more models: sslens compare MODEL MODEL --images DIR.")
    asked = study.Study(
        models=command.models,
        images=command.images,
        analyses=command.analyses,
        bank=command.bank,
        limit=command.common.limit,
        controls=command.controls,
        batch=command.batch,
        seed=command.common.seed,
        on_bad=command.on_bad,
        device=command.common.device,
        precision=command.precision,
    )
    out = command.common.out or Path("sslens-report")
    return _done(study.run(asked, out, command=line, dry_run=command.common.dry_run, say=say))


def _pretrain(command: Pretrain, say: Text) -> int:
    from sslens.find import names

    if command.objective not in names("objectives"):
        raise InputError(
            f'There is no objective "{command.objective}": {nearest(command.objective, names("objectives"))}'
        )
    from sslens.data import open_images
    from sslens.find import plugin
    from sslens.models.vit import ViTArch
    from sslens.progress import progress
    from sslens.training import loop
    from sslens.processes import best_device

    ViTArch.parse(command.arch)
    settings = changed(plugin("objectives", command.objective).Settings(), command.set)
    common = command.common
    device = best_device(common.device)
    workers = (0 if device == "cpu" else min(8, os.cpu_count() or 1)) if command.workers is None else command.workers
    training = loop.Training(
        epochs=command.epochs,
        batch_size=command.batch_size,
        accumulate=command.accumulate,
        seed=common.seed,
        device=device,
        precision=command.precision,
        workers=workers,
        save_every=command.save_every,
        log_every=command.log_every,
    )
    first = os.environ.get("RANK", "0") == "0"
    with progress("checking images", quiet=not first) as report:
        images = open_images(
            command.images, on_bad=command.on_bad, limit=common.limit, seed=common.seed, minimum=1, progress=report
        )
    if images.skipped and first:
        shown = "; ".join(f"{name} ({reason})" for name, reason in images.skipped[:20])
        say(f"{len(images.skipped)} images could not be decoded and were left out: {shown}")
    world = int(os.environ.get("WORLD_SIZE", "1"))
    schedule = loop.plan(command.objective, len(images), command.arch, settings, training, world)
    out = common.out or Path("runs") / command.objective
    if common.dry_run:
        say(
            f"{command.objective}, {command.arch}, {len(images):,} images of {images.name}: {schedule.epoch:,} steps an epoch, "
            f"{schedule.steps:,} in all, {schedule.steps * training.batch_size:,} images seen; into {out}\n{settings}"
        )
        return 0
    path = loop.train(
        command.objective,
        images,
        command.arch,
        out,
        settings=settings,
        training=training,
        resume=command.resume,
        name=command.name,
        say=say,
    )
    return _done(path if first else None)


def changed(settings: Any, overrides: Sequence[str]) -> Any:
    """The settings of an objective with KEY=VALUE overrides.

    Raises:
        InputError: a key is not one of the settings, or a value is not of its kind.
    """
    import dataclasses

    import yaml

    now = dataclasses.asdict(settings)
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


if __name__ == "__main__":
    sys.exit(main())
