"""What is to be used of the models of an answer, in words: the usual features, or those that some
images chose where they are better on the others."""

from collections.abc import Mapping, Sequence
from typing import Any

from sslens.comparisons.choices import is_hard_to_choose
from sslens.comparisons.options import is_better
from sslens.report.writing.numbers import spell_count
from sslens.statistics.estimate import Estimate

#: models that are named of several
FEW = 3


def write_how_chosen(rows: Sequence[Mapping[str, Any]], most: int = FEW) -> list[str]:
    """What is to be used of models and of controls, on which images features were chosen and are
    judged, and whether so few can choose.

    Args:
        rows: the rows of the answer that have an accuracy.
        most: models that are named; 0 where there is little room, and what can be left out is.
    """
    first = rows[0]
    few = first["probe_chosen_on" if first["probe"] == first["probe"] else "knn_chosen_on"]
    hard = few == few and is_hard_to_choose(int(first["options"]), int(few))
    over = count_judged(first)
    told = [
        f"{_write_use(rows, most, counts=bool(hard or most))}; intervals: 95 %, over the {over}"
        " images that did not choose."
    ]
    if hard:
        told.append(f"So few can hardly tell {int(first['options'])} choices apart.")
    return told


def count_judged(row: Mapping[str, Any]) -> str:
    """Over how many images the numbers of a row are, of k-NN and of the probe."""
    return _write_counts(row, "images") or "no"


def _write_use(rows: Sequence[Mapping[str, Any]], most: int, *, counts: bool) -> str:
    """What is to be used: the usual features but of models of which the chosen ones are better, and
    the chosen ones of controls, or of all where the usual ones were not judged."""
    by = _write_counts(rows[0], "chosen_on") if counts else ""
    chosen = f"chosen{_name_ks(rows)}{f' on {by}' if by else ''}"
    if not any(row["usual"] == row["usual"] for row in rows):
        return f"Features {chosen}"
    studied = [row for row in rows if not row["control"]]
    better = [row["model"] for row in studied if _is_chosen(row, len(studied))]
    names = f" ({_name_few(better, most)})" if better and most else ""
    if not most:
        return f"Usual features, or those {chosen} where better"
    controls = ", of controls the latter" if any(row["control"] for row in rows) else ""
    return (
        f"What to use: usual features (last layer), or where better{names} those {chosen}{controls}"
    )


def _is_chosen(row: Mapping[str, Any], models: int) -> bool:
    """Whether the chosen features of one of some models are better than the usual ones, so that
    they are to be used."""
    by = "probe" if row["probe"] == row["probe"] else "knn"
    images = row[f"{by}_images"]
    if images != images:
        return False
    gain, accuracy = (
        Estimate.from_row(row, column, "images", int(images)) for column in ("over_usual", by)
    )
    return is_better(gain, accuracy, float(row["chance"]), models)


def _name_ks(rows: Sequence[Mapping[str, Any]]) -> str:
    """The numbers of neighbours, where these were chosen too: they are not the same of all rows."""
    ks = sorted({int(row["k"]) for row in rows if row["k"] == row["k"]})
    return f" with k ({ks[0]} to {ks[-1]})" if len(ks) > 1 else ""


def _name_few(names: Sequence[str], most: int) -> str:
    """Name a few models, or how many they are.

    >>> _name_few(["a", "b"], 3), _name_few(["a", "b", "c", "d"], 3)
    ('a, b', '4 models')
    """
    count = f"{len(names)} model{'s' if len(names) > 1 else ''}"
    return count if len(names) > most else ", ".join(names)


def _write_counts(row: Mapping[str, Any], what: str) -> str:
    """How many images the numbers of k-NN and of the probe are over, or were chosen on; empty where
    that is not known."""
    columns = {"k-NN": row[f"knn_{what}"], "probe": row[f"probe_{what}"]}
    counts = {name: spell_count(int(count)) for name, count in columns.items() if count == count}
    if len(set(counts.values())) < 2:
        return next(iter(counts.values()), "")
    return " and ".join(f"{count} ({name})" for name, count in counts.items())
