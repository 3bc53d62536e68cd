"""The depth from which two curves over depth part and stay apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from sslens.comparisons.pairs import read_contrast
from sslens.statistics.estimate import SMALLEST

#: a row of a table with a difference at a relative depth
Point = Mapping[str, Any]


@final
@dataclass(frozen=True)
class Parting:
    """Where a difference over depth is decided; the intervals of all depths hold at once.

    Attributes:
        points: the rows, in the order of their depth.
        first: the row of the least depth from which the difference is above 0 at this and at every
            later depth; None if there is none.
        above: the rows in which the difference is above 0 and worth a word.
        below: the rows in which it is below 0 and worth a word: reversals.
    """

    points: tuple[Point, ...]
    first: Point | None
    above: tuple[Point, ...]
    below: tuple[Point, ...]

    @classmethod
    def of(cls, rows: Sequence[Point], smallest: float = SMALLEST["cka"]) -> "Parting":
        """Find where the curves part.

        Args:
            rows: one row for each depth, with the columns `depth` and `pairs.DIFFERENCE`.
            smallest: the smallest difference worth a word.

        >>> rows = [{"depth": d / 4, "difference": v, "difference_low": v - 0.1,
        ...     "difference_high": v + 0.1, "minibatches": 32, "model_a": "JE", "model_b": "JE",
        ...     "less": "REC"} for d, v in ((1, 0.0), (2, 0.3), (3, 0.3), (4, 0.3))]
        >>> Parting.of(rows).first["depth"]
        0.5
        >>> rows[-1] |= {"difference": -0.3, "difference_low": -0.4, "difference_high": -0.2}
        >>> parting = Parting.of(rows)
        >>> parting.first, [row["depth"] for row in parting.below]
        (None, [1.0])
        """
        points = sorted(rows, key=lambda row: row["depth"])
        sides = [read_contrast(row).difference.find_side(smallest) for row in points]
        first = len(sides)
        while first and sides[first - 1] == "more":
            first -= 1
        above, below = (
            tuple(row for row, side in zip(points, sides, strict=True) if side == which)
            for which in ("more", "less")
        )
        return cls(tuple(points), points[first] if first < len(points) else None, above, below)
