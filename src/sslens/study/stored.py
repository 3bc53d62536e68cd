"""Stored features, given in the place of a model and its images: a folder, or Features."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sslens.errors import InputError

if TYPE_CHECKING:
    from sslens.capture import Features

#: the file by which a folder of stored features is known (`sslens.capture.is_features` needs torch)
MANIFEST = "features.json"


def is_stored(source: str, given: Mapping[str, Any] | None = None) -> bool:
    """Whether a source is a folder of stored features, or stands for Features in memory.

    Args:
        source: the source.
        given: the things in memory by the sources that stand for them.
    """
    if given and source in given:
        return hasattr(given[source], "columns")
    return (Path(source).expanduser() / MANIFEST).is_file()


def open_stored(source: str, given: Mapping[str, Any] | None = None) -> "Features":
    """Open the features of a folder, or take those in memory.

    Raises:
        InputError: the folder's features cannot be read.
    """
    from sslens.capture import open_features

    if given and source in given:
        features: Features = given[source]
        return features
    return open_features(source)


def require_folder_name(out: Path, holds: str) -> None:
    """Refuse a file where a folder is to be written; `holds` is the clause that says what it holds.

    Raises:
        InputError: `out` is a file.
    """

    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: {holds}.", mend="give another {out}")
