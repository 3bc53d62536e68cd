"""Whether the file of a training of ours is of one that has not come to its end."""

from collections.abc import Mapping
from pathlib import Path

from sslens.errors import InputError
from sslens.models.about import About
from sslens.settings_file import read_yaml
from sslens.zoo.insides import ENCODER

#: the settings of a training, beside the weights that it keeps as it goes
CONFIG = "config.yaml"


def describe_unfinished(path: Path, about: About) -> str:
    """Say that the training of a file stands before its end; empty where it is over, and where that
    is not known: of other programs' files, and of states that were kept on the way.

    Args:
        path: the file.
        about: what the file says of its model.
    """
    if path.name != ENCODER or not about.step or not about.epochs:
        return ""
    epochs = _read_epochs(path.parent / CONFIG)
    if epochs is None or round(about.step / about.epochs * epochs) <= about.step:
        return ""
    return (
        f"The training of {path} is not over: it stands after epoch {about.epochs:.4g} of"
        f" {epochs:g}. Resume it to have its end."
    )


def _read_epochs(path: Path) -> float | None:
    """The epochs that a training was to have; None where the file is not its settings."""
    try:
        training = read_yaml(path).get("training")
    except (OSError, InputError, AttributeError):
        return None
    epochs = training.get("epochs") if isinstance(training, Mapping) else None
    return float(epochs) if isinstance(epochs, int | float) else None
