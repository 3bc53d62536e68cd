"""Tables: tidy rows with their units and provenance; and the results of an analysis, which are
several tables."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from sslens.counts import spell_count
from sslens.errors import InputError, nearest
from sslens.store import write_text

if TYPE_CHECKING:
    import pandas as pd


#: columns that a table's repr names
SHOWN = 8


class TableJson(TypedDict):
    """A table as JSON values; `kinds` holds the NumPy dtype of each column."""

    columns: dict[str, list[Any]]
    kinds: dict[str, str]
    units: dict[str, str]
    provenance: dict[str, Any]


@dataclass(frozen=True, repr=False)
class Table:
    """Tidy rows: one observation per row, one variable per column.

    Attributes:
        frame: the rows.
        units: an explanation of each column, with its unit.
        provenance: where the rows come from: versions, settings, digests.

    Raises:
        ValueError: a column has no entry in `units`.

    >>> import pandas as pd
    >>> rows = pd.DataFrame({"depth": [0.5], "accuracy": [0.25]})
    >>> table = Table(rows, {"depth": "relative depth, 0 to 1", "accuracy": "share"})
    >>> print(table.csv(), end="")
    depth,accuracy
    0.5,0.25
    """

    frame: "pd.DataFrame"
    units: Mapping[str, str]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = [str(column) for column in self.frame.columns if column not in self.units]
        if missing:
            raise ValueError(f"columns without a unit: {', '.join(missing)}")

    def __repr__(self) -> str:
        names = [str(name) for name in self.frame.columns]
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        return f"<Table: {spell_count(len(self.frame), 'row')} of {', '.join(names[:SHOWN])}{more}>"

    def csv(self) -> str:
        """Return the rows as CSV, with six significant digits; undefined numbers are empty."""
        return self.frame.to_csv(index=False, float_format="%.6g")

    def to_json(self) -> "TableJson":
        """The table as JSON values, with all digits; undefined numbers are null."""
        columns: dict[str, list[Any]] = {}
        for name in self.frame:
            values = self.frame[name].tolist()
            columns[str(name)] = [None if value != value else value for value in values]
        kinds = {str(name): str(kind) for name, kind in self.frame.dtypes.items()}
        return {
            "columns": columns,
            "kinds": kinds,
            "units": dict(self.units),
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Table":
        """The table that `to_json` wrote."""
        import pandas as pd

        kinds = value["kinds"]
        columns = {
            name: pd.Series(cells, dtype=kinds[name]) for name, cells in value["columns"].items()
        }
        return cls(pd.DataFrame(columns), value["units"], value["provenance"])

    def save(self, path: Path) -> None:
        """Write the rows as CSV, atomically."""
        write_text(path, self.csv())


@dataclass(frozen=True, repr=False)
class Results:
    """The results of an analysis: tables by name, each with rows of one kind.

    >>> import pandas as pd
    >>> table = Table(pd.DataFrame({"accuracy": [0.25]}), {"accuracy": "share"})
    >>> results = Results({"models": table})
    >>> results["models"].accuracy.tolist(), list(results), "families" in results
    ([0.25], ['models'], False)
    """

    tables: Mapping[str, Table]

    def __getitem__(self, name: str) -> "pd.DataFrame":
        """The rows of a table.

        Raises:
            InputError: there is no such table; the nearest is offered.
        """
        if name not in self.tables:
            raise InputError(f'These results have no table "{name}": {nearest(name, self.tables)}')
        return self.tables[name].frame

    def __repr__(self) -> str:
        return f"<Results: {', '.join(self.tables)}>"

    def __contains__(self, name: object) -> bool:
        return name in self.tables

    def __iter__(self) -> Iterator[str]:
        return iter(self.tables)

    def to_json(self) -> "dict[str, TableJson]":
        """The tables as JSON values, with all digits."""
        return {name: table.to_json() for name, table in self.tables.items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Results":
        """The results that `to_json` wrote."""
        return cls({name: Table.from_json(table) for name, table in value.items()})
