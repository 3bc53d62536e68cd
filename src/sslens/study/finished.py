"""A finished report as evidence: its tables and its verdicts, read from the files of its folder."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from sslens.errors import InputError, do_all
from sslens.settings_file import read_yaml
from sslens.statistics.estimate import FEWEST, Answer, Estimate
from sslens.study.conditions import SCOPES, Condition, parse_condition
from sslens.study.judged import Effect, Judged
from sslens.table import Results, Table
from sslens.whole_file import open_regular

if TYPE_CHECKING:
    import pandas as pd


def read_tables(folder: Path) -> dict[str, Results]:
    """Read the tables of a report, by the name of the analysis.

    An analysis of one table has the file `tables/NAME.csv`, and this table is called like the
    analysis; the others have the files `tables/NAME/TABLE.csv`. Numbers have six digits.

    Raises:
        InputError: the folder has no tables, or a file is not CSV.
    """
    tables = folder / "tables"
    results: dict[str, Results] = {}
    for path in sorted(tables.glob("*.csv")):
        results[path.stem] = Results({path.stem: _read_table(path)})
    for inner in sorted(path for path in tables.glob("*") if path.is_dir()):
        read = {path.stem: _read_table(path) for path in sorted(inner.glob("*.csv"))}
        if read:
            results[inner.name] = Results(read)
    if not results:
        raise InputError(
            f"{folder} has no tables: expected the folder of a report, with study.yaml and tables."
        )
    return results


def read_verdicts(folder: Path) -> tuple[Judged, ...]:
    """Read the outcome of each claim from verdicts.csv; none without the file."""
    path = folder / "verdicts.csv"
    if not path.exists():
        return ()
    rows = _read_csv(path)
    needed = {"claim", "tokens", "outcome", "why"}
    if not needed <= set(rows.columns):
        raise InputError(f"{path} has no column {', '.join(sorted(needed - set(rows.columns)))}.")
    effects: dict[Judged, list[Effect]] = {}
    for number, row in enumerate(rows.to_dict("records"), 1):
        outcome, scope = _read_text(row, "outcome"), ""
        for ending in SCOPES.values():
            if outcome.endswith(f" {ending}"):
                outcome, scope = outcome.removesuffix(f" {ending}"), ending
        claim, tokens, why = (_read_text(row, column) for column in ("claim", "tokens", "why"))
        try:
            if not claim or outcome not in get_args(Answer):
                raise ValueError(f'the outcome of "{claim}" is "{outcome[:80]}"')
            found = [*_read_effect(row, scope)]
        except (ValueError, OverflowError) as error:
            raise InputError(
                f"{path} is damaged in row {number} ({error})",
                mend="copy it again, or make the report again",
            ) from error
        caveats = tuple(filter(None, _read_text(row, "caveats").split("; ")))
        one = Judged(claim, tokens, outcome, scope, why, caveats=caveats)
        effects.setdefault(one, []).extend(found)
    return tuple(replace(one, effects=tuple(found)) for one, found in effects.items())


def _read_effect(row: Mapping[str, Any], scope: str) -> Iterator[Effect]:
    """The difference of a row, with the interval that decides for a scope; none where the row has
    none."""
    over, value = row.get("over"), _read_number(row, "effect")
    if over not in FEWEST or value != value:
        return
    low, high, n = (_read_number(row, name) for name in ("low", "high", "n"))
    names = ("trainings_low", "trainings_high", "trainings")
    of_trainings = [_read_number(row, name) for name in names]
    if scope == SCOPES["objectives"] and of_trainings[0] == of_trainings[0]:
        (low, high, n), over = of_trainings, f"{over} and trainings"
    estimate = Estimate(value, low, high, over, 0 if n != n else int(n))
    smallest = _read_number(row, "smallest")
    yield Effect(
        _read_text(row, "part"),
        _read_text(row, "a"),
        _read_text(row, "b"),
        estimate,
        0.0 if smallest != smallest else smallest,
        _read_text(row, "kind"),
        _read_text(row, "answer"),
    )


def _read_text(row: Mapping[str, Any], column: str) -> str:
    """The text of a column; empty where there is none."""
    value = row.get(column)
    return "" if value is None or value != value else str(value)


def _read_number(row: Mapping[str, Any], column: str) -> float:
    """The number of a column; nan where there is none.

    Raises:
        ValueError: the column holds a text.
    """
    value = row.get(column)
    if value is None or value == "":
        return float("nan")
    try:
        return float(value)
    except ValueError as error:
        raise ValueError(f'its {column} is "{str(value)[:80]}"') from error


def read_conditions(folder: Path) -> tuple[Condition, ...]:
    """Read the conditions of a report's study.yaml; none without the file."""
    path = folder / "study.yaml"
    if not path.exists():
        return ()
    study: Any = read_yaml(path)
    listed = study.get("check", []) if isinstance(study, Mapping) else []
    if not isinstance(listed, list):
        raise InputError(f"check is {listed!r} ({path}): expected a list.")
    return tuple(do_all(parse_condition, listed))


def _read_table(path: Path) -> Table:
    frame = _read_csv(path)
    return Table(frame, {str(column): "" for column in frame.columns})


def _read_csv(path: Path) -> "pd.DataFrame":
    """Read rows; empty cells of columns of text are empty texts, and of numbers nan."""
    import pandas as pd

    try:
        with open_regular(path) as file:
            frame = pd.read_csv(file, keep_default_na=False, na_values=[""])
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not CSV: {' '.join(str(error).split())}") from error
    for column in frame.columns:
        if frame[column].dtype.kind == "O":
            frame[column] = frame[column].fillna("")
    return frame
