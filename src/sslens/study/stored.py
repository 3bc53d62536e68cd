"""Folders of stored features, given in the place of a model and its images."""

from pathlib import Path

from sslens.errors import InputError

#: the file by which a folder of stored features is known (`sslens.capture.is_features` needs torch)
MANIFEST = "features.json"


def is_stored(source: str) -> bool:
    """Whether a source is a folder of stored features."""
    return (Path(source).expanduser() / MANIFEST).is_file()


def require_folder_name(out: Path, holds: str) -> None:
    """Refuse a file where a folder is to be written; `holds` is the clause that says what it holds.

    Raises:
        InputError: `out` is a file.
    """

    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: {holds}.", mend="give another {out}")
