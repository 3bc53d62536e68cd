"""The tables of a section as a page shows them: the first rows in words, and where the file is."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sslens.figure.pictures import PREFIX
from sslens.report.writing.numbers import typeset
from sslens.table import Table

SHOWN = 20
"""The rows of a table that the page shows; the CSV file beside it has all rows."""


@dataclass(frozen=True)
class ColumnView:
    """A column of a table.

    Attributes:
        name: the column's name.
        unit: what it holds, with its unit.
        number: whether it holds numbers.
    """

    name: str
    unit: str
    number: bool


@dataclass(frozen=True)
class TableView:
    """A table as the template shows it.

    Attributes:
        name: the table's name, in words.
        file: the CSV file, relative to the page.
        columns: the columns.
        rows: the text of each cell of the first rows; None where a number was not measured or is
            undefined.
        count: all rows of the table.
    """

    name: str
    file: str
    columns: tuple[ColumnView, ...]
    rows: tuple[tuple[str | None, ...], ...]
    count: int

    @property
    def gaps(self) -> bool:
        """Whether a shown cell is empty."""
        return any(cell is None for row in self.rows for cell in row)


def view_tables(
    tables: Mapping[str, Table], files: Mapping[str, str], *, pictures: bool
) -> Iterator[TableView]:
    """View each table; without `pictures`, a cell with a picture says where the picture is.

    >>> import pandas as pd
    >>> rows = pd.DataFrame({"model": ["mae"], "accuracy": [0.123456]})
    >>> table = Table(rows, {"model": "", "accuracy": "share"})
    >>> (view,) = view_tables({"points": table}, {"points": "tables/knn.csv"}, pictures=True)
    >>> view.rows, view.count
    ((('mae', '0.1235'),), 1)
    """
    for name, table in tables.items():
        frame = table.frame.head(SHOWN)
        columns = [frame[column].tolist() for column in frame.columns]
        yield TableView(
            name.replace("-", " "),
            files[name],
            tuple(
                ColumnView(str(column), table.units[column], frame[column].dtype.kind in "iuf")
                for column in frame.columns
            ),
            tuple(
                tuple(_write_cell(value, pictures=pictures) for value in row)
                for row in zip(*columns, strict=True)
            ),
            len(table.frame),
        )


def _write_cell(value: Any, *, pictures: bool) -> str | None:
    """Write a value in words: a number with four significant digits, None for an undefined
    number."""
    import pandas as pd

    if pd.isna(value):
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    text = (
        typeset(f"{value:.4g}" if isinstance(value, float) else str(value))
        if number
        else str(value)
    )
    return "(in the file)" if text.startswith(PREFIX) and not pictures else text
