"""What `sslens pretrain` and `sslens finetune` share: their options, and how these become settings,
images and a training."""

import contextlib
import os
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sslens.arguments.declared import require_words
from sslens.arguments.options import Text
from sslens.errors import InputError, no_setting
from sslens.settings_file import parse_yaml, split_overrides

if TYPE_CHECKING:
    from sslens.data import ImageSet
    from sslens.recipes import Recipe
    from sslens.study.costing import Cost
    from sslens.training.schedule import Schedule, Training


#: kinds of settings in words, and a list where the usual one is empty
KINDS = {
    tuple: "a list",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
}
EXAMPLE = (1, 2)


@dataclass(frozen=True)
class TrainingOptions:
    """The options of every command that trains a network."""

    accumulate: int = 1
    """Parts in which a process computes its share of a step; the step is the same, with less
    memory."""
    resume: bool = False
    """Go on from the last checkpoint in --out, if there is one."""
    on_bad: Literal["stop", "skip"] = "stop"
    """What to do with an image that cannot be decoded."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto is bfloat16 where the device computes faster with it, else float32; bfloat16 is
    autocast, and losses are float32."""
    compile: bool = False
    """Run the networks' blocks by code that torch generates for them first; the same but for
    rounding."""
    recompute: bool = False
    """Keep only the inputs of the networks' blocks, and compute the rest again in the backward
    pass; the step is the same, with less memory and in more time."""
    workers: int | None = None
    """Processes that decode and augment; 0 on a CPU and up to 8 beside a GPU unless given."""
    save_every: int = 0
    """Steps between checkpoints; an epoch unless given."""
    log_every: int = 10
    """Steps between lines of log.jsonl."""
    tensorboard: bool = False
    """Also write the log's lines as TensorBoard events, into --out; wants pip install
    'sslens[track]'."""
    wandb: bool = False
    """Also send the log's lines to Weights & Biases; wants pip install 'sslens[track]'."""


def first_process() -> bool:
    """Whether this is the first of the processes that torchrun started; only the first one
    prints."""
    return os.environ.get("RANK", "0") == "0"


def choose_settings(command: Any, recipe: "Recipe", *, asked: bool) -> tuple[Any, int, int]:
    """Choose settings, epochs and minibatch: the command's where it gives them, else the recipe's.

    Where the recipe was not asked for, only its settings are used, with 100 epochs and minibatches
    of 256.

    Args:
        command: the command.
        recipe: the recipe.
        asked: whether the user asked for the recipe.

    Raises:
        InputError: for the same reasons as `override_settings`.
    """
    epochs, batch_size = (recipe.epochs, recipe.batch_size) if asked else (100, 256)
    return (
        override_settings(recipe.settings, command.set),
        epochs if command.epochs is None else command.epochs,
        batch_size if command.batch_size is None else command.batch_size,
    )


def override_settings(settings: Any, overrides: Sequence[str]) -> Any:
    """Change settings by KEY=VALUE overrides.

    Raises:
        InputError: a key is not one of the settings or has two values, or a value is not of its
            kind.
    """
    values = asdict(settings)
    values.pop("classes", None)  # the images decide them
    pairs = split_overrides(overrides, "setting")
    for key, text in pairs:
        if key not in values:
            raise no_setting(key, values, [name for name, _ in pairs])
        values[key] = _read_setting(key, text, values[key])
    return type(settings)(**values)


def _read_setting(key: str, text: str, usual: Any) -> Any:
    """Read the value of a setting, of the kind of its usual value.

    Raises:
        InputError: it is of another kind.
    """
    kind = type(usual)
    try:
        value = parse_yaml(text, key)
    except InputError:
        value = text
    if kind is float:
        value = _as_float(value)
    if kind is tuple and isinstance(value, list):
        whole = all(type(number) is int for number in usual)
        numbers = [number if whole else _as_float(number) for number in value]
        if all(type(number) is (int if whole else float) for number in numbers):
            value = tuple(numbers)
    if type(value) is not kind:
        example = _spell_setting(EXAMPLE if usual == () else usual)
        expected = KINDS[kind] if kind is bool else f"{KINDS[kind]} such as {example}"
        raise InputError(f'The setting {key} is "{text}": expected {expected}.')
    return value


def _as_float(value: Any) -> Any:
    """A number as a float; YAML takes 3e-4 for text. What is no number stays as it is."""
    if isinstance(value, str | int) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            return float(value)
    return value


def describe_run(
    what: str,
    images: "ImageSet",
    schedule: "Schedule",
    out: Path,
    settings: Any,
    cost: "Cost",
) -> str:
    """Describe a run that is to be, in lines for a person.

    Args:
        what: what is trained, in a few words.
        images: what it is trained on.
        schedule: the steps of the run.
        out: its folder.
        settings: the settings of the method.
        cost: what the run will cost.
    """
    from sslens.report.writing.numbers import spell_count

    epoch = spell_count(schedule.epoch, "step")
    return (
        f"{what}, {spell_count(len(images), 'image')} of {images.name}: {epoch} an epoch,"
        f" {schedule.steps:,} in all, {schedule.steps * schedule.batch_size:,} images seen; into"
        f" {out}\ncost      {cost.describe()}\n{describe_settings(settings)}"
    )


