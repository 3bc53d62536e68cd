"""What a study, or another computation, came to: a table that answers, all tables, figures,
verdicts, and a folder to save them in."""

import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, final, runtime_checkable

from sslens.errors import InputError, nearest
from sslens.table import Table

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from sslens.comparisons.inputs import GramSets
    from sslens.report.front import Front
    from sslens.report.writing.answer import AnswerLine
    from sslens.statistics.verdicts import Verdict
    from sslens.study.out_folders import Claim

#: the table that a terminal shows in the place of a paragraph
INVARIANCES = "invariance/changes"
#: the table with a row for each pair of models whose weights are compared
PAIRS = "weights-changed/pairs"
#: what one name in `Tables` or `Figures` stands for
Kept = TypeVar("Kept")


@final
class Tables:
    """Tables by name, each a DataFrame with its units: `tables[name].attrs["units"]` says what each
    column holds.

    The tables of an analysis are called ANALYSIS/TABLE, or ANALYSIS where it has one table.

    >>> import pandas as pd
    >>> rows = pd.DataFrame({"accuracy": [0.25]})
    >>> tables = Tables({"knn": Table(rows, {"accuracy": "share of images"})})
    >>> tables
    <Tables: knn>
    >>> tables["knn"].accuracy.tolist(), tables["knn"].attrs["units"]
    ([0.25], {'accuracy': 'share of images'})
    >>> tables["probes"]
    Traceback (most recent call last):
    sslens.errors.InputError: There is no table "probes": there are knn
    """

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self._tables = dict(tables)
        self._frames: dict[str, pd.DataFrame] = {}

    def __getitem__(self, name: str) -> "pd.DataFrame":
        """A table, which is yours to change.

        Raises:
            InputError: there is no such table; the nearest is offered.
        """
        if name not in self._frames:
            table = _pick(self._tables, name, "table")
            frame = table.frame.copy()
            frame.attrs["units"] = dict(table.units)
            self._frames[name] = frame
        return self._frames[name]

    def __contains__(self, name: object) -> bool:
        return name in self._tables

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)

    def __repr__(self) -> str:
        return f"<Tables: {_list_some(list(self))}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{len(table.frame):,}</td>"
            f"<td>{html.escape(', '.join(map(str, table.frame.columns)))}</td></tr>"
            for name, table in self._tables.items()
        )
        return f"<table><tr><th>table</th><th>rows</th><th>columns</th></tr>{rows}</table>"

    def keys(self) -> "list[str]":
        """Return the names."""
        return list(self)

    def items(self) -> "Iterator[tuple[str, pd.DataFrame]]":
        """Yield each name with its table."""
        return ((name, self[name]) for name in self)

    def to_tables(self) -> dict[str, Table]:
        """Return the tables as they are saved."""
        return dict(self._tables)


@final
class Figures:
    """Figures by the name of the analysis, each drawn by plotly when it is first asked for."""

    def __init__(self, drawing: "Mapping[str, Callable[[], go.Figure]]") -> None:
        self._drawing = dict(drawing)
        self._drawn: dict[str, go.Figure] = {}

    def __getitem__(self, name: str) -> "go.Figure":
        """A figure.

        Raises:
            InputError: there is no such figure; the nearest is offered.
        """
        if name not in self._drawn:
            self._drawn[name] = _pick(self._drawing, name, "figure")()
        return self._drawn[name]

    def __contains__(self, name: object) -> bool:
        return name in self._drawing

    def __iter__(self) -> Iterator[str]:
        return iter(self._drawing)

    def __len__(self) -> int:
        return len(self._drawing)

    def __repr__(self) -> str:
        return f"<Figures: {_list_some(list(self))}>"

    def keys(self) -> "list[str]":
        """Return the names."""
        return list(self)


@runtime_checkable
class WriteFiles(Protocol):
    """Writes the files of a result into a folder, and returns the path of the page or table."""

    def __call__(self, folder: Path, *, figures: bool = False, thumbnails: bool = True) -> Path:
        """Write them."""
        ...


