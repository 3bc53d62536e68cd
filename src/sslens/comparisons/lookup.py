"""One number of the tables of results, found by the values of its row, with its interval."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

from sslens.counts import spell_count
from sslens.errors import InputError, do_all, nearest
from sslens.find import names
from sslens.statistics.estimate import Estimate
from sslens.table import Results

if TYPE_CHECKING:
    import pandas as pd

#: values that a row of a table is chosen by
Where = Mapping[str, str | int | float | bool]
#: what is meant of several rows where nothing is said, as the usual choice
USUAL: Mapping[str, tuple[str | bool, ...]] = {
    "main": (True,),
    "tokens": ("all",),
    "pooling": ("cls", "mean"),
    "vote": ("weighted",),
    "features": ("raw",),
    "unit": ("depth",),
}
#: the columns that count what an interval is over, and what that is
COUNTED = {
    "minibatches": "minibatches",
    "images": "images",
    "count": "images",
    "tested": "images",
    "sources": "images",
    "runs": "trainings",
}
#: the table of an analysis that is meant where several have the columns: the numbers of each model
MAIN: Mapping[str, str] = {
    "agreement": "pairs",
    "dense-depth": "scores",
    "detection-finetuned": "models",
    "detection-frozen": "models",
    "detection-layers": "models",
    "knn-depth": "accuracies",
    "probe-depth": "probes",
    "probe-layers": "probes",
}
#: numbers that are the same of two models in either order, by their columns
SYMMETRIC = frozenset({"cka", "deconfounded", "similarity"})
#: columns that name models
MODELS = ("model", "model_a", "model_b")


@final
@dataclass(frozen=True)
class TableNumber:
    """A number of a row of a table.

    Attributes:
        value: the number, with its interval.
        interval: whether the table has an interval of this column; without one the value is a
            number alone.
        row: the whole row.
        table: the name of the table.
        supposed: the usual values by which the row was chosen among several.
    """

    value: Estimate
    interval: bool
    row: Mapping[str, Any]
    table: str
    supposed: Where

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models that the row is about."""
        named = [self.row[column] for column in MODELS if column in self.row]
        return tuple(dict.fromkeys(str(name) for name in named if name))


