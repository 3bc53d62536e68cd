"""The same rows by CKA and by deconfounded CKA, merged into one."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from sslens.comparisons.pairs import (
    CKA,
    DECONFOUNDED,
    DECONFOUNDED_DIFFERENCE,
    DIFFERENCE,
    Pairs,
    Row,
)

#: the columns of deconfounded CKA by those of CKA; `left` and `depths_left` keep their names
RENAMED = {
    **dict(zip(CKA, DECONFOUNDED, strict=True)),
    **dict(zip(DIFFERENCE[1:], DECONFOUNDED_DIFFERENCE, strict=True)),
    "slope": "deconfounded_slope",
    "trainings_low": "deconfounded_trainings_low",
    "trainings_high": "deconfounded_trainings_high",
    "left": "left",
    "depths_left": "depths_left",
    "depths": "depths_left",
}
#: columns of numbers that say what a row is about, beside all texts
PLACES = ("depth", "distance")


def make_rows_with_deconfounded(
    make: Callable[[Pairs], Iterable[tuple[str, Row]]], compared: Pairs
) -> Iterator[tuple[str, Row]]:
    """Make rows of pairs of models by CKA, and put the same by deconfounded CKA into them.

    Two rows are of the same thing where their texts, depths and distances are the same.

    Args:
        make: makes rows, each after the name of its table, from compared pairs.
        compared: the pairs; without Grams of the pixels the rows stay as they are.
    """
    deconfounded = compared.deconfounded
    return merge(make(compared), () if deconfounded is None else make(deconfounded))


def merge(
    rows: Iterable[tuple[str, Row]], others: Iterable[tuple[str, Row]]
) -> Iterator[tuple[str, Row]]:
    """Put rows of deconfounded CKA into the rows of CKA that are of the same thing.

    >>> mae = {"model_a": "mae", "cka": 0.5}
    >>> list(merge([("means", mae)], [("means", mae | {"cka": 0.25})]))
    [('means', {'model_a': 'mae', 'cka': 0.5, 'deconfounded': 0.25})]
    """
    by_name = {_name(table, row): row for table, row in others}
    for table, row in rows:
        other = by_name.get(_name(table, row), {})
        yield table, row | {name: other[old] for old, name in RENAMED.items() if old in other}


def add_deconfounded(columns: Sequence[str]) -> tuple[str, ...]:
    """Add the columns of deconfounded CKA to those of a table of CKA.

    >>> add_deconfounded(("model_a", "cka", "low", "high"))[4:]
    ('deconfounded', 'deconfounded_low', 'deconfounded_high')
    """
    names = {old: name for old, name in RENAMED.items() if old in columns and old != name}
    return (*columns, *(name for name in names.values() if name not in columns))


def _name(table: str, row: Row) -> tuple[object, ...]:
    """What tells the row of a table from all others."""
    texts = {name: value for name, value in row.items() if isinstance(value, str)}
    places = {name: row[name] for name in PLACES if name in row}
    return table, tuple(sorted((texts | places).items()))
