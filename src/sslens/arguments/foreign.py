"""Options of other tools that people carry over, and what has their place here."""

import dataclasses
import typing
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, NamedTuple, get_args, get_origin

import tyro

from sslens.arguments.declared import list_settings
from sslens.arguments.spelling import as_option
from sslens.errors import InputError
from sslens.find import names

#: the task of which a command takes settings; `pretrain` has those of the objective
TASKS_OF = {"detect": "detection", "finetune": "finetune", "rcdm": "diffusion"}


class Foreign(NamedTuple):
    """An option as timm, torchvision, detectron2, torchrun's scripts or the papers' authors spell
    it, and what has its place: the first that a command has.

    Attributes:
        spellings: without dashes at the beginning.
        places: names of options; after "set." of settings; in capitals of arguments without an
            option; or after "say." a text, for commands that compute.
    """

    spellings: tuple[str, ...]
    places: tuple[str, ...]


TABLE = (
    Foreign(("lr", "learning-rate", "opt-lr"), ("set.base_lr",)),
    Foreign(("blr", "base-lr", "solver-base-lr"), ("set.base_lr",)),
    Foreign(("wd", "weight-decay"), ("set.weight_decay",)),
    Foreign(("warmup-epochs", "warmup-steps", "warmup-iters", "warmup"), ("set.warmup",)),
    Foreign(("opt", "optim", "optimizer"), ("set.optimiser",)),
    Foreign(("batch", "batch-size", "bs", "batch-size-per-gpu", "ims-per-batch"), ("batch-size",)),
    Foreign(("batch", "batch-size", "bs", "batch-size-per-gpu"), ("batch",)),
    Foreign(("accum-iter", "grad-accum-steps", "grad-accumulation", "accum"), ("accumulate",)),
    Foreign(
        ("image-size", "img-size", "imgsz", "input-size", "crop-size", "resolution", "res"),
        (
            *("image-size", "set.size", "size"),
            "say.a model is given as MODEL@image_size=SIZE, and the name of an architecture ends in"
            " its size",
        ),
    ),
    Foreign(
        ("model", "arch", "architecture", "backbone", "model-name"), ("arch", "MODEL", "models")
    ),
    Foreign(
        ("checkpoint", "ckpt", "weights", "pretrained", "pretrained-weights", "initial-checkpoint"),
        ("MODEL", "FILE"),
    ),
    Foreign(("models", "checkpoints", "files"), ("MODEL", "FILE")),
    Foreign(
        ("data", "data-dir", "data-path", "data-root", "dataset", "root", "train-dir", "input"),
        ("images", "coco", "FOLDER"),
    ),
    Foreign(("val-dir", "val-path", "val-data", "test-dir", "eval-data"), ("val", "test")),
    Foreign(("train", "train-path", "train-data", "gallery", "memory"), ("bank", "images")),
    Foreign(
        ("output", "output-dir", "outdir", "out-dir", "save-dir", "log-dir", "results-dir"),
        ("out",),
    ),
    Foreign(("gpu", "gpus", "cuda", "accelerator"), ("device",)),
    Foreign(("num-workers", "workers", "n-workers"), ("workers", "set.workers")),
    Foreign(("amp", "fp16", "bf16", "half", "dtype", "use-amp", "amp-dtype"), ("precision",)),
    Foreign(("max-images", "num-images", "num-samples", "n-images", "subset"), ("limit",)),
    Foreign(("max-epochs", "num-epochs", "n-epochs", "epoch"), ("epochs",)),
    Foreign(("nb-knn", "neighbors", "n-neighbors", "neighbours", "num-neighbors"), ("k",)),
    Foreign(("temp", "tau"), ("temperature",)),
    Foreign(("layer", "layers", "blocks", "out-indices", "n-last-blocks"), ("taps", "tap")),
    Foreign(("pool", "global-pool", "pooling"), ("pooling", "poolings", "tokens", "set.pooling")),
    Foreign(("smoothing", "label-smoothing"), ("set.smoothing",)),
    Foreign(("nb-classes", "num-classes"), ("say.the images tell the classes",)),
    Foreign(("random-seed", "manual-seed"), ("seed",)),
    Foreign(("force", "exist-ok"), ("overwrite",)),
    Foreign(
        ("config", "config-file", "cfg", "yaml"),
        ("say.the file of a study is carried out by sslens study FILE",),
    ),
)
#: options and settings that mean the same number as those of other tools
NUMBERS = (
    *("batch-size", "batch", "accumulate", "image-size", "size", "workers", "limit", "epochs"),
    *("seed", "weight_decay", "smoothing"),
)
#: what must be known of a setting that is another number elsewhere
SCALED = " (of 256 images a step, and scaled to the minibatch)"


