"""The path that a fine-tuned model's weights took, where its folder or the package has the
table."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from sslens import cards, zoo
from sslens.comparisons.roles import is_tuned
from sslens.errors import InputError
from sslens.models.about import About
from sslens.paths.path import UNITS
from sslens.settings_file import read_yaml
from sslens.table import Table
from sslens.training.folder import select_shared_settings
from sslens.training.run_files import BEST, PATH
from sslens.whole_file import exists


def find_path(source: str, about: About) -> Table | None:
    """Find the table of the path that a fine-tuned model's weights took.

    The table is the file `path.csv` beside the model's file. `sslens finetune` writes it during the
    training, or `sslens path` writes it from checkpoints. A table from checkpoints must name the
    model's file, because another training in the same folder may have written the table. A model
    that comes with the package has its table beside it, in a file with the ending .path.csv.

    Args:
        source: the name, file or folder that the model was loaded from.
        about: the model's family, objective, architecture and training, as far as known.

    Returns:
        The table, with the settings of the run in its `provenance`. It is None if the model was not
        fine-tuned, or if no table belongs to it.

    Raises:
        InputError: the table of a run cannot be read as a path.

    >>> find_path("random:vit_nano_patch8_32:0", About(family="control")) is None
    True
    """
    if not is_tuned(about):
        return None
    name = zoo.split_options(source)[0]
    card = cards.look_up(name)
    if card is not None:
        shipped = None if card.shipped is None else card.shipped.with_suffix(".path.csv")
        return None if shipped is None or not shipped.is_file() else _read(shipped)
    if not exists(name):
        return None
    file = zoo.find_file(Path(name))
    path, config = file.parent / PATH, file.parent / "config.yaml"
    if not path.is_file():
        return None
    if about.pretrained is not None and config.is_file() and file.name in (zoo.ENCODER, BEST):
        settings = read_yaml(config)
        settings = settings if isinstance(settings, Mapping) else {}
        return replace(_read(path), provenance={"recipe": select_shared_settings(settings)})
    try:
        table = _read(path)
    except InputError:  # a file of another program may have the same name
        return None
    return table if file.name in {Path(label).name for label in table.frame["at"]} else None


def is_path_beside(source: str) -> bool:
    """Whether there is a file `path.csv` beside a model's file."""
    name = zoo.split_options(source)[0]
    if cards.look_up(name) is not None or not exists(name):
        return False
    return (zoo.find_file(Path(name)).parent / PATH).is_file()


def _read(path: Path) -> Table:
    try:
        frame = pd.read_csv(path, dtype={"at": str, "group": str})
        missing = [column for column in UNITS if column not in frame]
        frame = frame[list(UNITS)] if not missing else frame
        numbers = frame.drop(columns=["at", "group"], errors="ignore").astype(float)
    except (ValueError, UnicodeDecodeError) as error:
        raise _refuse(path, str(error)) from None
    if missing:
        raise _refuse(path, f"it has no column {missing[0]}")
    if frame.empty or frame["group"].isna().any():
        raise _refuse(path, "it has no rows, or rows without a group")
    return Table(frame.assign(**{name: numbers[name] for name in numbers}), UNITS)


def _refuse(path: Path, reason: str) -> InputError:
    return InputError(
        f"{path} is no table of a path ({reason})", mend="write it anew with sslens path"
    )
