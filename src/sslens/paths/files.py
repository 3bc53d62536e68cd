"""The checkpoint files of a run: the weights in each, and reading these part by part."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar, final

from torch import Tensor

from sslens.counts import spell_count
from sslens.errors import Doubt, InputError, nearest
from sslens.models.parts import find_block, find_buffer, find_kind_of_layer
from sslens.paths.memory import ReadBuffer
from sslens.zoo import files
from sslens.zoo.places import Place, locate_in_pickle, locate_in_safetensors

#: parts that a run's parameters are read in, and the least and most bytes in one: a small one is
#: not worth opening the files again
PARTS = 6
BYTES = 1 << 24, 1 << 30
#: number of files read before that keep their part in memory beside the first file's part
HELD = 2
#: what wrappers put before a network's own names
WRAPPERS = ("module.", "_orig_mod.")

Held = TypeVar("Held", Tensor, Place)


def strip_wrappers(name: str) -> str:
    """Strip from a parameter's name the prefixes of DistributedDataParallel and torch.compile.

    >>> strip_wrappers("module._orig_mod.blocks.0.norm1.weight")
    'blocks.0.norm1.weight'
    """
    for wrapper in WRAPPERS:
        if name.startswith(wrapper):
            return strip_wrappers(name.removeprefix(wrapper))
    return name


def read_weights(path: Path, state: str | None = None) -> dict[str, Tensor]:
    """Read the parameters in a checkpoint file, by name.

    Raises:
        InputError: the file cannot be read, or holds several sets of weights and `state` does not
            choose one.
    """
    return _select_parameters(path, files.read_tensors(path), state)


def locate_weights(path: Path, state: str | None = None) -> dict[str, Place]:
    """Find the place of each parameter in a checkpoint file, by name.

    Args:
        path: the file.
        state: the key of the weights in a file that holds several sets, such as "student".

    Raises:
        InputError: for the same reasons as `read_weights`.
    """
    if path.suffix == ".safetensors":
        return _select_parameters(path, {"": locate_in_safetensors(path)}, state)
    located = {name: locate_in_pickle(held) for name, held in files.locate_tensors(path).items()}
    return _select_parameters(path, located, state)


def _select_parameters(
    path: Path, states: Mapping[str, Mapping[str, Held]], state: str | None
) -> dict[str, Held]:
    """Select one of a file's sets of weights, and its parameters without buffers."""
    if state is not None and list(states) == [""]:
        raise InputError(
            f"{path} holds one set of weights, without a name", mend=f"leave out {{state={state}}}"
        )
    if state is not None and state not in states:
        raise InputError(f'{path} holds no weights under "{state}": {nearest(state, states)}.')
    if state is None:
        usual = [key for key in ("", "model", "state_dict", "module", "network") if key in states]
        if len(states) > 1 and len(usual) != 1:
            raise InputError(
                f"{path} holds several sets of weights ({', '.join(states)})",
                mend="say whose path is meant with {state}",
            )
        state = usual[0] if usual else next(iter(states))
    return {
        strip_wrappers(name): value
        for name, value in states[state].items()
        if value.dtype.is_floating_point and not find_buffer(name)
    }


