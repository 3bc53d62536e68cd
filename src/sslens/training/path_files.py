"""The weights in a run's checkpoints, one file after another, each read while the one before it is worked on.

A file that is not in memory yet is read past the system's cache, straight from the disk, into memory that is used again: files are
read but once here, 100 of them would push all else out of the cache, and there each page costs a core's time.
"""

import contextlib
import mmap
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import final

from torch import Tensor

from sslens.errors import InputError, nearest
from sslens.zoo import files

#: bytes that are asked of the disk at a time
PIECE = 1 << 24
#: places of a file at which is asked whether the system has it in memory
LOOKED_AT = 8
#: share of the machine's memory that copies of files may take
SHARE = 0.25
#: what wrappers put before a network's own names
WRAPPERS = ("module.", "_orig_mod.")

_BUFFERS = re.compile(r"(^|[._])running_(mean|var)$|num_batches_tracked$")


def plain(name: str) -> str:
    """A parameter's name without what DistributedDataParallel and torch.compile put before it.

    >>> plain("module._orig_mod.blocks.0.norm1.weight")
    'blocks.0.norm1.weight'
    """
    for wrapper in WRAPPERS:
        if name.startswith(wrapper):
            return plain(name.removeprefix(wrapper))
    return name


def in_order(paths: Iterable[Path]) -> list[Path]:
    """Paths by the numbers in their names, as runs count: a shell lists epoch10 before epoch9.

    >>> [str(path) for path in in_order([Path("run/epoch10.pth"), Path("run/epoch9.pth"), Path("init.pth")])]
    ['init.pth', 'run/epoch9.pth', 'run/epoch10.pth']
    """
    return sorted(
        paths,
        key=lambda path: [
            (part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", str(path)) if part
        ],
    )


def weights(path: Path, state: str | None = None) -> dict[str, Tensor]:
    """The parameters in a checkpoint file, by name; memory-mapped where the format allows it.

    Raises:
        InputError: the file cannot be read, or holds several sets of weights of which none was chosen.
    """
    states = files.contents(path).states
    if state is not None and state not in states:
        raise InputError(f'{path} holds no weights under "{state}": {nearest(state, states)}.')
    if state is None:
        usual = [key for key in ("", "model", "state_dict", "module", "network") if key in states]
        if len(states) > 1 and len(usual) != 1:
            raise InputError(
                f"{path} holds several sets of weights ({', '.join(states)}): say whose path is meant with --state."
            )
        state = usual[0] if usual else next(iter(states))
    return {
        plain(name): value
        for name, value in states[state].items()
        if value.is_floating_point() and not _BUFFERS.search(name)
    }


def in_turn(paths: Sequence[Path], state: str | None, held: int) -> Iterator[dict[str, Tensor]]:
    """The weights of each file. Those of the first stay as they are; those of others until `held` more have come.

    Raises:
        InputError: as `weights` raises.
    """
    copies = [_Copy() for _ in range(held + 3)]
    size = max((path.stat().st_size for path in paths if path.exists()), default=0)
    fits = hasattr(os, "memfd_create") and len(copies) * size <= SHARE * os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE
    with ThreadPoolExecutor(1, "read ahead") as pool:

        def begin(number: int) -> Callable[[], dict[str, Tensor]]:
            path = paths[number]
            if fits and path.suffix == ".safetensors" and not _in_memory(path):
                copy = copies[0] if number == 0 else copies[1 + number % (held + 2)]
                made = pool.submit(copy.of, path)
                return lambda: _from(made.result(), path, state)
            found = weights(path, state)
            return pool.submit(_touched, found).result

        coming = begin(0)
        for number in range(len(paths)):
            here = coming()
            if number + 1 < len(paths):
                coming = begin(number + 1)
            yield here


def _from(copy: Path | None, path: Path, state: str | None) -> dict[str, Tensor]:
    with contextlib.suppress(InputError):  # which would name the copy
        if copy is not None:
            return weights(copy, state)
    return weights(path, state)


def _touched(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same, once every page that they lie on has been read."""
    for value in found.values():
        if value.is_contiguous() and value.numel():
            value.view(-1)[:: mmap.PAGESIZE // value.element_size()].amax()
    return found


def _in_memory(path: Path) -> bool:
    """Whether a file is in the system's cache, or the system cannot tell."""
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            for place in range(LOOKED_AT):
                os.preadv(file.fileno(), [bytearray(1)], place * size // LOOKED_AT, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


@final
class _Copy:
    """A file without a name, in memory, that holds one file after another."""

    def __init__(self) -> None:
        self._file: int | None = None
        self._memory: mmap.mmap | None = None

    def of(self, path: Path) -> Path | None:
        """Where a copy of the file can be read from now; None if it cannot be copied past the cache."""
        try:
            source = os.open(path, os.O_RDONLY | os.O_DIRECT)
        except OSError:
            return None
        try:
            size = os.fstat(source).st_size
            whole = size - size % mmap.PAGESIZE  # what is not a whole page cannot be read so
            with memoryview(self._sized(size)) as memory:
                at = 0
                while at < whole:
                    at += _some(os.preadv(source, [memory[at : min(at + PIECE, whole)]], at))
                with path.open("rb") as file:
                    file.seek(whole)
                    memory[whole:] = file.read()
        except (OSError, ValueError):  # ValueError: it is being written, and has another length by now
            return None
        finally:
            os.close(source)
        return Path(f"/proc/self/fd/{self._file}")

    def _sized(self, size: int) -> mmap.mmap:
        if self._file is None:
            self._file = os.memfd_create("checkpoint")
        if self._memory is None or len(self._memory) != size:
            os.ftruncate(self._file, size)
            self._memory = mmap.mmap(self._file, size)
        return self._memory

    def __del__(self) -> None:
        if self._file is not None:
            os.close(self._file)


def _some(read: int) -> int:
    if read == 0:
        raise OSError("the file ends before its end")
    return read