@final
@dataclass(frozen=True)
class Place:
    """Where a number stands: in which column of which table of an analysis, in which row.

    Attributes:
        analysis: the name of the analysis.
        column: the name of the column.
        where: the values of other columns by which one row is chosen. If several rows have them,
            the usual choice (`USUAL`) decides as far as it can.
        table: the name of the table; unless given, the one that has all these columns, or of
            several the main table of the analysis (`MAIN`).

    >>> import pandas as pd
    >>> from sslens.table import Table
    >>> rows = [("mae", "cls", 0.5), ("mae", "patch", 0.7), ("dino", "cls", 0.6)]
    >>> frame = pd.DataFrame(rows, columns=["model", "pooling", "accuracy"])
    >>> frame = frame.assign(low=frame.accuracy - 0.1, high=frame.accuracy + 0.1, images=100)
    >>> results = {"knn-depth": Results({"accuracies": Table(frame, {c: c for c in frame})})}
    >>> number = Place("knn-depth", "accuracy", {"model": "mae"}).find(results)
    >>> number.value.value, number.value.n, number.supposed
    (0.5, 100, {'pooling': 'cls'})
    >>> Place("knn-depth", "accuracy", {"model": "ma"}).find(results)
    Traceback (most recent call last):
    sslens.errors.InputError: No row of accuracies of knn-depth has model "ma": did you mean mae?
    """

    analysis: str
    column: str
    where: Where
    table: str = ""

    @classmethod
    def parse(cls, address: str, column: str, where: Where) -> "Place":
        """Read an address such as "knn-depth" or "knn-depth/accuracies".

        Raises:
            InputError: there is no analysis of this name; the nearest is offered.
        """
        analysis, _, table = address.partition("/")
        require_analysis(analysis)
        return cls(analysis, column, where, table)

    @property
    def address(self) -> str:
        """The analysis, with the table where it is given."""
        return f"{self.analysis}/{self.table}" if self.table else self.analysis

    def find(self, results: Mapping[str, Results]) -> TableNumber:
        """Find the number.

        Args:
            results: the results of the analyses that ran, by the analysis' name.

        Raises:
            InputError: the analysis did not run; a table, a column or a value is not there, and the
                nearest is offered; or several rows fit.
        """
        if self.analysis not in results:
            ran = f"there are {', '.join(results)}" if results else "there are none"
            raise InputError(
                f"There are no results of {self.analysis} ({ran})", mend="add it to {analyses}"
            )
        own = results[self.analysis]
        table = self.choose_table({name: list(own[name].columns) for name in own})
        rows, supposed = self._choose_rows(own[table], f"{table} of {self.analysis}")
        row: dict[str, Any] = rows.to_dict("records")[0]
        value, interval = _read(row, rows, self.column)
        return TableNumber(value, interval, row, table, supposed)

    def choose_table(self, columns: Mapping[str, Iterable[str]]) -> str:
        """Return the name of the table that is meant.

        Args:
            columns: the names of the columns of each table of the analysis.

        Raises:
            InputError: there is no such table, or it lacks a column; or no table has all columns,
                or several tables have.
        """
        if self.table and list(columns) == [self.analysis]:  # a report names its only table so
            self._require_columns(columns[self.analysis], self.analysis)
            return self.analysis
        if self.table:
            if self.table not in columns:
                raise InputError(
                    f'{self.analysis} has no table "{self.table}": {nearest(self.table, columns)}'
                )
            self._require_columns(columns[self.table], f"{self.table} of {self.analysis}")
            return self.table
        wanted = {self.column, *self.where}
        fitting = [name for name, own in columns.items() if wanted <= set(own)]
        chosen = fitting if len(fitting) == 1 else [MAIN.get(self.analysis, "")]
        if chosen[0] in fitting:
            return chosen[0]
        if fitting:
            raise InputError(
                f"{spell_count(len(fitting), 'table')} of {self.analysis} have"
                f" {', '.join(sorted(wanted))}: say which, such as {self.analysis}/{fitting[0]}"
                f" ({', '.join(fitting)})."
            )
        every = dict.fromkeys(column for own in columns.values() for column in own)
        self._require_columns(every, self.analysis)
        having = [name for name, own in columns.items() if self.column in own]
        raise InputError(
            f"No table of {self.analysis} has all of {', '.join(sorted(wanted))}; {self.column}"
            f" is in {', '.join(having)}."
        )

    def _require_columns(self, columns: Iterable[str], what: str) -> None:
        listed = [str(column) for column in columns]

        def require(column: str) -> None:
            if column not in listed:
                raise InputError(f'{what} has no column "{column}": {nearest(column, listed)}')

        do_all(require, (self.column, *self.where))

    def _choose_rows(self, rows: "pd.DataFrame", what: str) -> "tuple[pd.DataFrame, Where]":
        """The one row that is meant, and the usual values that chose it."""
        chosen: dict[str, str | int | float | bool] = {}
        for column, value in self._order_pair(rows, what).items():
            fitting = rows[_match(rows[column], value)]
            if fitting.empty:
                there = [str(one) for one in dict.fromkeys(rows[column])]
                of = f" with {describe(chosen)}" if chosen else ""
                raise InputError(
                    f'No row of {what}{of} has {column} "{value}": {nearest(str(value), there)}'
                )
            rows, chosen[column] = fitting, value
        supposed: dict[str, str | bool] = {}
        for column, values in USUAL.items():
            if column in rows and column not in self.where and rows[column].nunique() > 1:
                present = [value for value in values if _match(rows[column], value).any()]
                if present:
                    supposed[column] = present[0]
                    rows = rows[_match(rows[column], present[0])]
        supposed = _name_pooling(supposed, rows)
        if len(rows) > 1:
            raise InputError(
                f"{spell_count(len(rows), 'row')} of {what} fit"
                f" {describe(self.where) or 'nothing said'}",
                mend=f"say also {_tell_apart(rows, self.column)}",
            )
        return rows, supposed

    def _order_pair(self, rows: "pd.DataFrame", what: str) -> Where:
        """The values of the row, of two models in the order in which the table has them where the
        number is the same in either."""
        if not {"model_a", "model_b"} & set(self.where) or _fits(rows, self.where):
            return self.where
        turned = {_turn(column): value for column, value in self.where.items()}
        if not _fits(rows, turned):
            return self.where
        if self.column in SYMMETRIC:
            return turned
        raise InputError(
            f"No row of {what} has {describe(self.where)}, and {self.column} is not the same in the"
            " other order",
            mend=f"ask for {describe(turned)}",
        )


def _turn(column: str) -> str:
    """Name the column of the other one of two models.

    >>> _turn("tap_a"), _turn("tokens")
    ('tap_b', 'tokens')
    """
    return {"_a": f"{column[:-2]}_b", "_b": f"{column[:-2]}_a"}.get(column[-2:], column)


def _fits(rows: "pd.DataFrame", where: Where) -> bool:
    """Whether a row has all these values."""
    for column, value in where.items():
        if column not in rows:
            return False
        rows = rows[_match(rows[column], value)]
    return len(rows) > 0


