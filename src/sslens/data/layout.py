"""How the images of a folder lie in its folders: their classes, and what looks like a mistake."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from sslens.counts import spell_count
from sslens.errors import InputError

#: folders below a folder, by their paths, with the number of images in each itself
Folders = Sequence[tuple[str, int]]

_SPLIT = re.compile(r"(train|val|valid|validation|test|dev|eval)\d*", re.IGNORECASE)


def is_split(name: str) -> bool:
    """Whether a folder is named as a part of a data set.

    >>> is_split("train2017"), is_split("trains")
    (True, False)
    """
    return _SPLIT.fullmatch(name) is not None


def require_no_splits(path: Path, folders: Folders) -> None:
    """Refuse a folder in which all images lie in folders such as `train` and `val`.

    Raises:
        InputError: they do; the message says to choose one.
    """
    tops = _list_tops(folders)
    if all(is_split(name) for name in tops):
        raise InputError(
            f"{path} holds {', '.join(tops)}, which are no classes: choose one, such as"
            f" {path / tops[0]}."
        )


def find_classes(folders: Folders) -> tuple[tuple[str, ...], Int64[np.ndarray, " image"] | None]:
    """Find the class of each image: the first name of its folder's path.

    Returns:
        The names of the classes, and the class of each image in the order of the folders; no names
        and None where an image lies in no folder.

    >>> classes, labels = find_classes([("", 0), ("cat", 1), ("cat/young", 2), ("dog", 1)])
    >>> classes, labels.tolist()
    (('cat', 'dog'), [0, 0, 0, 1])
    """
    classes = _list_tops(folders)
    if "" in classes:
        return (), None
    number = {name: at for at, name in enumerate(classes)}
    tops = [number.get(folder.partition("/")[0], -1) for folder, _ in folders]
    counts = [count for _, count in folders]
    return tuple(classes), np.repeat(np.array(tops, np.int64), counts)


def describe_layout(path: Path, folders: Folders, ids: Sequence[str]) -> tuple[str, ...]:
    """Say what about the layout of a folder was probably not meant, with the path that was.

    A single class; an image beside the folders of classes, which takes the classes away; and
    classes that hold no image themselves, but folders of images.

    >>> describe_layout(Path("data"), [("", 0), ("images/ant", 3), ("images/bee", 2)], ["…"] * 5)
    ('All 5 images of data are of one class, "images": data/images was probably meant.',)
    """
    filled = [(folder, count) for folder, count in folders if count]
    tops = _list_tops(folders)
    if tops == [""]:
        return ()
    if "" in tops:
        count = next(count for folder, count in filled if not folder)
        return (
            f"The images of {path} have no classes, because {ids[0]}"
            f"{f' and {count - 1:,} more lie' if count > 1 else ' lies'} beside the"
            f" {spell_count(len(tops) - 1, 'folder')}: if these are classes, move such images into"
            " them.",
        )
    if len(tops) == 1:
        meant = _find_meant(filled)
        start = f'All {len(ids):,} images of {path} are of one class, "{tops[0]}"'
        if meant is None:
            return (f"{start}: nothing can be classified. Classes are the folders of {path}.",)
        return (f"{start}: {path / meant} was probably meant.",)
    return _describe_nested(path, filled, tops)


def _list_tops(folders: Folders) -> list[str]:
    """The first names of the paths of folders with images, each once, in order."""
    return sorted({folder.partition("/")[0] for folder, count in folders if count})


def _find_meant(filled: Folders) -> str | None:
    """The folder that the only class stands for: the deepest that holds all images, in several
    folders; where these are parts of a data set, the first. None where the images lie in one
    folder."""
    parts = [folder.split("/") for folder, _ in filled]
    depth = 0
    while len({tuple(one[: depth + 1]) for one in parts}) == 1:
        if any(len(one) == depth + 1 for one in parts):
            return None  # images lie in that folder itself
        depth += 1
    children = sorted({one[depth] for one in parts})
    meant = parts[0][:depth]
    if all(map(is_split, children)):
        meant = [*meant, children[0]]
    return "/".join(meant)


def _describe_nested(path: Path, filled: Folders, tops: Sequence[str]) -> tuple[str, ...]:
    """Say that most classes hold no images, but several folders of them."""
    inside: dict[str, set[str]] = {top: set() for top in tops}
    direct = set()
    for folder, _ in filled:
        top, slash, rest = folder.partition("/")
        if slash:
            inside[top].add(rest.partition("/")[0])
        else:
            direct.add(top)
    nested = [top for top in tops if top not in direct and len(inside[top]) > 1]
    if 2 * len(nested) <= len(tops):
        return ()
    every = sum(len(inside[top]) for top in nested)
    example = f"{nested[0]}/{min(inside[nested[0]])}"
    parts = all(is_split(name) for top in nested for name in inside[top])
    what = (
        f"{len(tops):,} classes were taken, the folders of {path}, such as {nested[0]}; they hold"
        f" {spell_count(every, 'folder')} of images, such as {example}"
    )
    if parts:
        return (
            f"{what}: these are parts of a data set, which are all taken. Give an index file with a"
            " column split to take one.",
        )
    return (
        f"{what}: if these are the classes, give {path / nested[0]} for its own, or an index file"
        " with a column label for all.",
    )
