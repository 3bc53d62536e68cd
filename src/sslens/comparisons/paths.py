"""The path that a fine-tuned model's weights took, where its folder or the package has the
table."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd
import yaml

from sslens import cards, zoo
from sslens.comparisons import untyped as _roles
from sslens.errors import InputError
from sslens.models.about import About
from sslens.paths.path import UNITS
from sslens.table import Table
from sslens.training.folder import shared_settings

#: the files of a run, as `sslens.training.loop` calls them
BEST, PATH = "best.safetensors", "path.csv"


def path_of(source: str, about: About) -> Table | None:
    """The table of a model's path; None where the model was not fine-tuned or nothing says how it
    went.

    It is `path.csv` beside the model's file: of a run of `sslens finetune --path`, or written there
    by `sslens path` of checkpoints among which it names this file, so that the table of another
    training in the same folder is not taken for it. Of a model that comes with the package it is
    the file of its name that ends in .path.csv. What the run's settings were stands in
    `provenance`.

    Raises:
        InputError: the table of such a run is no path.

    >>> path_of("random:vit_nano_patch8_32:0", About(family="control")) is None
    True
    """
    if not _roles.is_tuned(about):
        return None
    card = cards.known(zoo.options(source)[0])
    if card is not None:
        shipped = None if card.shipped is None else card.shipped.with_suffix(".path.csv")
        return None if shipped is None or not shipped.is_file() else _read(shipped)
    given = Path(zoo.options(source)[0])
    if not given.exists():
        return None
    file = zoo.file_of(given)
    path, config = file.parent / PATH, file.parent / "config.yaml"
    if not path.is_file():
        return None
    if about.pretrained is not None and config.is_file() and file.name in (zoo.ENCODER, BEST):
        settings = yaml.safe_load(config.read_text(encoding="utf-8"))
        return replace(
            _read(path),
            provenance={
                "recipe": shared_settings(settings if isinstance(settings, Mapping) else {})
            },
        )
    try:
        table = _read(path)
    except InputError:  # some other program's
        return None
    return table if file.name in {Path(label).name for label in table.frame["at"]} else None


def _read(path: Path) -> Table:
    try:
        frame = pd.read_csv(path, dtype={"at": str, "group": str})
        missing = [column for column in UNITS if column not in frame]
        frame = frame[list(UNITS)] if not missing else frame
        numbers = frame.drop(columns=["at", "group"], errors="ignore").astype(float)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} is no table of a path ({error}): write it anew with sslens path."
        ) from None
    if missing or frame.empty or frame["group"].isna().any():
        said = (
            f"it has no column {missing[0]}"
            if missing
            else "it has no rows, or rows without a group"
        )
        raise InputError(f"{path} is no table of a path ({said}): write it anew with sslens path.")
    return Table(frame.assign(**{name: numbers[name] for name in numbers}), UNITS)
