"""Differences of average precisions, read from rows of the exhibits of detection."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sslens.comparisons.detection_rows import Published
from sslens.comparisons.detectors import KINDS, PAPERS
from sslens.comparisons.parts import find_rows, make_part
from sslens.comparisons.roles import PIXELS
from sslens.statistics.estimate import Contrast, Estimate
from sslens.statistics.verdicts import Part
from sslens.table import Results


def read_difference(
    row: Mapping[str, Any], column: str = "difference", *, what: str = "", turned: bool = False
) -> Contrast:
    """Read a difference of two sides from a row.

    Args:
        row: of a table with the columns `model`, `less` and `images`.
        column: the column of the difference.
        what: words after the name of the first side.
        turned: whether the second side less the first is meant.
    """
    own = Estimate.from_row(row, column, "images", "images")
    one, other = f"{row['model']}{what}", str(row["less"])
    if not turned:
        return Contrast(one, other, own)
    return Contrast(f"{row['less']}{what}", str(row["model"]), turn(own))


def turn(difference: Estimate) -> Estimate:
    """Return b − a of a difference a − b.

    >>> turn(Estimate(0.25, 0.125, 0.5, "images", 64))
    Estimate(value=-0.25, low=-0.5, high=-0.125, over='images', n=64)
    """
    low, high = -difference.high, -difference.low
    return Estimate(-difference.value, low, high, difference.over, difference.n)


def subtract_published(
    published: Published,
    ours: Sequence[tuple[str, bool]],
    others: Sequence[tuple[str, bool]],
    kind: str,
    measure: str,
) -> float:
    """Subtract the papers' mean average precision of some objectives from the mean of others.

    Args:
        published: table 6 or 7 of Shekhar et al. (2023), `detection_rows.FROZEN` or `TUNED`.
        ours: the objectives of the first side, each with whether it was trained on small crops.
        others: the objectives that are subtracted.
        kind: "box" or "mask".
        measure: "AP", "AP large" or "AP small".

    Returns:
        The difference as a share.

    >>> from sslens.comparisons.detection_rows import FROZEN  # it has 18.69 and 17.55 points
    >>> mae, dino = [("mae", False)], [("dino", False)]
    >>> round(subtract_published(FROZEN, mae, dino, "box", "AP small"), 4)
    0.0114
    """
    at = KINDS.index(kind) * len(PAPERS) + PAPERS.index(measure)
    means = [sum(published[one][at] for one in side) / len(side) for side in (ours, others)]
    return (means[0] - means[1]) / 100


def make_ap_part(
    row: Mapping[str, Any],
    label: str,
    expected: Literal[1, 0, -1] = 1,
    *,
    column: str = "difference",
    turned: bool = False,
    trainings: bool = True,
    published: float | None = None,
) -> Part:
    """Make a part of a verdict from a difference of average precisions.

    Args:
        row: of a table with the columns `model`, `less` and `images`.
        label: what the difference is of.
        expected: the sign that the claim expects; 0 if it expects no gain.
        column: the column of the difference.
        turned: whether the second side less the first is meant.
        trainings: whether the interval over trainings of the row is of this column.
        published: the papers' own difference, of the first side less the second, as a share.
    """
    contrast = read_difference(row, column, turned=turned)
    low, high = (row["trainings_low"], row["trainings_high"]) if trainings else (float("nan"),) * 2
    if turned:
        low, high = -high, -low
        published = None if published is None else -published
    over = {"trainings_low": low, "trainings_high": high, "trainings": row["trainings"]}
    return make_part(over, label, contrast, "ap", expected, published)


def list_caveats(results: Results, parts: Sequence[Part]) -> list[str]:
    """List what speaks against any outcome of a claim about detectors, as clauses: that detectors
    ended while they were still gaining more than the claim's least difference, and that networks
    detect less than raw pixels do.

    Args:
        results: of an exhibit of detection.
        parts: the parts of the claim.
    """
    gains = [row["gained"] for row in find_rows(results, "trainings-made", control=False)]
    least = min(abs(part.contrast.difference.value) for part in parts)
    clauses = []
    if any(gained > max(least, parts[0].smallest) for gained in gains):
        clauses.append("with detectors that ended while they still gained more than this")
    rows = find_rows(results, "models", kind="box", measure="AP")
    pixels = [row["ap"] for row in rows if row["model"] == PIXELS]
    if pixels and all(row["ap"] < pixels[0] for row in rows if not row["control"]):
        clauses.append("of networks that all detect less than raw pixels do")
    return clauses