def _name_pooling(supposed: dict[str, str | bool], rows: "pd.DataFrame") -> dict[str, str | bool]:
    """Say which pooling is the usual one of the model, where the rows have one."""
    poolings = set(rows["pooling"]) if "pooling" in rows else set()
    if "main" not in supposed or len(poolings) != 1 or poolings == {""}:
        return supposed
    named = {"pooling" if column == "main" else column: value for column, value in supposed.items()}
    return named | {"pooling": str(poolings.pop())}


def require_analysis(name: str) -> None:
    """Refuse a name that no analysis has.

    Raises:
        InputError: the nearest name is offered.
    """
    if name not in names("analyses"):
        raise InputError(f'There is no analysis "{name}": {nearest(name, names("analyses"))}')


def describe(where: Where) -> str:
    """Write the values by which a row is chosen.

    >>> describe({"model": "mae", "depth": 0.5})
    'model mae, depth 0.5'
    """
    return ", ".join(f"{column} {value}" for column, value in where.items())


def _match(column: "pd.Series[Any]", value: str | int | float | bool) -> "pd.Series[bool]":
    """Which cells have a value; numbers to the six digits that tables are written with."""
    kind = column.dtype.kind
    if kind == "b":
        return column == value if isinstance(value, bool) else column.astype(str) == str(value)
    if kind in "iuf" and isinstance(value, int | float) and not isinstance(value, bool):
        return (column - value).abs() <= 1e-5 * abs(value)
    if kind in "iuf":
        return column.astype(str) == str(value)
    return column.astype(str) == str(value)


def _tell_apart(rows: "pd.DataFrame", column: str) -> str:
    """The columns with few values that tell rows apart, each with its values."""
    told = []
    for name in rows.columns:
        values = [str(value) for value in dict.fromkeys(rows[name])]
        if name != column and len(values) > 1 and rows[name].dtype.kind in "Obi":
            told.append(f"{name} ({', '.join(values[:6])}{', …' if len(values) > 6 else ''})")
    return " or ".join(told[:3]) or "more"


def find_ends(columns: Iterable[str], column: str) -> tuple[str, str] | None:
    """Return the columns with the ends of the interval of a column; None if there is none.

    Columns named `low` and `high` belong to the column before them.

    >>> find_ends(["cka", "low", "high", "gain", "gain_low", "gain_high"], "cka")
    ('low', 'high')
    >>> find_ends(["cka", "low", "high", "gain", "gain_low", "gain_high"], "gain")
    ('gain_low', 'gain_high')
    >>> find_ends(["depth", "cka", "low", "high"], "depth") is None
    True
    """
    listed = list(columns)
    if f"{column}_low" in listed and f"{column}_high" in listed:
        return f"{column}_low", f"{column}_high"
    if "low" in listed and "high" in listed and listed[listed.index("low") - 1] == column:
        return "low", "high"
    return None


def _read(row: Mapping[str, Any], rows: "pd.DataFrame", column: str) -> tuple[Estimate, bool]:
    """The number of a row with its interval, and whether there is one."""
    ends = find_ends(rows.columns, column)
    for name in (column, *(ends or ())):
        if rows[name].dtype.kind not in "iuf":
            raise InputError(f'The column "{name}" holds no numbers, but {row[name]!r}.')
    if ends is None:
        return Estimate(float(row[column])), False
    for counted, over in COUNTED.items():
        if counted in rows and rows[counted].dtype.kind in "iuf":
            return Estimate.from_row(row, column, over, counted, ends=ends), True
    return Estimate.from_row(row, column, "images", 0, ends=ends), True


def decide_bound(
    number: TableNumber, bound: float, side: Literal["at least", "at most"]
) -> Literal["holds", "does not hold", "undecided"]:
    """Decide whether a number is at least, or at most, a bound.

    It is so if the whole interval lies on that side of the bound, and not so if the whole interval
    lies on the other side. If the interval holds the bound, or rests on too few images to decide
    (`Estimate.sign`), it is undecided. A number of which the table has no interval is compared
    itself.

    Args:
        number: the number with its interval.
        bound: in the units of the column.
        side: which side of the bound is asked for.

    >>> number = TableNumber(Estimate(0.75, 0.7, 0.8, "images", 500), True, {}, "accuracies", {})
    >>> [decide_bound(number, bound, "at least") for bound in (0.65, 0.72, 0.85)]
    ['holds', 'undecided', 'does not hold']
    """
    value = number.value
    if not value.defined:
        return "undecided"
    beyond = Estimate(
        value.value - bound, value.low - bound, value.high - bound, value.over, value.n
    )
    if not number.interval:
        within = beyond.value >= 0 if side == "at least" else beyond.value <= 0
        return "holds" if within else "does not hold"
    if not beyond.sign:
        return "undecided"
    return "holds" if (beyond.sign == 1) == (side == "at least") else "does not hold"
