"""`sslens rcdm train` and `sslens rcdm sample`."""

import contextlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from sslens.arguments.answers import Reply, describe_training
from sslens.arguments.options import Common, Text
from sslens.arguments.training import (
    TrainingOptions,
    build_training,
    check_training,
    choose_settings,
    describe_settings,
    first_process,
    open_source,
    require_startable,
)
from sslens.arguments.watching import (
    WITHOUT_VAL,
    describe_reach,
    describe_trained,
    open_trackers,
    require_trackers,
    write_report,
)
from sslens.data.sources import require_apart
from sslens.errors import InputError
from sslens.slurm import Slurm

if TYPE_CHECKING:
    from sslens.data import ImageSet
    from sslens.models.backbone import Backbone
    from sslens.tasks.diffusion_settings import Settings
    from sslens.tasks.representations import Represented
    from sslens.training.schedule import Training

GROUP = "train"
#: images that will do
FEWEST = 1


@dataclass(frozen=True)
class Command:
    """See what a representation holds: train a generator that makes images from it (train), and
    sample from one (sample).

    What varies among images that are generated from one representation is what the representation
    does not hold. sslens rcdm train --help and sslens rcdm sample --help show the options.

    Examples:
      sslens rcdm train scenes_mae --images scenes:0:2000 --val scenes:1:500 --out runs/rcdm-mae
      sslens rcdm sample runs/rcdm-mae --images scenes:2:8 --out samples.png
    """

    action: tyro.conf.Positional[Literal["train", "sample"]]
    """What to do; its own options follow."""


@dataclass(frozen=True)
class Train:
    """Train a generator on images and on the features that a frozen model has of them.

    The features are made once and kept, and never dropped. The average of the weights is evaluated
    on --val ten times (loss, and how much of it the image's own features take away) and kept in
    --out, with a few samples on the way. The same command with --resume goes on after a kill, to
    the same weights. Several models share one generator, each with a linear adapter of its own, so
    that samples differ by the representation alone and the cost is shared; --fast suits that best.

    Examples:
      sslens rcdm train dino_vitb16 --images photos/train --val photos/val --preset official --out
          runs/rcdm-dino --dry-run
      sslens rcdm train scenes_mae --images scenes:0:2000 --val scenes:1:500 --out runs/rcdm-mae
      sslens rcdm train scenes_mae scenes_moco_v3 --fast --images scenes:0:50000 --out runs/fast
      sslens rcdm train mae_vitb16 --images photos --tap blocks.5 --tokens patch --size 64 --out
          runs/rcdm-mae-5
      torchrun --nproc-per-node 8 -m sslens rcdm train dino_vitb16 --images photos/train --out
          runs/rcdm-dino --resume
    """

    models: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="MODEL [MODEL ...]")
    ]
    """Models as sslens compare takes them; several share one generator."""
    images: str
    """A folder (a class a subfolder, or flat), an index FILE.csv[:SPLIT], an .npz file,
    cifar10:train, or scenes[:SEED[:COUNT]]."""
    val: str | None = None
    """Images held out."""
    common: tyro.conf.OmitArgPrefixes[Common] = Common()
    fast: bool = False
    """Flow matching with a small transformer, made for images of up to 64 px (larger ones are
    untried): a fraction of the time, and rougher images."""
    tap: str | None = None
    """The layer, by name, such as blocks.11; the last one of each model unless given."""
    tokens: Literal["cls", "patch", "mean"] | None = None
    """The CLS token, the mean of the patch tokens, or the mean of all; as the model's own
    classifier read, else cls where there is one, else mean, unless given."""
    size: int | None = None
    """Side in pixels of the generated images; the preset's unless given."""
    preset: str | None = None
    """official (RCDM's, 128 px), official256, small64, small32, cpu32, or with --fast fast64,
    fast32: settings, epochs and minibatch. Of small and fast ones that which fits --size, or the
    images' size for the models, unless given."""
    epochs: int | None = None
    """Passes over the images; the preset's unless given."""
    batch_size: int | None = None
    """Images of a step, over all processes; the preset's unless given."""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE")] = ()
    """Settings, e.g. width=64, multipliers=[1,2,2], attention=[8], base_lr=1e-3, ema=0.999."""
    pictures: bool = True
    """Generate a few images in the course of the run, into --out/samples."""
    name: str | None = None
    """Of the generator; that of --out unless given."""
    training: tyro.conf.OmitArgPrefixes[TrainingOptions] = TrainingOptions()
    slurm: tyro.conf.OmitArgPrefixes[Slurm] = Slurm()


