"""Tensors of a file, read into memory that is used again.

A file that is not in memory yet is read past the system's cache, straight from the disk: each file
is read once here, a hundred of them would push all else out of the cache, and each page in the
cache costs a core's time.
"""

import contextlib
import io
import itertools
import mmap
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from sslens.errors import InputError
from sslens.zoo.places import Checked, Place

#: bytes that are asked of the disk at a time
PIECE = 1 << 24
#: pages at which the system is asked whether it has a file in memory
LOOKED_AT = 8
_PAGE = mmap.PAGESIZE


@final
class ReadBuffer:
    """A buffer that is filled again and again, each time with the same part of another file."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _PAGE)

    def fill(self, path: Path, at: Mapping[str, Place]) -> dict[str, Tensor]:
        """Read tensors from their places in a file into the buffer, overwriting what it held.

        Raises:
            InputError: the file cannot be read, is too short, or its bytes are not those that were
                written.
        """
        spans = {
            name: (place.begin or 0, (place.begin or 0) + place.nbytes)
            for name, place in at.items()
        }
        runs = _list_pages(list(spans.values()))
        begins = dict(
            zip(
                runs,
                itertools.accumulate((len(run) * _PAGE for run in runs), initial=0),
                strict=False,
            )
        )
        self._grow(sum(map(len, runs)) * _PAGE)
        try:
            self._read(path, begins, max(end for _, end in spans.values()))
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror or error}).") from error
        tensors = {}
        for name, place in at.items():
            tensors[name] = torch.empty(place.shape, dtype=place.dtype)
            if place.numbers:
                begin, _ = spans[name]
                run = next(run for run in runs if begin // _PAGE in run)
                start = begins[run] + begin - run.start * _PAGE
                self._require_sound(path, name, place, start)
                flat = self._numbers(start, place.dtype, place.numbers)
                tensors[name] = flat.as_strided(place.shape, place.stride)
        return tensors

    def _require_sound(self, path: Path, name: str, place: Place, start: int) -> None:
        """Hold a tensor's bytes against their checksum, where the file has one. Of bytes that the
        tensor shares with others, all are read for it, once in a process.

        Raises:
            InputError: the bytes are not those that were written.
        """
        checked = place.checked
        if checked is None:
            return
        if (checked.begin, checked.nbytes) == (place.begin, place.nbytes):
            with memoryview(self._memory) as memory, memory[start : start + place.nbytes] as part:
                sound = zlib.crc32(part) == checked.crc
        else:
            sound = _is_sound(path, checked)
        if not sound:
            raise InputError(
                f"{path} is damaged: {name} is not what was written (its checksum differs). Write"
                " or copy the file again, or leave it out."
            )

    def hold(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copy tensors into the buffer, overwriting what it held."""
        begins = list(
            itertools.accumulate(
                (-(-value.nbytes // _PAGE) * _PAGE for value in tensors.values()), initial=0
            )
        )
        self._grow(begins[-1])
        copies = {}
        for begin, (name, value) in zip(begins, tensors.items(), strict=False):
            copies[name] = torch.empty_like(value)
            if value.numel():
                numbers = self._numbers(begin, value.dtype, value.numel())
                copies[name] = numbers.view(value.shape).copy_(value)
        return copies

    def _grow(self, size: int) -> None:
        if len(self._memory) < size:
            self._memory = mmap.mmap(-1, size)

    def _numbers(self, begin: int, dtype: torch.dtype, count: int) -> Tensor:
        return torch.frombuffer(self._memory, dtype=dtype, count=count, offset=begin)

    def _read(self, path: Path, begins: Mapping[range, int], last: int) -> None:
        """Read runs of a file's pages, each to its place in the memory; the file has at least
        `last` bytes."""
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(path.open("rb", buffering=0))
            size = os.fstat(file.fileno()).st_size
            if size < last:
                raise OSError("it ends before its end")
            direct = None if _is_in_memory(path, list(begins)) else _direct(path)
            past = stack.enter_context(direct) if direct else None
            memory = stack.enter_context(memoryview(self._memory))
            for run, begin in begins.items():
                place, end = run.start * _PAGE, min(run.stop * _PAGE, size)
                into = memory[begin : begin + end - place]
                done = 0
                if past is not None:
                    # of whole pages alone; what cannot be read so is read as any file is
                    with contextlib.suppress(OSError):
                        done = _read_into(past, place, into[: len(into) - end % _PAGE])
                _read_into(file, place + done, into[done:])


#: bytes of files that this process found to be as they were written: path, time, size, bytes
_SOUND: set[tuple[str, int, int, Checked]] = set()


def _is_sound(path: Path, checked: Checked) -> bool:
    """Whether bytes of a file have their checksum; they are read in pieces, and once in a
    process."""
    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            key = str(path), about.st_mtime_ns, about.st_size, checked
            if key in _SOUND:
                return True
            file.seek(checked.begin)
            crc, left = 0, checked.nbytes
            while left and (piece := file.read(min(left, PIECE))):
                crc, left = zlib.crc32(piece, crc), left - len(piece)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from error
    if left or crc != checked.crc:
        return False
    _SOUND.add(key)
    return True


def _read_into(file: io.FileIO, place: int, memory: memoryview) -> int:
    """Fill memory from a place in a file; returns the bytes read."""
    file.seek(place)
    done = 0
    while done < len(memory):
        count = file.readinto(memory[done : done + PIECE])
        if not count:
            raise OSError("it is being written")
        done += count
    return done


def _direct(path: Path) -> io.FileIO | None:
    """The file opened to be read past the system's cache, where that can be done."""
    try:
        return io.FileIO(path, opener=lambda path, flags: os.open(path, flags | os.O_DIRECT))
    except (OSError, AttributeError):
        return None


def _is_in_memory(path: Path, runs: Sequence[range]) -> bool:
    """Whether runs of a file's pages are in the system's cache, or the system cannot tell."""
    every = list(itertools.chain(*runs))
    try:
        with path.open("rb", buffering=0) as file:
            # only what is asked for, not what follows it
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            for page in every[:: -(-len(every) // LOOKED_AT)] if every else ():
                os.preadv(file.fileno(), [bytearray(1)], page * _PAGE, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except (OSError, AttributeError):
        return True
    return True


def _list_pages(spans: Sequence[tuple[int, int]]) -> list[range]:
    """List the runs of pages that spans of bytes lie on.

    >>> page = mmap.PAGESIZE
    >>> _list_pages([(3 * page, 3 * page + 8), (5, 6), (7, page + 1)])
    [range(0, 2), range(3, 4)]
    """
    runs: list[range] = []
    for begin, end in sorted(span for span in spans if span[0] < span[1]):
        pages = range(begin // _PAGE, -(-end // _PAGE))
        if runs and pages.start <= runs[-1].stop:
            runs[-1] = range(runs[-1].start, max(runs[-1].stop, pages.stop))
        else:
            runs.append(pages)
    return runs
