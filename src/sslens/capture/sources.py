"""Sources of feature rows: memory, the shards of a folder, or several of these with their rows in
another order."""

import os
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, final, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from sslens.capture.manifest import (
    DTYPES,
    Column,
    Manifest,
    checksum,
    read_sums,
    shard_path,
)
from sslens.errors import InputError
from sslens.whole_file import Steady, open_regular

Rows: TypeAlias = slice | Int64[np.ndarray, " row"]
#: bytes of columns that are held at a time; `Features.order` shuffles among their rows
WINDOW = 2**28
#: what mends a shard that is damaged
MEND = "Remove that file and run the same command again, and only it is computed."


@runtime_checkable
class Source(Protocol):
    """Gives rows of features, by tap and pooling."""

    def read(self, column: Column, rows: Rows) -> Tensor:
        """Read some rows of a column; a slice must have a step of 1."""
        ...

    def windows(
        self, rows: Int64[np.ndarray, " row"], generator: np.random.Generator, row_bytes: int
    ) -> Int64[np.ndarray, " row"]:
        """Return the window of each row, where windows are numbered in the random order of reading.

        A window is so many files as make 256 MB; the rows within a window are shuffled with each
        other.

        Args:
            rows: the rows.
            generator: decides the order of the files.
            row_bytes: the bytes that are read for one row.
        """
        ...


@final
class InMemory:
    """Rows of tensors in memory."""

    def __init__(self, columns: Mapping[Column, Tensor]) -> None:
        self.columns = columns

    def read(self, column: Column, rows: Rows) -> Tensor:
        """Read some rows of a column; the result of a slice is a view."""
        return self.columns[column][rows if isinstance(rows, slice) else torch.from_numpy(rows)]

    def windows(
        self, rows: Int64[np.ndarray, " row"], generator: np.random.Generator, row_bytes: int
    ) -> Int64[np.ndarray, " row"]:
        """Return 0 for every row: all rows are in one window."""
        return np.zeros(len(rows), np.int64)


