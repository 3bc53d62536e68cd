"""Which blocks of a Vision Transformer attend by windows, found from its tables of relative
positions."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sslens.errors import InputError

_TABLE = re.compile(r"blocks\.(\d+)\.attn\.rel_pos_(h|w)")


@dataclass(frozen=True)
class Windows:
    """The window attention of a ViTDet.

    Attributes:
        side: the side of a window in patches.
        wide: the blocks that attend to the whole image, from 0.
        rows, columns: of the images for which their relative positions were made.
        head: the width of a head.
    """

    side: int
    wide: tuple[int, ...]
    rows: int
    columns: int
    head: int

    def __str__(self) -> str:
        """In words."""
        wide = ", ".join(map(str, self.wide))
        return f"windows of {self.side} patches but in blocks {wide}"

    def count_entries(self, block: int) -> tuple[int, int]:
        """Return the number of entries of a block's tables, of rows and of columns."""
        rows, columns = (self.rows, self.columns) if block in self.wide else (self.side, self.side)
        return 2 * rows - 1, 2 * columns - 1


def find_windows(shapes: Mapping[str, tuple[int, ...]], where: str) -> Windows | None:
    """Find the windows from the shapes of a network's tensors; None where there are no tables of
    relative positions.

    A table for n rows has 2n − 1 entries. The blocks with the most entries are taken to attend to
    the whole image, and the others by windows.

    Args:
        shapes: the shapes by timm's names.
        where: the file, for messages.

    Raises:
        InputError: the tables are of more than two sizes, or all of one, which does not tell
            windows from the image.

    >>> table = "blocks.{}.attn.rel_pos_{}".format
    >>> shapes = {table(i, axis): (27 if i % 3 < 2 else 127, 64) for i in range(6) for axis in "hw"}
    >>> find_windows(shapes, "model.pkl")
    Windows(side=14, wide=(2, 5), rows=64, columns=64, head=64)
    """
    tables: dict[int, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        if match := _TABLE.fullmatch(name):
            tables.setdefault(int(match[1]), {})[match[2]] = shape
    if not tables:
        return None
    pairs = {
        block: (table.get("h", ()), table.get("w", ())) for block, table in sorted(tables.items())
    }
    if any(len(shape) != 2 or not shape[0] % 2 for pair in pairs.values() for shape in pair):
        raise InputError(
            f"{where} has tables of relative positions that are not [2n − 1, width of a head] for"
            " rows and for columns: no ViTDet has such."
        )
    sides = {block: ((h[0] + 1) // 2, (w[0] + 1) // 2) for block, (h, w) in pairs.items()}
    sizes = sorted(set(sides.values()), key=lambda side: (max(side), side))
    if len(sizes) != 2 or sizes[0][0] != sizes[0][1]:
        found = ", ".join(f"{rows} × {columns}" for rows, columns in sizes)
        raise InputError(
            f"{where} has relative positions for {found} patches, block by block: which blocks"
            " attend by windows can be told only where some have one square size, the windows', and"
            " the others one larger size."
        )
    (side, _), (rows, columns) = sizes
    wide = tuple(block for block, size in sides.items() if size == sizes[1])
    return Windows(side, wide, rows, columns, head=next(iter(pairs.values()))[0][1])
