"""Tables from rows: each row comes with the name of its table."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from sslens.table import Results, Table

#: a row of a table: values by column
Row = dict[str, Any]


def make_results(
    rows: Iterable[tuple[str, Row]],
    tables: Mapping[str, Sequence[str]],
    units: Mapping[str, str],
    texts: Collection[str] = (),
) -> Results:
    """Collect rows into tables.

    A table without rows is left out, except the first table, so that there is always one. A column
    that a row lacks becomes "" in that row if the column is one of `texts`, else nan.

    Args:
        rows: pairs (name of a table, a row of that table), in the order of the rows.
        tables: the columns of each table, in the order of the tables.
        units: a description of each column, with its unit.
        texts: the columns that hold text.

    Raises:
        ValueError: a row has a column that its table does not have.

    >>> rows = [("probes", {"model": "mae", "gain": 0.5}), ("probes", {"model": "dino"})]
    >>> tables = {"probes": ("model", "gain"), "families": ("model",)}
    >>> results = make_results(rows, tables, {"model": "name", "gain": "share"}, ["model"])
    >>> results["probes"].gain.tolist(), "families" in results
    ([0.5, nan], False)
    """
    by_table: dict[str, list[Row]] = {name: [] for name in tables}
    for name, row in rows:
        by_table[name].append(row)
    first = next(iter(tables))
    return Results(
        {
            name: _make_table(by_table[name], columns, units, texts)
            for name, columns in tables.items()
            if by_table[name] or name == first
        }
    )


def _make_table(
    rows: Sequence[Row],
    columns: Sequence[str],
    units: Mapping[str, str],
    texts: Collection[str],
) -> Table:
    extra = sorted({column for row in rows for column in row} - set(columns))
    if extra:
        raise ValueError(f"columns that the table has not: {', '.join(extra)}")
    frame = pd.DataFrame(list(rows), columns=list(columns))
    for column in frame.columns.intersection(list(texts)):
        values = frame[column].astype(object)
        frame[column] = values.where(frame[column].notna(), "").astype(str)
    return Table(frame, {column: units[column] for column in columns})