def require_own_options(kind: type, prog: str, given: Sequence[str]) -> None:
    """Refuse an option that other tools have and this command has not, with what has its place. Of
    other unknown options nothing is said: tyro offers the nearest.

    Args:
        kind: the command's class.
        prog: the command's name, such as "sslens detect".
        given: the words after the name.

    Raises:
        InputError: such an option is given.

    >>> @dataclasses.dataclass
    ... class Command:
    ...     batch: int = 32
    >>> require_own_options(Command, "sslens compare", ["--batch-size", "64"])
    Traceback (most recent call last):
    sslens.errors.InputError: sslens compare has no --batch-size: give --batch 64.
    """
    fields = tuple(one.name for one in list_arguments(kind))
    for at, argument in enumerate(given):
        option, equals, value = argument.partition("=")
        option = option.replace("_", "-")
        if not option.startswith("--") or {option, f"--{option[5:]}"} & set(fields):
            continue
        if not equals and at + 1 < len(given) and not given[at + 1].startswith("-"):
            value = given[at + 1]
        settings = _list_own_settings(prog, given) if "--set" in fields else ()
        hint = _find_place(option[2:], fields, settings, value)
        if hint:
            raise InputError(f"{prog} has no {option}: {hint}.")


class Argument(NamedTuple):
    """What a command takes.

    Attributes:
        name: the option, or what the help calls a word that stands without one.
        positional: whether it stands without an option.
        several: whether it takes any number of words.
    """

    name: str
    positional: bool = False
    several: bool = False


def list_arguments(kind: Any) -> Iterator[Argument]:
    """List what a command and its parts take."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for entry in dataclasses.fields(kind):
        hint = hints[entry.name]
        base, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        if isinstance(base, type) and dataclasses.is_dataclass(base):
            yield from list_arguments(base)
        elif tyro.conf.Positional in notes:
            shown = [one.metavar for one in notes if getattr(one, "metavar", None)]
            name = shown[0] if shown else entry.name.upper()
            yield Argument(name, True, get_origin(base) is tuple)
        else:
            named = [one.name for one in notes if getattr(one, "name", None)]
            yield Argument(as_option(named[0] if named else entry.name, None))


def _list_own_settings(prog: str, given: Sequence[str]) -> tuple[str, ...]:
    """The settings that a command takes as KEY=VALUE."""
    command = prog.split()[1]
    task = TASKS_OF.get(command)
    if command == "pretrain":
        task = next((word for word in given if word in names("objectives")), None)
    more = ("workers",) if command == "detect" else ()
    return () if task is None else (*list_settings(task), *more)


def _find_place(word: str, fields: Sequence[str], settings: Sequence[str], value: str) -> str:
    """What to give in place of an option that a command has not; empty if nothing is known."""
    own = word.replace("-", "_")
    if own in settings:  # a setting of the same name
        return f"give {as_option(f'settings.{own}', value or None)}"
    places = [place for one in TABLE if word in one.spellings for place in one.places]
    for place in places:
        head, _, key = place.partition(".")
        if head == "say" and "--seed" in fields:  # a command that computes
            return key
        if head == "set" and key in settings:
            shown = value if key in NUMBERS or own == "base_lr" else ""
            scaled = SCALED if key == "base_lr" and own != "base_lr" else ""
            return f"give {as_option(f'settings.{key}', shown or None)}{scaled}"
        if place.isupper():
            plain = next((one for one in fields if one.startswith(place)), "")
            if plain:
                return f"give it without an option, as {plain}"
        elif f"--{place}" in fields:
            return f"give --{place}{f' {value}' if value and place in NUMBERS else ''}"
    return ""