def describe_settings(settings: Any, columns: int = 2, *, idle: Collection[str] = ()) -> str:
    """Describe settings as a table of their names and values, down one column after another.

    A value is written as `--set KEY=VALUE` takes it; the classes, which the images decide, are left
    out, and so are idle settings, which decide nothing.

    >>> @dataclass(frozen=True)
    ... class Settings:
    ...     base_lr: float = 1.5e-4
    ...     betas: tuple[float, float] = (0.9, 0.95)
    ...     optimiser: str = "adamw"
    >>> print(describe_settings(Settings()))
    settings  base_lr  0.00015     optimiser  adamw
              betas    [0.9,0.95]
    """
    left_out = {"classes", *idle}
    values = {key: value for key, value in asdict(settings).items() if key not in left_out}
    cells = [(key, _spell_setting(value)) for key, value in values.items()]
    rows = -(-len(cells) // columns)
    parts = [cells[begin : begin + rows] for begin in range(0, len(cells), rows)]
    widths = [[max(map(len, words)) + 2 for words in zip(*part, strict=True)] for part in parts]
    lines = []
    for row in range(rows):
        shown = (
            f"{part[row][0]:<{name}}{part[row][1]:<{value}}"
            for part, (name, value) in zip(parts, widths, strict=True)
            if row < len(part)
        )
        lines.append(f"{'' if row else 'settings':<10}{'  '.join(shown)}".rstrip())
    return "\n".join(lines)


def _spell_setting(value: Any) -> str:
    """A value as YAML would read it."""
    if isinstance(value, tuple | list):
        return f"[{','.join(map(_spell_setting, value))}]"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value).lower() if isinstance(value, bool) else str(value) or '""'


def check_training(
    command: Any, learner: str, recipe: str | None, out: Path, models: Sequence[str] = ()
) -> None:
    """Refuse what is known to be wrong before torch is imported: words, lengths, and a folder that
    cannot be taken.

    Args:
        command: the command.
        learner: the objective, or the task as `sslens.arguments.declared` has it.
        recipe: the name of the recipe that is asked for, if one is.
        out: the folder of the run.
        models: the models that it reads.

    Raises:
        InputError: the training could not start.
    """
    from sslens.training.lengths import Training
    from sslens.training.run_files import require_free

    require_words(learner, recipe, command.set)
    options = command.training
    Training(
        epochs=1 if command.epochs is None else command.epochs,
        batch_size=1 if command.batch_size is None else command.batch_size,
        accumulate=options.accumulate,
        seed=command.common.seed,
        workers=options.workers or 0,
        save_every=options.save_every,
        log_every=options.log_every,
    )
    require_free(out, resume=options.resume, overwrite=command.common.overwrite, models=models)


def require_startable(command: Any, batch_size: int, out: Path, models: Sequence[str] = ()) -> None:
    """Refuse a job before it waits in a queue: a minibatch that its tasks cannot share, or a folder
    that holds another run.

    Raises:
        InputError: the job could not start.
    """
    from sslens.training.lengths import require_shares
    from sslens.training.run_files import require_free

    require_shares(batch_size, command.slurm.tasks, command.training.accumulate)
    resume, overwrite = command.training.resume, command.common.overwrite
    require_free(out, resume=resume, overwrite=overwrite, models=models)


def build_training(command: Any, epochs: int, batch_size: int) -> "Training":
    """Build the `Training` of a command: the length of the run, and on what it runs."""
    from sslens.processes import best_device
    from sslens.training.lengths import Training

    device, options = best_device(command.common.device), command.training
    workers = 0 if device == "cpu" else min(8, os.cpu_count() or 1)
    return Training(
        epochs=epochs,
        batch_size=batch_size,
        accumulate=options.accumulate,
        seed=command.common.seed,
        device=device,
        precision=options.precision,
        compile=options.compile,
        recompute=options.recompute,
        workers=workers if options.workers is None else options.workers,
        save_every=options.save_every,
        log_every=options.log_every,
    )


def open_source(source: str, command: Any, limit: int | None, say: Text) -> "ImageSet":
    """Open the images of a command that trains; the first process says which images were left
    out."""
    from sslens.data import open_images
    from sslens.progress import progress

    first = first_process()
    with progress("checking images", quiet=not first) as report:
        images = open_images(
            source,
            on_bad=command.training.on_bad,
            limit=limit,
            seed=command.common.seed,
            minimum=1,
            progress=report,
        )
    for note in images.notes if first else ():
        say(f"note      {note}")
    return images