@final
class Checkpoints:
    """The checkpoint files of one run, read part by part: one part of the parameters is read from
    all files before the next part is read from any.

    At any time five copies of a part are in memory, together less than one checkpoint: one from the
    first file, three from the files read last, and one from the file that is being read. A file in
    a format that can only be read whole is also in memory while it is read, once for each part.

    Raises:
        InputError: one of the first two files cannot be read, or they are of two architectures.
    """

    def __init__(self, paths: Sequence[Path], state: str | None = None) -> None:
        self._paths, self._state = paths, state
        self._rooms = [ReadBuffer() for _ in range(HELD + 3)]
        self._versions = {path: _read_version(path) for path in paths}
        self._pool = ThreadPoolExecutor(1, "read ahead")  # what one thread frees it uses again
        self._places = {
            path: self._pool.submit(locate_weights, path, state).result() for path in paths[:2]
        }
        first, self._like = (self._places[path] for path in paths[:2])
        left_out = _find_names_apart(first, self._like, paths)
        shared = (name for name in self._like if name not in left_out)
        # as they lie in the file
        self._names = sorted(shared, key=lambda name: self._like[name].begin or 0)

    def parts(self) -> list[list[str]]:
        """Divide the parameters that all files have into parts of about equal size; each part is a
        list of names."""
        sizes = {name: self._like[name].nbytes for name in self._names}
        least, most = BYTES
        size = min(max(least, -(-sum(sizes.values()) // PARTS)), most)
        parts: dict[int, list[str]] = {}
        begin = 0
        for name, nbytes in sizes.items():
            parts.setdefault(begin // size, []).append(name)
            begin += nbytes
        return list(parts.values())

    def read(self, names: Sequence[str], until: int) -> Iterator[dict[str, Tensor]]:
        """Read one part of the weights from each of the first `until` files in turn; the next file
        is read while the caller works on the last one.

        The first file's tensors stay valid until the next part is read. The tensors of any other
        file are overwritten once two more files were read.

        Args:
            names: the parameters of the part.
            until: the number of files.

        Raises:
            InputError: a file cannot be read, is of another architecture, or was written again in
                the meantime.
        """
        coming = [self._pool.submit(self._of, number, names) for number in range(min(until, 1))]
        for number in range(until):
            here = coming.pop().result()
            if number + 1 < until:
                coming.append(self._pool.submit(self._of, number + 1, names))
            yield here

    def _of(self, number: int, names: Sequence[str]) -> dict[str, Tensor]:
        path = self._paths[number]
        if _read_version(path) != self._versions[path]:
            raise InputError(
                f"{path} was written while it was read",
                mend="wait until the run has ended, or leave this file out",
            )
        if path not in self._places:
            self._places[path] = locate_weights(path, self._state)
            _require_same(self._like, self._places[path], self._paths[1], path)
        at = {name: self._places[path][name] for name in names}
        room = self._rooms[1 + number % (HELD + 2) if number else 0]
        if all(place.begin is not None for place in at.values()):
            return room.fill(path, at)
        whole = read_weights(path, self._state)
        return room.hold({name: whole[name] for name in names})


def _read_version(path: Path) -> tuple[int, int, int]:
    """Read the size, time and number of a file, which change when the file is written again."""
    with contextlib.suppress(OSError):
        about = path.stat()
        return about.st_size, about.st_mtime_ns, about.st_ino
    return 0, 0, 0  # its reader says what is wrong


def _find_differing(one: Mapping[str, Place], other: Mapping[str, Place]) -> list[str]:
    """Find the names that only one of two has, and those with different shapes."""
    names = dict.fromkeys([*one, *other])
    return [n for n in names if n not in one or n not in other or one[n].shape != other[n].shape]


def _find_names_apart(
    first: Mapping[str, Place], second: Mapping[str, Place], paths: Sequence[Path]
) -> set[str]:
    """Find the parameters that a pre-trained network and the first file after it do not share.

    These are of a new head, or of a decoder that was taken off.

    Raises:
        InputError: a file has no parameters, or the two are not of one network.
    """
    for path, places in zip(paths, (first, second), strict=False):
        if not places:
            raise InputError(f"There are no parameters in {path} whose path could be followed.")
    apart = _find_differing(first, second)
    inside = [
        name for name in apart if find_block(name) is not None or (name in first and name in second)
    ]
    inside = [name for name in inside if find_kind_of_layer(name) != "head"]
    if inside or len(apart) == len(first.keys() | second.keys()):
        raise InputError(_describe_difference(inside or apart, first, second, paths[0], paths[1]))
    if apart:
        shown = ", ".join(apart[:4]) + (f" and {len(apart) - 4} more" if len(apart) > 4 else "")
        warnings.warn(
            f"{shown} are in only one of {paths[0]} and {paths[1]}, or of another shape, and were"
            " left out: the path is that of the parameters that both have.",
            Doubt,
            stacklevel=4,
        )
    return set(apart)


def _require_same(
    one: Mapping[str, Place], other: Mapping[str, Place], path: Path, there: Path
) -> None:
    apart = _find_differing(one, other)
    if apart:
        raise InputError(_describe_difference(apart, one, other, path, there))


def _describe_difference(
    apart: Sequence[str],
    one: Mapping[str, Place],
    other: Mapping[str, Place],
    path: Path,
    there: Path,
) -> str:
    shapes = [
        str(list(places[apart[0]].shape)) if apart[0] in places else "not there"
        for places in (one, other)
    ]
    return (
        f"{path} and {there} are not of one architecture:"
        f" {spell_count(len(apart), 'parameter', 'differ')}, first {apart[0]} ({shapes[0]} and"
        f" {shapes[1]}). A path is that of one network: give the checkpoints of one run."
    )
