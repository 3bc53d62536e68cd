"""The order of a run's checkpoints: files that are named keep their order, and the files of a
folder or a glob are sorted by the numbers in their names."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from sslens import zoo
from sslens.errors import InputError
from sslens.own_files import TRAINING, OwnFiles

#: what checkpoints in a folder are called
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".tar", ".ckpt")
#: words in a name that tell the first or the last place, and a word that tells none
FIRST, LAST, BEST = {"init", "initial", "start"}, {"last", "latest", "final"}, {"best"}
#: what tells a glob from a file that exists
_WILD = re.compile(r"[*?\[]")
_NUMBER = re.compile(r"(\d+)")


@final
@dataclass(frozen=True)
class CheckpointOrder:
    """Checkpoints in the order of their run.

    Attributes:
        paths: the files in their order.
        sorted: whether files were put in another order than they were given or found in.
        left_out: files of a folder or a glob that have no place among the numbers, such as
            `best.pth`.
    """

    paths: tuple[Path, ...]
    sorted: bool = False
    left_out: tuple[Path, ...] = ()


def order_checkpoints(given: Sequence[Path], *, as_given: bool = False) -> CheckpointOrder:
    """Put checkpoints in the order of their run.

    Files that are named one by one keep their order. The files of a folder or of a glob are sorted
    by the numbers in their names; a shell hands over a glob as files in its own order, in which
    epoch10 stands before epoch9, so neighbours in this order are sorted too. `init` comes before
    the numbers, `last` after them, and `best` is left out: its name does not say where it belongs.

    Args:
        given: files, folders and globs.
        as_given: whether files that are named one by one keep their order in any case.

    Raises:
        InputError: a path is not there, or a folder or glob has no checkpoints.

    >>> given = ["mae_vitb16.pth", "run/epoch10.pth", "run/epoch9.pth", "a/2.pth", "a/1.pth"]
    >>> order = order_checkpoints([Path(name) for name in given])
    >>> [path.stem for path in order.paths]  # the second and third as a shell sorts them
    ['mae_vitb16', 'epoch9', 'epoch10', '2', '1']
    """
    paths: list[Path] = []
    left_out: list[Path] = []
    sources = [(_find_files(path), path) for path in given]
    for is_found, several in itertools.groupby(sources, key=lambda source: source[0] is not None):
        if is_found:
            for files, _ in several:
                paths += sort_by_number(files or ())
                left_out += _list_best(files or ())
        else:
            named = [_require_there(path) for _, path in several]
            for _, group in itertools.groupby(named, key=lambda path: _mask(str(path.parent))):
                files = list(group)
                ordered, best = (files, []) if as_given else _order_named(files)
                paths += ordered
                left_out += best
    is_sorted = any(files is not None for files, _ in sources) or paths != [
        path for path in given if path not in left_out
    ]
    return CheckpointOrder(tuple(paths), is_sorted, tuple(left_out))


def sort_by_number(paths: Sequence[Path]) -> list[Path]:
    """Sort paths by the numbers in their names; `last` comes after all numbers, and `best` is left
    out where other names have numbers.

    >>> names = ["best", "epoch10", "epoch9", "last", "init"]
    >>> [path.stem for path in sort_by_number([Path(f"run/{name}.pth") for name in names])]
    ['init', 'epoch9', 'epoch10', 'last']
    """
    best = _list_best(paths)
    return sorted((path for path in paths if path not in best), key=_rank)


def _rank(path: Path) -> tuple[int, list[tuple[bool, int, str]]]:
    """The key by which paths are sorted."""
    words = _list_words(path)
    place = -1 if words & FIRST else int(bool(words & LAST))
    parts = [
        (part.isdecimal(), int(part) if part.isdecimal() else 0, part)
        for part in _NUMBER.split(str(path))
        if part
    ]
    return place, parts


def _list_words(path: Path) -> set[str]:
    return set(re.findall("[a-z]+", path.stem.lower()))


def _list_best(paths: Sequence[Path]) -> list[Path]:
    """The files that are named as the best one, if two or more others have numbers."""
    best = [path for path in paths if _list_words(path) & BEST]
    numbered = [path for path in paths if path not in best and _NUMBER.search(path.stem)]
    return best if len(numbered) > 1 else []


def _find_files(path: Path) -> list[Path] | None:
    """The checkpoints of a folder or of a glob; None for a file.

    Raises:
        InputError: there are none.
    """
    if path.is_dir():
        _require_no_run(path)
        inside = (file for file in path.iterdir() if not file.name.startswith("."))
        files = sorted(file for file in inside if file.suffix in SUFFIXES)
        if not files:
            raise InputError(
                f"{path} holds no checkpoints ({', '.join(SUFFIXES)}): give the files themselves."
            )
        return files
    if not path.exists() and _WILD.search(str(path)):
        files = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        if not files:
            raise InputError(f"No file is called {path}: give checkpoints, or their folder.")
        return files
    return None


def _require_no_run(folder: Path) -> None:
    """Refuse the folder of a training of ours: its files are the last network, the best one and the
    state to go on from, and no path."""
    there = OwnFiles(folder).read()
    if there is None or there.kind != TRAINING:
        return
    kept, states = folder / "path.csv", folder / "states"
    mend = "fine-tune with {path=True}, which measures the path"
    if kept.exists() or states.exists():
        mend = f"its path is in {kept}" if kept.exists() else f"give {states}"
    raise InputError(f"{folder} holds a training and not its checkpoints", mend=mend)


def _require_there(path: Path) -> Path:
    """Refuse a path that is not there; of one that is named like a checkpoint its reader says so.

    Raises:
        InputError: the path is not there.
    """
    plain, options = zoo.split_options(str(path))
    if (branch := options.get("branch")) and not path.exists():
        raise InputError(
            f"{path} names one of the networks in a file, and a path is one network's",
            mend=f"give the files as they are called, {plain}, and {{state={branch}}}",
        )
    if not path.exists() and path.suffix not in SUFFIXES:
        raise InputError(f"{path} is not there: give checkpoints, or the folder that they are in.")
    return path


def _order_named(paths: list[Path]) -> tuple[list[Path], list[Path]]:
    """Put files of one folder in order that were named one after another; returns them, and those
    that were left out. What stands as a shell lists it is taken for a glob."""
    if _is_listed(paths):
        return sort_by_number(paths), _list_best(paths)
    ordered: list[Path] = []
    for _, group in itertools.groupby(paths, key=lambda path: _mask(path.name)):
        alike = list(group)
        ordered += sorted(alike, key=_rank) if _is_listed(alike) else alike
    return ordered, []


def _is_listed(paths: Sequence[Path]) -> bool:
    """Whether paths stand as a shell lists them: by their characters, or without regard to
    punctuation, as most languages sort."""
    orders = (str, lambda path: re.sub(r"\W|_", "", str(path)).casefold())
    return any(list(paths) == sorted(paths, key=order) for order in orders)


def _mask(text: str) -> str:
    """A text without its numbers, which checkpoints of one run have in common."""
    return _NUMBER.sub("#", text)


def require_two(order: CheckpointOrder) -> None:
    """Refuse fewer than two checkpoints, which are no path.

    Raises:
        InputError: there are fewer than two.
    """
    count = len(order.paths)
    if count < 2:
        raise InputError(
            f"A path needs two or more checkpoints, and {count}"
            f" {'is' if count == 1 else 'are'} given: the weights at the start and at least"
            " one file after that."
        )
