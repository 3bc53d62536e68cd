"""The depth from which two curves over depth part and stay apart."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

from sslens.comparisons.pairs import read_contrast
from sslens.comparisons.parts import make_part
from sslens.comparisons.roles import list_names
from sslens.comparisons.trainings import read_over_trainings
from sslens.statistics.estimate import SMALLEST, Contrast
from sslens.statistics.verdicts import REVERSED, Part

#: the largest relative depth that is called early
EARLY = 0.5
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
    def of(
        cls,
        rows: Sequence[Point],
        smallest: float = SMALLEST["cka"],
        read: Callable[[Point], Contrast] = read_contrast,
    ) -> "Parting":
        """Find where the curves part.

        Args:
            rows: one row for each depth, with the columns `depth` and `pairs.DIFFERENCE`.
            smallest: the smallest difference worth a word.
            read: reads the difference of a row.

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
        sides = [read(row).difference.find_side(smallest) for row in points]
        first = len(sides)
        while first and sides[first - 1] == "more":
            first -= 1
        above, below = (
            tuple(row for row, side in zip(points, sides, strict=True) if side == which)
            for which in ("more", "less")
        )
        return cls(tuple(points), points[first] if first < len(points) else None, above, below)


def make_parting_parts(
    rows: Sequence[Point],
    label: str = "",
    kind: str = "cka",
    read: Callable[[Point], Contrast] = read_contrast,
) -> tuple[list[Part], str]:
    """Make the parts of a claim that two curves part early and stay apart.

    The first part is the first depth from which the difference stays above 0, if that depth is
    early, or else the early depth with the largest difference; the second part is the smallest
    difference at any later depth, of those that are reversed for sure if there are any.

    Args:
        rows: one row for each depth, with the column `depth`; the intervals hold at once.
        label: what the difference is of.
        kind: the kind of number, a key of `SMALLEST`.
        read: reads the difference of a row.

    Returns:
        The parts, none if no early depth is defined, and a clause about reversals, which is empty
        if there are none.
    """
    fine = [row for row in rows if read(row).difference.defined]
    parting = Parting.of(fine, SMALLEST[kind], read)
    early = [row for row in parting.points if row["depth"] <= EARLY]
    if not early:
        return [], ""

    def size(row: Point) -> float:
        return read(row).difference.value

    first = parting.first
    start = first if first is not None and first["depth"] <= EARLY else max(early, key=size)
    where = f"{label} at relative depth {start['depth']:.2f}".strip()
    parts = [make_part(start, where, read(start), kind)]
    later = [row for row in parting.points if row["depth"] > start["depth"]]
    if later:
        least = min([row for row in later if row in parting.below] or later, key=size)
        where = f"at {least['depth']:.2f}, the least of all later depths,"
        over = [read_over_trainings(row, read(row)) for row in later]
        known = [contrast for contrast in over if contrast is not None]
        sure = min(known, key=lambda one: one.difference.low, default=None)
        part = make_part(least, where, read(least), kind)
        parts.append(replace(part, trainings=sure if len(known) == len(over) else None))
    depths = [f"{row['depth']:.2f}" for row in parting.below]
    reversals = list_names(depths) if depths else ""
    return parts, f"{REVERSED} relative depth {reversals}" if reversals else ""