@dataclass(frozen=True)
class Sample:
    """Generate images from the features that models have of others.

    The noise is the same for every model: samples differ by the representation alone. --steps 100
    takes as many ancestral steps of a diffusion, --steps ddim50 as many deterministic ones.

    Examples:
      sslens rcdm sample runs/rcdm-mae --images photos/val --out samples.png
      sslens rcdm sample runs/rcdm-mae --images photos/val --limit 64 --draws 8 --steps ddim50 --out
          samples
      sslens rcdm sample rcdm_ema_dino_trunk.pt --models dino_resnet50 --images photos --out
          grid.png
    """

    generator: tyro.conf.Positional[str]
    """The folder of sslens rcdm train, or a file of RCDM's authors."""
    images: str
    """The images of which the representations are taken; as sslens rcdm train takes them."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """A .png file for one sheet, or a folder for a sheet and a file a sample."""
    models: tuple[str, ...] = ()
    """The models, where the generator does not say them or they lie elsewhere now."""
    draws: int = 8
    """Samples of each image, two or more."""
    steps: str | None = None
    """100, 250, ddim50, …; of a fast generator euler20, heun10, …; the generator's own unless
    given."""
    seed: int = 0
    """Of the noise, and of the images drawn with --limit."""
    limit: int = 8
    """Images taken at most, drawn by their ids and the seed."""
    batch: int = 64
    """Images that are generated together."""
    device: str = "auto"
    """cpu, cuda, cuda:1, …; auto takes a GPU where there is one."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the network; auto is bfloat16 where the device computes faster with it, else float32."""
    overwrite: bool = False
    """Replace other samples in --out, a sheet or a folder: their own files go, and no others."""


#: what each action takes
ACTIONS = {"train": Train, "sample": Sample}


def run(command: Train | Sample, line: str, say: Text) -> Reply | Path | None:
    """Carry it out; returns the path of the generator, or of the samples."""
    return train(command, line, say) if isinstance(command, Train) else sample(command, say)


def train(command: Train, line: str, say: Text) -> Reply | None:
    """Train a generator; returns its path."""
    _require_models(command)
    check_training(command, "diffusion", command.preset, _out(command), command.models)
    _require_place(command)
    from sslens import zoo
    from sslens.training.diffuse import train_generator

    require_trackers(command.training)
    first, out = first_process(), _out(command)
    models = [zoo.load(source) for source in command.models]
    settings, epochs, batch_size = _choose(command, max(each.transform.crop for each in models))
    training = build_training(command, epochs, batch_size)
    images = open_source(command.images, command, command.common.limit, say)
    val = None if command.val is None else open_source(command.val, command, None, say)
    if val is not None and first and (note := describe_trained(val, images)):
        say(note)
    if command.common.dry_run:
        _describe(command, models, images, settings, training, say)
        return None
    represented, held = _represent(command, models, images, val, training)
    name = command.name or out.name
    with contextlib.ExitStack() as stack:
        config: dict[str, object] = {"settings": asdict(settings), "training": asdict(training)}
        tell = open_trackers(stack, command.training, out, name, config) if first else ()
        path = train_generator(
            represented,
            out,
            settings=settings,
            training=training,
            held=held,
            resume=command.training.resume,
            overwrite=command.common.overwrite,
            name=name,
            pictures=command.pictures,
            tell=tell,
            say=say,
        )
    if not first:
        return None
    notes = [f"{WITHOUT_VAL}."] if val is None else []
    report = write_report(out, name, line, "Training", notes=notes)
    counted = 0 if val is None else len(val)
    say(describe_reach(command.models, command.val, counted, out))
    say(f"report    {report}")
    return Reply(describe_training(out, report), path)


def _represent(
    command: Train,
    models: "list[Backbone]",
    images: "ImageSet",
    val: "ImageSet | None",
    training: "Training",
) -> "tuple[Represented, Represented | None]":
    """The images with their features; all processes of a run share the passes."""
    from sslens.processes import processes
    from sslens.study.generating import represent

    with processes(training.device) as where:
        made = [
            represent(
                models,
                each,
                tap=command.tap,
                tokens=command.tokens,
                device=where.device,
                quiet=not where.first,
            )
            for each in (images, val)
            if each is not None
        ]
    return made[0], made[1] if len(made) > 1 else None