@final
@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """What was computed, in memory; nothing is written before `save`.

    Attributes:
        title: what was compared, or done.
        tables: all tables by name.
        figures: figures of plotly's by the name of the analysis.
        verdicts: the verdicts on claims.
        advice: what to use, in sentences.
        findings: what was found, in sentences, by the name of the analysis.
        notes: what a reader must know of models and images.
        front: the first screen of the report; None where there is none.
        grams: the Grams that were compared, by tokens and model; None where there are none.
        answered: the table `answer` with its units.
        write_files: writes the folder.
        claim: what the folder is taken for (`sslens.study.out_folders`); None where it may hold
            anything.

    `print(result)` shows the answer as the command line does, and a notebook shows it as a table.
    """

    title: str
    answered: Table
    tables: Tables
    write_files: "WriteFiles"
    claim: "Claim | None" = None
    figures: Figures = field(default_factory=lambda: Figures({}))
    verdicts: "tuple[Verdict, ...]" = ()
    advice: tuple[str, ...] = ()
    findings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    front: "Front | None" = None
    grams: "GramSets | None" = None

    @property
    def answer(self) -> "pd.DataFrame":
        """The answer: a row a model or control. `answer.attrs["units"]` says what each column
        holds."""
        frame = self.answered.frame.copy()
        frame.attrs["units"] = dict(self.answered.units)
        return frame

    def cka(
        self, a: str, b: str | None = None, *, measure: str = "cka", tokens: str | None = None
    ) -> "pd.DataFrame":
        """CKA of every layer of a model with every layer of another.

        Args:
            a: the name of a model or control, for the rows.
            b: the name of another, for the columns; the model itself unless given.
            measure: another measure, such as "deconfounded-cka", which regresses the raw pixels out
                (`sslens.measures`).
            tokens: "all", "cls" or "patch"; the first of these that was compared unless given. Raw
                pixels have no tokens: all their values stand beside each choice.

        Returns:
            A DataFrame with the names of the layers as index and columns.

        Raises:
            InputError: no such model, measure or tokens, or no pixels for a measure that needs
                them.
        """
        from sslens.comparisons.deconfounding import add_pixels, find_pixels
        from sslens.comparisons.roles import TOKENS
        from sslens.study.similarity import tabulate_similarity

        if not self.grams:
            raise InputError(
                "There are no Grams here: CKA is computed by sslens.compare, unless {analyses}"
                " names others."
            )
        choices = {name: add_pixels(self.grams, name) for name in self.grams if name in TOKENS}
        sets = _pick(choices, tokens or next(iter(choices)), "choice of tokens")
        one, other = (_pick(sets, name, "model") for name in (a, b or a))
        return tabulate_similarity(
            one,
            other,
            measure=measure,
            pixels=find_pixels(self.grams),
            mend="compare with {controls}, which the raw pixels are among, or give the name pixels"
            " among the {models}",
        )

    def save(
        self,
        path: str | Path,
        *,
        figures: bool = False,
        thumbnails: bool = True,
        overwrite: bool = False,
    ) -> Path:
        """Save the report, all tables and the answer in a folder; returns the path of the report.

        Args:
            path: the folder.
            figures: whether figures are drawn for paper too, as SVG and PDF.
            thumbnails: whether the page holds small pictures of images.
            overwrite: whether another study in the folder is replaced: its own files go first, and
                no others.

        Raises:
            InputError: the folder cannot be written to, or the disk is full; the folder holds
                another study, or a stranger's file where one of the report's would be.
        """
        folder = Path(path).expanduser()
        if self.claim is not None:
            self.claim.take(folder, overwrite=overwrite)
        return self.write_files(folder, figures=figures, thumbnails=thumbnails)

    def write(self, width: int = 100, path: str = "") -> "list[AnswerLine]":
        """Write the answer in at most 15 lines of a terminal.

        Args:
            width: columns of the terminal.
            path: where the report was saved.
        """
        from sslens.report.writing.answer import Told, write_answer
        from sslens.report.writing.answer_notes import choose_findings
        from sslens.report.writing.invariance_grid import make_grid
        from sslens.report.writing.left_over import write_changes
        from sslens.study.report_files import ANSWER

        pairs = len(self.tables[PAIRS]) if PAIRS in self.tables else 0
        findings = choose_findings(self.findings, PAIRS.partition("/")[0] if pairs > 1 else "")
        if not findings:
            findings = _list_lines(self.answered.frame, width) or [self._point_to_tables(path)]
        choice = "" if self.front is None else self.front.choice
        changes = write_changes(self.tables.to_tables(), width)
        grid = None
        if len(self.findings) == 1 and INVARIANCES in self.tables:  # else answers would be lost
            grid = make_grid(self.tables[INVARIANCES], f"tables/{INVARIANCES}.csv" if path else "")
        saved = ANSWER if path else ""
        told = Told(self.title, self.notes, findings, path, saved, choice, changes, grid)
        return write_answer(self.answered.frame.to_dict("records"), told, width)

    def _point_to_tables(self, path: str) -> str:
        """Say that nothing is said in words, and where the numbers are."""
        where = "the report" if path else "`tables` and `figures`"
        names = _list_some(list(self.findings))
        return f"No sentence follows from {names} of these models: the numbers are in {where}."

    def to_json(self) -> Mapping[str, Any]:
        """The answer, the verdicts and the notes as JSON values; undefined numbers are null."""
        from sslens.report.verdicts import make_table

        first = () if self.front is None else self.front.answers
        return {
            "title": self.title,
            "choice": "" if self.front is None else self.front.choice,
            "answer": _list_rows(self.answered),
            "units": dict(self.answered.units),
            "questions": [
                {
                    "question": one.question,
                    "answer": one.word,
                    "names": one.names,
                    "effect": one.effect,
                    "over": one.over,
                }
                for one in first
            ],
            "verdicts": _list_rows(make_table(self.verdicts)) if self.verdicts else [],
            "advice": list(self.advice),
            "findings": {name: list(sentences) for name, sentences in self.findings.items()},
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        return "\n".join(line.text for line in self.write())

    def __repr__(self) -> str:
        counts = (
            (len(self.tables), "table"),
            (len(self.figures), "figure"),
            (len(self.verdicts), "verdict"),
        )
        said = ", ".join(f"{n} {word}{'' if n == 1 else 's'}" for n, word in counts)
        return f"<Result {self.title}: {said}>"

    def _repr_html_(self) -> str:
        from sslens.report.writing.answer import tabulate_answer

        head, rows, below = tabulate_answer(self.answered.frame.to_dict("records"))
        questions = () if self.front is None else self.front.answers
        choice = "" if self.front is None else self.front.choice
        said = [f"{one.question} {one.word}: {one.effect}" for one in questions]
        lists = "".join(
            f"<p>{'<br>'.join(map(html.escape, texts))}</p>"
            for texts in (
                [choice] if choice else [],
                [below] if below else [],
                said,
                self.advice,
                self.notes,
            )
            if texts
        )
        cells = "".join(f"<tr>{_mark(row, 'td')}</tr>" for row in rows)
        table = f"<table><tr>{_mark(head, 'th')}</tr>{cells}</table>" if rows else ""
        return f"<h4>{html.escape(self.title)}</h4>{table}{lists}"


def _pick(mapping: Mapping[str, Kept], name: str, what: str) -> Kept:
    """Look a name up.

    Raises:
        InputError: it is not there; the nearest is offered.
    """
    if name not in mapping:
        raise InputError(f'There is no {what} "{name}": {nearest(str(name), mapping)}')
    return mapping[name]


def _list_lines(frame: "pd.DataFrame", width: int) -> list[str]:
    """The rows of a table as lines, with as many columns as fit; none of a table of answers that
    tells nothing."""
    from sslens.report.writing.answer_rows import KNOWN, has_numbers

    lines: list[str] = []
    if {*KNOWN} <= {*frame.columns} and not any(map(has_numbers, frame.to_dict("records"))):
        return lines
    for columns in range(min(8, len(frame.columns)), 1, -1):
        text = frame.to_string(index=False, max_cols=columns, float_format="{:.4g}".format)
        lines = text.splitlines()
        if max(map(len, lines)) <= width:
            break
    return lines


def _list_some(names: Sequence[str], most: int = 8) -> str:
    """List names, and of many how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most]) or 'none'}{more}"


def _mark(cells: Sequence[str], tag: str) -> str:
    """Cells of a row of HTML."""
    style = ' style="text-align:left"'
    return "".join(f"<{tag}{style}>{html.escape(cell)}</{tag}>" for cell in cells)


def _list_rows(table: Table) -> list[Mapping[str, Any]]:
    """The rows of a table as JSON values; undefined numbers are null."""
    rows = table.frame.astype(object).to_dict("records")
    return [
        {str(name): None if value != value else _to_plain(value) for name, value in row.items()}
        for row in rows
    ]


def _to_plain(value: Any) -> Any:
    """A value of NumPy's as Python has it."""
    return value.item() if hasattr(value, "item") else value