@final
class InShards:
    """Rows of the shards of a folder, read column by column; 256 MB of columns are held at most.

    A column of a shard is read into memory of our own and compared with its checksum, so that the
    file may change or be cut off afterwards.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, starts: Sequence[Mapping[Column, int]]
    ) -> None:
        self.folder, self.manifest, self.starts = folder, manifest, starts
        self._held: OrderedDict[tuple[int, Column], Tensor] = OrderedDict()
        self._sums: dict[int, Mapping[Column, int]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the columns that are held, which another process reads for itself."""
        return {**vars(self), "_held": OrderedDict()}

    def read(self, column: Column, rows: Rows) -> Tensor:
        """Read some rows of a column; consecutive rows of one shard are a view of what is held."""
        shard, width = self.manifest.shard, self.manifest.columns[column]
        if isinstance(rows, slice):
            start, stop = rows.start, rows.stop
            parts = [
                self._view(number, column)[max(0, start - number * shard) : stop - number * shard]
                for number in range(start // shard, -(-max(start, stop) // shard))
            ]
            if len(parts) == 1:
                return parts[0]
            return torch.cat(parts) if parts else self._empty(0, width)
        values = self._empty(len(rows), width)
        numbers, local = np.divmod(rows, shard)
        for number in np.unique(numbers):
            wanted = torch.from_numpy(np.flatnonzero(numbers == number))
            values[wanted] = self._view(int(number), column)[
                torch.from_numpy(local[wanted.numpy()])
            ]
        return values

    def windows(
        self, rows: Int64[np.ndarray, " row"], generator: np.random.Generator, row_bytes: int
    ) -> Int64[np.ndarray, " row"]:
        """Return the window of each row; shards are put in a random order, and windows are groups
        of them of 256 MB."""
        places = generator.permutation(self.manifest.count)[rows // self.manifest.shard]
        return places // max(1, WINDOW // (row_bytes * self.manifest.shard))

    def _empty(self, rows: int, width: int) -> Tensor:
        return torch.empty(rows, width, dtype=DTYPES[self.manifest.dtype])

    def _view(self, number: int, column: Column) -> Tensor:
        """The rows of a shard of one column."""
        key = number, column
        if key not in self._held:
            self._hold(key, self._load(number, column))
        self._held.move_to_end(key)
        return self._held[key]

    def _hold(self, key: tuple[int, Column], values: Tensor) -> None:
        """Keep what was read, in place of what was read before where there is no room for both."""
        room = WINDOW - values.nbytes
        while self._held and sum(held.nbytes for held in self._held.values()) > room:
            self._held.popitem(last=False)
        self._held[key] = values

    def _load(self, number: int, column: Column) -> Tensor:
        """Read a column of a shard.

        Raises:
            InputError: the file is missing, or its values are not those that were written.
        """
        path = shard_path(self.folder, number)
        shape = len(self.manifest.rows(number)), self.manifest.columns[column]
        values = torch.empty(shape, dtype=DTYPES[self.manifest.dtype])
        try:
            with open_regular(path) as file:
                about = os.fstat(file.fileno())
                version = (str(path), about.st_mtime_ns, about.st_size), column
                steady = Steady(file)
                steady.fill(self.starts[number][column], values.numpy())
                steady.require()
            if version in _SOUND:  # summed in this process, and not written since
                return values
            if number not in self._sums:
                self._sums[number] = read_sums(path)
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror or error}).") from error
        except ValueError as error:
            raise InputError(f"{path} is damaged ({error}). {MEND}") from error
        expected = self._sums[number].get(column)
        if expected is not None and checksum(values) != expected:
            raise InputError(
                f"{path} is damaged: its values at {column[0]} are not those that were written."
                f" {MEND}"
            )
        _SOUND.add(version)
        return values

    def find_damaged(self, taps: Collection[str]) -> Iterator[tuple[Path, str]]:
        """Yield the files of shards that are damaged at some taps, each with the reason; each
        column is looked at once in a process."""
        columns = [column for column in self.manifest.columns if column[0] in taps]
        for number in range(self.manifest.count):
            path = shard_path(self.folder, number)
            try:
                about = path.stat()
                version = str(path), about.st_mtime_ns, about.st_size
                for column in columns:
                    if (version, column) not in _SOUND:
                        self._hold((number, column), self._load(number, column))
            except (OSError, InputError) as error:
                yield path, str(error)


#: columns of shards that this process found to be as they were written: path, time, size, column
_SOUND: set[tuple[tuple[str, int, int], Column]] = set()


def find_rows(ids: Sequence[str], wanted: Sequence[str]) -> Int64[np.ndarray, " image"] | None:
    """Return the row of each image that is wanted, or None where the rows are in that order.

    >>> find_rows(["a", "b", "c"], ["c", "a"]), find_rows(["a", "b"], ("a", "b"))
    (array([2, 0]), None)
    """
    if tuple(ids) == tuple(wanted):
        return None
    row = {name: place for place, name in enumerate(ids)}
    return np.array([row[name] for name in wanted], np.int64)


@final
class Joined:
    """Rows from several sources, one source for each column.

    Each source comes with its row of each image, or with None where its rows are already in order.
    """

    def __init__(
        self, parts: Mapping[Column, tuple[Source, Int64[np.ndarray, " image"] | None]]
    ) -> None:
        self.parts = parts

    def read(self, column: Column, rows: Rows) -> Tensor:
        """Read some rows of a column from its source."""
        source, row = self.parts[column]
        return source.read(column, rows if row is None else row[rows])

    def windows(
        self, rows: Int64[np.ndarray, " row"], generator: np.random.Generator, row_bytes: int
    ) -> Int64[np.ndarray, " row"]:
        """Return the windows of the first column's source."""
        source, row = next(iter(self.parts.values()))
        return source.windows(rows if row is None else row[rows], generator, row_bytes)