def sample(command: Sample, say: Text) -> Path:
    """Generate images; returns the path of the sheet or the folder."""
    from sslens import cards, zoo

    require_apart(command.out, command.images)
    for source in command.models:
        zoo.check(source)
    for name, least in (("draws", 2), ("batch", 1)):  # what varies needs two samples of an image
        if getattr(command, name) < least:
            raise InputError(
                f"{name} is {getattr(command, name)}", mend=f"give {{{name}={least}}} or more"
            )
    shipped = cards.list_generators()
    if command.generator not in shipped and not Path(command.generator).exists():
        raise InputError(
            f"{command.generator} is not there",
            mend="give the folder that sslens rcdm train wrote, a file of RCDM's authors, or"
            f" {', '.join(shipped)}",
        )
    from sslens.data import open_images
    from sslens.processes import best_device, best_precision
    from sslens.report.writing.numbers import spell_count
    from sslens.study import generating
    from sslens.tasks.generator import open_generator
    from sslens.training.curves import describe_gain, does_reach, read_gain
    from sslens.training.folder import RunFolder

    device = best_device(command.device)
    given = [zoo.load(source) for source in command.models]
    generator = open_generator(command.generator, given[0] if given else None)
    steps = command.steps or generator.process.default_steps
    generator.process.require_steps(steps)
    request = generating.SampleRequest(
        out=command.out,
        draws=command.draws,
        steps=command.steps,
        seed=command.seed,
        batch=command.batch,
        device=device,
        precision=best_precision(command.precision, device),
        overwrite=command.overwrite,
    )
    request.require_out()
    models = generating.load_models(generator, command.models)
    images = open_images(command.images, limit=command.limit, seed=command.seed, minimum=1)
    say(
        f"{spell_count(len(images), 'image')} of {images.name} × {command.draws} samples ×"
        f" {spell_count(len(models), 'model')}, {generator.size} px, steps {steps}, on {device}"
    )
    gain = read_gain(RunFolder(Path(command.generator), {}).lines())
    if gain is not None and not does_reach(gain):
        say(f"note      {describe_gain(gain)}")
    return generating.sample(generator, models, images, request, quiet=False)


def check(command: Train) -> None:
    """Refuse, before a job waits in a queue, what is known to be wrong without the images and the
    job's GPUs."""
    _require_models(command)
    _, _, batch_size = _choose(command)
    require_startable(command, batch_size, _out(command), command.models)
    _require_place(command)


def _describe(
    command: Train,
    models: "list[Backbone]",
    images: "ImageSet",
    settings: "Settings",
    training: "Training",
    say: Text,
) -> None:
    """Say what would be trained and what it costs; a step is measured where it is short."""
    from sslens.study.generator_cost import describe_training

    world = int(os.environ.get("WORLD_SIZE", "1"))
    said = describe_training(
        models, images, settings, training, tap=command.tap, tokens=command.tokens, world=world
    )
    if first_process():
        described = describe_settings(settings, idle=settings.find_idle())
        say(f"{said}; into {_out(command)}\n{described}")
        if command.val is None:
            say(f"note      {WITHOUT_VAL}.")


def _require_models(command: Train) -> None:
    from sslens import zoo

    if not command.models:
        raise InputError("Give one or more models: sslens rcdm train MODEL --images DIR.")
    for source in command.models:
        zoo.check(source)


def _require_place(command: Train) -> None:
    from sslens.training.run_files import require_place_for_images

    if command.pictures:
        for source in (command.images, command.val):
            if source is not None:
                require_apart(_out(command), source)
        require_place_for_images(_out(command))


def _choose(command: Train, side: int | None = None) -> "tuple[Settings, int, int]":
    """Settings, epochs and minibatch: the preset's, unless the command gives others.

    Args:
        command: the command.
        side: the side of the images that the models see, by which a preset is chosen where neither
            a preset nor a size is asked for.
    """
    from dataclasses import replace

    from sslens.recipes import recipe
    from sslens.recipes.diffusion import choose_preset, resize

    name = command.preset or choose_preset(command.size or side, fast=command.fast)
    if command.fast and not name.startswith("fast"):
        raise InputError(
            f"The preset {name} is not one of the fast generators",
            mend="give {preset=fast32} or {preset=fast64}, or leave {fast} out",
        )
    preset = recipe("diffusion", name)
    settings, epochs, batch_size = choose_settings(command, preset, asked=True)
    _require_counting(command, settings)
    if command.size is not None:
        settings = resize(settings, command.size)
    if len(command.models) > 1 and settings.conditions == "none":
        settings = replace(settings, conditions="half-whiten")
    return settings, epochs, batch_size


def _require_counting(command: Train, settings: "Settings") -> None:
    """Refuse settings of another process or network than the generator has, which would have no
    effect."""
    idle = settings.find_idle()
    for key in (override.partition("=")[0] for override in command.set):
        if key in idle:
            chooser, choice = idle[key]
            raise InputError(
                f"The setting {key} has no effect: it is of the {chooser} {choice}, and this"
                f" generator has the {chooser} {getattr(settings, chooser)}",
                mend=f"leave it out, or give {{settings.{chooser}={choice}}} too",
            )


def _out(command: Train) -> Path:
    return command.common.out or Path("runs") / "rcdm"
