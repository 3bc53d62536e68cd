"""Sources of feature rows: memory, the shards of a folder, or several of these with their rows in
another order."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
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

Rows: TypeAlias = slice | Int64[np.ndarray, " row"]
#: bytes of shards that are mapped at a time; `Features.order` shuffles among their rows
WINDOW = 2**28


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
    """Rows of the shards of a folder, memory-mapped; at most 256 MB of shards stay mapped.

    A column of a shard is compared with its checksum when it is first read.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, starts: Sequence[Mapping[Column, int]]
    ) -> None:
        self.folder, self.manifest, self.starts = folder, manifest, starts
        self._maps: OrderedDict[int, np.memmap] = OrderedDict()
        self._unchecked: dict[int, dict[Column, int]] = {}
        self._room = max(1, WINDOW // (manifest.row_bytes * manifest.shard))

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the maps, which another process makes for itself."""
        return {**vars(self), "_maps": OrderedDict()}

    def read(self, column: Column, rows: Rows) -> Tensor:
        """Read some rows of a column; consecutive rows of one shard are not copied."""
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
        """The rows of a shard of one column, copied when they are written to (and the file never
        is)."""
        if number not in self._maps:
            while len(self._maps) >= self._room:
                self._maps.popitem(last=False)
            self._maps[number] = np.memmap(shard_path(self.folder, number), np.uint8, "c")
        self._maps.move_to_end(number)
        shape = len(self.manifest.rows(number)), self.manifest.columns[column]
        values = torch.frombuffer(
            self._maps[number],
            dtype=DTYPES[self.manifest.dtype],
            count=shape[0] * shape[1],
            offset=self.starts[number][column],
        ).view(shape)
        self._check(number, column, values)
        return values

    def _check(self, number: int, column: Column, values: Tensor) -> None:
        """Compare a column of a shard with its checksum, once.

        Raises:
            InputError: the values are not those that were written.
        """
        path = shard_path(self.folder, number)
        if number not in self._unchecked:
            self._unchecked[number] = read_sums(path)
        expected = self._unchecked[number].pop(column, None)
        if expected is not None and checksum(values) != expected:
            self._unchecked[number][column] = expected
            raise InputError(
                f"{path} is damaged: its values at {column[0]} are not those that were written."
                " Remove that file and run the same command again, and only it is computed."
            )


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
