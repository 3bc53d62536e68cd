"""A small table of an answer in a terminal: what was asked down the side, models along the top."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from sslens.report.writing.answer_notes import wrap

#: columns between two cells
GAP = 2


@final
@dataclass(frozen=True)
class Way:
    """One way to write a table.

    Attributes:
        caption: what the numbers are and what they are over.
        heads: the names of the columns; that of the rows' names first.
        cells: the cells of all rows.
    """

    caption: str
    heads: Sequence[str]
    cells: Sequence[Sequence[str]]


@final
@dataclass(frozen=True)
class Grid:
    """A small table.

    Attributes:
        ways: the ways in which it can be written, the best first.
        order: the places of the rows, those first that are shown where there is room for few.
        file: where all rows are; empty where none was saved.
    """

    ways: Sequence[Way]
    order: Sequence[int]
    file: str = ""


def write_grid(grid: Grid, width: int, room: int) -> list[str]:
    """Write a table in the best way that fits, and how many rows are left out.

    Args:
        grid: the table.
        width: columns of the terminal.
        room: lines at most.

    Returns:
        The lines; none where no way fits, or there is no room for two rows.

    >>> cells = [["blur", "0.9"], ["hue", "1.0"], ["shift", "0.9"], ["grey", "0.2"]]
    >>> way = Way("Invariance.", ["change", "vit"], cells)
    >>> for line in write_grid(Grid([way], [3, 0, 1, 2], "changes.csv"), 40, 5):
    ...     print(line)
    Invariance.
    change  vit
    blur    0.9
    grey    0.2
    And 2 more in changes.csv.
    >>> write_grid(Grid([way], [3, 0, 1, 2]), 10, 9)  # 11 columns
    []
    """
    for way in grid.ways:
        widths = [max(map(len, column)) for column in zip(way.heads, *way.cells, strict=True)]
        if sum(widths) + GAP * (len(widths) - 1) <= width:
            return _write(way, widths, grid, width, room)
    return []


def _write(way: Way, widths: Sequence[int], grid: Grid, width: int, room: int) -> list[str]:
    """Write a table in a way that fits the width."""
    caption = wrap(way.caption, width)
    count, every = room - len(caption) - 1, len(way.cells)
    below: list[str] = []
    if count < every:
        where = f" in {grid.file}" if grid.file else ""
        count -= len(wrap(f"And {every} more{where}.", width))
        below = wrap(f"And {every - count} more{where}.", width)
    if count < min(2, every):
        return []
    shown = sorted(grid.order[:count])
    rows = [way.heads, *(way.cells[place] for place in shown)]
    return [*caption, *(_join(row, widths) for row in rows), *below]


def _join(cells: Sequence[str], widths: Sequence[int]) -> str:
    """The cells of a row beside each other."""
    padded = (cell.ljust(size) for cell, size in zip(cells, widths, strict=True))
    return (" " * GAP).join(padded).rstrip()
