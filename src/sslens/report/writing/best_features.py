"""What the best features of an answer were chosen on, and whether they are better than the usual
ones, in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from sslens.comparisons.choices import is_hard_to_choose
from sslens.report.writing.numbers import spell_count, spell_share
from sslens.statistics.estimate import SMALLEST, Estimate

#: models that are named of several
FEW = 3


def write_how_chosen(rows: Sequence[Mapping[str, Any]], most: int = FEW) -> list[str]:
    """On which images the best features were chosen and are judged, whether these can choose, and
    whether the chosen ones are better than the usual ones.

    Args:
        rows: the rows of the answer that have an accuracy.
        most: models that are named; 0 where there is little room, and what can be left out is.
    """
    first = rows[0]
    few = first["probe_chosen_on" if first["probe"] == first["probe"] else "knn_chosen_on"]
    hard = few == few and is_hard_to_choose(int(first["options"]), int(few))
    by = _write_counts(first, "chosen_on") if hard or most else ""
    chosen = f", chosen on {by}" if by else ""
    over = _write_counts(first, "images") or "no"
    over = f"intervals: 95 %, over the {over} images that did not choose."
    told = [f"Best features{_name_ks(rows)}{chosen}; {over}"]
    if hard:
        told.append(f"So few can hardly tell {int(first['options'])} choices apart.")
    return told + _write_against_usual([row for row in rows if not row["control"]], most)


def _write_against_usual(rows: Sequence[Mapping[str, Any]], most: int) -> list[str]:
    """Of which models the best features are better than the usual ones, and of which worse, or of
    none to be named of the latter alone; where they are not better, the report's cards advise the
    usual ones."""
    sides: dict[str, list[str]] = {"more": [], "less": []}
    known = [row for row in rows if row["over_usual"] == row["over_usual"]]
    for row in known:
        images = row["probe_images"] if row["probe"] == row["probe"] else row["knn_images"]
        gain = Estimate.from_row(row, "over_usual", "images", int(images))
        side = gain.find_side(SMALLEST["accuracy"])
        if side in sides:
            usual = f" (usual {spell_share(Estimate(row['usual']))})" if side == "less" else ""
            sides[side].append(f"{row['model']}{usual}")
    if not known or not most:
        worse = _name_few(sides["less"], most)
        return [f"Worse than the usual choice: {worse}."] if sides["less"] else []
    if not any(sides.values()):
        return ["Not shown to beat the usual choice, the last layer's."]
    better = f"Better than the usual choice, the last layer's: {_name_few(sides['more'], most)}"
    return [better + (f"; worse: {_name_few(sides['less'], most)}." if sides["less"] else ".")]


def _name_ks(rows: Sequence[Mapping[str, Any]]) -> str:
    """The numbers of neighbours, where these were chosen too: they are not the same of all rows."""
    ks = sorted({int(row["k"]) for row in rows if row["k"] == row["k"]})
    return f" and k ({ks[0]} to {ks[-1]})" if len(ks) > 1 else ""


def _name_few(names: Sequence[str], most: int) -> str:
    """Name a few models, or how many they are.

    >>> _name_few([], 1), _name_few(["a", "b"], 3), _name_few(["a", "b", "c", "d"], 3)
    ('none', 'a, b', '4 models')
    """
    count = f"{len(names)} model{'s' if len(names) > 1 else ''}"
    return count if len(names) > most else ", ".join(names) or "none"


def _write_counts(row: Mapping[str, Any], what: str) -> str:
    """How many images the numbers of k-NN and of the probe are over, or were chosen on; empty where
    that is not known."""
    columns = {"k-NN": row[f"knn_{what}"], "probe": row[f"probe_{what}"]}
    counts = {name: spell_count(int(count)) for name, count in columns.items() if count == count}
    if len(set(counts.values())) < 2:
        return next(iter(counts.values()), "")
    return " and ".join(f"{count} ({name})" for name, count in counts.items())
