"""What may be written over in a folder for features: its own files, and no others'."""

from collections.abc import Iterator
from pathlib import Path

from sslens.capture.manifest import (
    IMAGES,
    MANIFEST,
    Damaged,
    Manifest,
    is_features,
    locate_columns,
    shard_path,
)
from sslens.capture.sharing import this_process, wait_for_all
from sslens.capture.writing import remove_features
from sslens.errors import InputError
from sslens.tensor_file import Header, read_header
from sslens.whole_file import open_regular


def read_manifest(folder: Path, *, overwrite: bool = False) -> Manifest | None:
    """Read the manifest of a folder; None where there is none, or a damaged one that may be
    overwritten.

    Raises:
        InputError: the manifest is damaged and may not be overwritten, or is of a newer format.
    """
    if not is_features(folder):
        return None
    try:
        return Manifest.read(folder)
    except Damaged as error:
        if not any(True for _ in _list_own(folder)):
            raise InputError(
                f"{folder / MANIFEST} is no manifest of features, and no features are beside it: it"
                " would be lost.",
                mend="give another {out}",
            ) from error
        if overwrite:
            return None
        raise


def remove_others(folder: Path, wanted: Manifest) -> None:
    """Remove the files of other features than those that are wanted, and no other files. Of a
    folder without a whole manifest, files are told by what is in them. All processes call it, and
    the first removes them once all have seen them."""
    wait_for_all()
    if this_process()[0]:
        return
    there = read_manifest(folder, overwrite=True)
    if there is not None:
        if there.key != wanted.key:
            remove_features(folder, there.count)
        return
    lacking = {shard_path(folder, number) for number in list_unfit(folder, wanted)}
    kept = {shard_path(folder, number) for number in range(wanted.count)} - lacking
    for path in [*_list_own(folder), folder / MANIFEST]:
        if path not in kept:
            path.unlink(missing_ok=True)


def refuse_strangers(folder: Path, wanted: Manifest, *, overwrite: bool) -> None:
    """Refuse to write over files in a folder without a whole manifest: over others' always, and
    over other features where they may not be overwritten.

    Raises:
        InputError: such a file is there.
    """
    own = set(_list_own(folder))
    named = [folder / IMAGES, *(shard_path(folder, number) for number in range(wanted.count))]
    strange = next((path for path in named if path.exists() and path not in own), None)
    if strange is not None:
        raise InputError(
            f"{strange} is there and is no file of features: it would be lost.",
            mend="give another {out}",
        )
    others = [n for n in list_unfit(folder, wanted) if shard_path(folder, n) in own]
    if others and not overwrite:
        raise InputError(
            f"{shard_path(folder, others[0])} holds other features, or a part of them, and"
            f" {folder} has no {MANIFEST} that says which",
            mend="give another {out}, or replace them with {overwrite=True}",
        )


def list_unfit(folder: Path, wanted: Manifest) -> list[int]:
    """List the numbers of the shards that a folder lacks, or has of other features."""
    return [number for number in range(wanted.count) if not _fits(folder, wanted, number)]


def _fits(folder: Path, wanted: Manifest, number: int) -> bool:
    """Whether a shard is there and whole, of the features that are wanted."""
    try:
        return locate_columns(folder, wanted, number) is not None
    except FileNotFoundError:
        return False


def _list_own(folder: Path) -> Iterator[Path]:
    """The files of features in a folder, by what is in them: shards say it in their headers, and
    the file of the images has their ids."""
    for path in sorted(folder.glob("shard-[0-9][0-9][0-9][0-9][0-9].safetensors")):
        header = _read_header(path)
        if header is not None and "sslens.shard" in header.metadata:
            yield path
    images = _read_header(folder / IMAGES)
    if images is not None and "ids" in images.entries and set(images.entries) <= {"ids", "labels"}:
        yield folder / IMAGES


def _read_header(path: Path) -> Header | None:
    """The header of a safetensors file; None where there is no such file."""
    try:
        with open_regular(path) as file:
            return read_header(file)
    except (OSError, ValueError, InputError):
        return None
