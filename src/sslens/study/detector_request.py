"""How detectors are trained in a study, read from KEY=VALUE."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, final

from sslens.errors import InputError, nearest, no_setting
from sslens.settings_file import parse_yaml, split_overrides

if TYPE_CHECKING:
    from sslens.tasks.detection import Settings

#: the heads whose recipe is taken unless others are named
HEADS = "vitdet"
#: what is no setting of the task, but of the length of a training and of how it runs
LENGTHS = ("epochs", "batch_size", "workers", "accumulate", "precision")
#: what recipes do not say
UNSAID: Mapping[str, Any] = {"workers": 0, "accumulate": 1, "precision": "auto"}
#: of the trainings
PRECISIONS = ("auto", "float32", "bfloat16")
#: settings that have a place of their own in a study
APART = ("tuned", "classes", "optimiser")


@final
@dataclass(frozen=True)
class DetectorRequest:
    """How detectors are trained.

    Attributes:
        settings: of the task, for a network that stays as it is, read after its last block.
        blocks: the blocks of the detectors that read several; none are trained if it is empty.
        epochs: passes over the training images.
        batch_size: images of a step.
        workers: processes that make minibatches.
        accumulate: parts in which a process computes its share of a step, one after another: less
            memory, and numbers that are almost and not exactly the same.
        precision: of the trainings; "auto" is float32 on a CPU, and bfloat16 on a GPU that has it.
    """

    settings: "Settings"
    blocks: tuple[int, ...]
    epochs: int
    batch_size: int
    workers: int = 0
    accumulate: int = 1
    precision: str = "auto"

    @classmethod
    def parse(cls, entries: Sequence[str]) -> "DetectorRequest":
        """Read a request from entries such as "heads=small", "blocks=[2, 3]" or "base_lr=0.01".

        What is not given is as in the recipe of the heads (`recipes/detection.py`).

        Raises:
            InputError: an entry is no KEY=VALUE, a key is not known or has two values, a value is
                of another kind, or a step cannot be divided into so many parts.

        >>> request = DetectorRequest.parse(["heads=small", "epochs=3", "blocks=[2, 3]"])
        >>> request.epochs, request.blocks, request.settings.size
        (3, (2, 3), 64)
        >>> DetectorRequest.parse(["epoch=3"])
        Traceback (most recent call last):
        sslens.errors.InputError: There is no setting "epoch" of a detector: did you mean epochs?
        """
        from sslens.recipes import recipe
        from sslens.training.lengths import require_shares

        given = dict(split_overrides(entries, "setting of a detector"))
        chosen = recipe("detection", given.get("heads", HEADS))
        defaults = {name: getattr(chosen, name, UNSAID.get(name)) for name in LENGTHS}
        defaults |= {
            name: value for name, value in asdict(chosen.settings).items() if name not in APART
        }
        for key in given:
            if key not in defaults:
                raise no_setting(key, defaults, given, of=" of a detector")
        values = {key: _read(key, text, defaults[key]) for key, text in given.items()}
        blocks = values.pop("blocks", ())
        lengths = {name: values.pop(name, defaults[name]) for name in LENGTHS}
        if lengths["accumulate"] < 1:
            raise InputError(
                f"A step in {lengths['accumulate']} parts cannot be",
                mend="give 1 or more as {accumulate}",
            )
        for name in ("epochs", "batch_size"):
            if lengths[name] < 1:
                raise InputError(f"{name} is {lengths[name]}", mend="give 1 or more")
        if lengths["precision"] not in PRECISIONS:
            raise InputError(
                f'Detectors are not trained in the precision "{lengths["precision"]}":'
                f" {nearest(lengths['precision'], PRECISIONS)}"
            )
        require_shares(lengths["batch_size"], 1, lengths["accumulate"])
        settings = replace(chosen.settings, **values)
        replace(settings, blocks=blocks)  # which refuses blocks that cannot be
        return cls(settings, blocks, **lengths)


def _read(key: str, text: str, default: Any) -> Any:
    """The value of a text, of the same kind as the default."""
    try:
        value = parse_yaml(text, key)
    except InputError:
        value = text
    kind: type = type(default)
    if kind is tuple:
        whole = key == "blocks" or (default and all(type(part) is int for part in default))
        parts = value if isinstance(value, list) else [value]
        read = [_number(part, int if whole else float) for part in parts]
        if None not in read:
            return tuple(read)
    elif kind in (int, float):
        number = _number(value, kind)
        if number is not None:
            return number
    elif type(value) is kind:
        return value
    expected = list(default) if kind is tuple and default else default
    raise InputError(
        f'The setting {key} of a detector is "{text}": expected a value such as'
        f" {expected or [2, 3]}."
    )


def _number(value: Any, kind: type) -> Any:
    """A number of a kind; YAML takes 3e-4 for text. None where it is none."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    if kind is int:
        return int(number) if number == int(number) else None
    return number
