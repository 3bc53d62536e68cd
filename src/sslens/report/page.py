"""A study's results as one folder to mail around: one HTML file that needs no network, its tables
as files and, on request, its figures for paper."""

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from sslens.comparisons.sheets import save_sheets
from sslens.errors import as_argument, spell_parameters
from sslens.figure import NARROW, SWITCH, WIDE, Figure, Press, draw_for_screen, stack_panels
from sslens.figure.pictures import PREFIX
from sslens.report.verdicts import make_table, write_verdicts
from sslens.statistics.verdicts import Verdict
from sslens.store import write_text
from sslens.table import Results, Table

if TYPE_CHECKING:
    import pandas as pd
    from markupsafe import Markup

SHOWN = 200
"""The rows of a table that the page shows; the button Copy and the CSV file give all rows."""
WITHOUT_SCRIPT = (
    "This figure needs JavaScript. Made again with {figures=True}, this page has a picture of it;"
    " the results are in the store, and nothing is computed anew."
)
"""What a reader without JavaScript sees in place of a figure; the parameter is spelt for the
reader."""


@dataclass(frozen=True, eq=False)
class Section:
    """The part of a report that one analysis gives: findings in plain words, tables and a figure.

    `name` becomes the name of the section's files: `tables/NAME.csv`, or `tables/NAME/TABLE.csv`
    where there are several tables.

    >>> import pandas as pd
    >>> from sslens.figure import Lines
    >>> figure = Figure("knn", ((Lines("", "depth", "accuracy", (), None),),))
    >>> results = Results({"knn": Table(pd.DataFrame(), {})})
    >>> Section("../knn", "k-NN", "", (), results, figure)
    Traceback (most recent call last):
    ValueError: '../knn' does not name a file: small letters, digits and - only

    Raises:
        ValueError: the name would not be a plain file name.
    """

    name: str
    title: str
    caption: str
    findings: tuple[str, ...]
    results: Results
    figure: Figure

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.name):
            raise ValueError(
                f"{self.name!r} does not name a file: small letters, digits and - only"
            )

    def files(self) -> dict[str, str]:
        """Return the file of each table, by the table's name, relative to the report's folder."""
        if len(self.results.tables) == 1:
            return dict.fromkeys(self.results, f"tables/{self.name}.csv")
        return {name: f"tables/{self.name}/{name}.csv" for name in self.results}


@final
class Draft:
    """A report in the making: the files of a section are written while the next one is still being
    computed.

    Args:
        out: the folder.
        figures: whether figures are drawn for paper, as SVG and PDF; the page then shows them to
            readers without JavaScript and in print.
        spell: how a parameter is called, for a sentence of the page (see `InputError.spelt`).

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as out, Draft(Path(out)) as draft:
    ...     path = draft.finish(title="a < b", command="sslens compare", study="", provenance={})
    ...     "<h1>a &lt; b</h1>" in path.read_text(encoding="utf-8")
    True

    Raises:
        InputError: the folder cannot be written to, or the disk is full.
    """

    def __init__(
        self,
        out: Path,
        *,
        figures: bool = False,
        spell: Callable[[str, str | None], str] = as_argument,
    ) -> None:
        self.out = out
        self.sections: list[Section] = []
        self._spell = spell
        self._press = Press() if figures else None

    def __enter__(self) -> "Draft":
        if self._press is not None:
            self._press.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._press is not None:
            self._press.__exit__(*error)

    def add(self, section: Section) -> None:
        """Write a section's tables and, as PNG files, its sheets of pictures; begin to draw
        figures/NAME.svg and .pdf where figures are wanted, or else remove those of an earlier
        report, which may show other numbers.

        Raises:
            ValueError: there is a section of that name already.
        """
        if section.name in {other.name for other in self.sections}:
            raise ValueError(f"two sections have one name: {section.name}")
        self.sections.append(section)
        for name, file in section.files().items():
            section.results.tables[name].save(self.out / file)
        save_sheets(section.results, self.out / "sheets" / section.name)
        paths = [self._figure_path(section.name, ending) for ending in (".svg", ".pdf")]
        if self._press is not None:
            self._press.save(section.figure, *paths)
            return
        for path in paths:
            path.unlink(missing_ok=True)

    def finish(
        self,
        *,
        title: str,
        notes: Sequence[str] = (),
        advice: Sequence[str] = (),
        verdicts: Sequence[Verdict] = (),
        command: str,
        study: str,
        provenance: Mapping[str, Any],
    ) -> Path:
        """Write study.yaml, provenance.json, verdicts.csv where there are verdicts, and report.html
        as soon as the figures for paper are drawn.

        No text is read as HTML.

        Args:
            title: of the page.
            notes: what a reader must know before the results.
            advice: what to do after the results.
            verdicts: what the results say of claims.
            command: the command line.
            study: the resolved study as YAML.
            provenance: names and values; a mapping in it (versions, digests) becomes a table.

        Returns the path of report.html.
        """
        write_text(self.out / "study.yaml", study)
        provenance_text = json.dumps(provenance, indent=2, ensure_ascii=False) + "\n"
        write_text(self.out / "provenance.json", provenance_text)
        if verdicts:
            make_table(verdicts).save(self.out / "verdicts.csv")
        views = [_view_section(section) for section in self.sections]
        if self._press is not None:
            self._press.wait()
            views = [replace(view, picture=self._embed_picture(view.name)) for view in views]
        context = {
            "title": title,
            "sections": views,
            "notes": list(notes),
            "advice": list(advice),
            "verdicts": write_verdicts(verdicts),
            "command": command,
            "study": study,
            "switch": SWITCH,
            "without_script": spell_parameters(WITHOUT_SCRIPT, self._spell),
            "provenance": list(_group_provenance(provenance)),
        }
        write_text(self.out / "report.html", _render(context))
        return self.out / "report.html"

    def _figure_path(self, name: str, ending: str) -> Path:
        return self.out / "figures" / f"{name}{ending}"

    def _embed_picture(self, name: str) -> str:
        """Make a data URL of a figure's SVG file."""
        picture = base64.b64encode(self._figure_path(name, ".svg").read_bytes()).decode()
        return f"data:image/svg+xml;base64,{picture}"


def write(out: Path, *, sections: Sequence[Section], figures: bool = False, **rest: Any) -> Path:
    """Write a report of known sections; `rest` are the arguments of `Draft.finish`."""
    with Draft(out, figures=figures) as draft:
        for section in sections:
            draft.add(section)
        return draft.finish(**rest)


def _render(context: Mapping[str, Any]) -> str:
    """Fill the page's template."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    loader = PackageLoader("sslens.report", package_path="")
    page = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    plotly = Markup(get_plotlyjs()) if context["sections"] else None
    return page.get_template("page.html.jinja").render(**context, plotly=plotly)


@dataclass(frozen=True)
class _ColumnView:
    """A column as the template shows it."""

    name: str
    unit: str
    number: bool


@dataclass(frozen=True)
class _TableView:
    """A table as the template shows it; `tsv` holds all rows as JSON, for the button Copy."""

    id: str
    title: str
    label: str
    file: str
    columns: list[_ColumnView]
    rows: list[list[str | None]]
    count: int
    tsv: "Markup"


@dataclass(frozen=True)
class _SectionView:
    """A section as the template shows it; `figure` is JSON, and `picture` a data URL, or empty
    where no figures are drawn for paper."""

    name: str
    title: str
    caption: str
    findings: tuple[str, ...]
    figure: "Markup"
    tables: list[_TableView]
    picture: str = ""


def _view_section(section: Section) -> _SectionView:
    """Prepare a section for the template, without the picture, which is not drawn yet."""
    files = section.files()
    return _SectionView(
        section.name,
        section.title,
        section.caption,
        section.findings,
        _embed_figure(section.figure),
        [
            _view_table(section, name, table, files[name])
            for name, table in section.results.tables.items()
        ],
    )


def _view_table(section: Section, name: str, table: Table, file: str) -> _TableView:
    """Prepare a table for the template; the title names it if the section has several tables."""
    frame, texts = table.frame, _texts(table)
    several, words = len(section.results.tables) > 1, name.replace("-", " ")
    columns = [
        _ColumnView(str(column), table.units[column], frame[column].dtype.kind in "iuf")
        for column in frame.columns
    ]
    return _TableView(
        id=f"{section.name}_{name}" if several else section.name,
        title=f"{section.title} {words.capitalize()}" if several else section.title,
        label=f"Table of {words}" if several else "Table",
        file=file,
        columns=columns,
        rows=texts[:SHOWN],
        count=len(texts),
        tsv=_embed(_hide_pictures(frame).to_csv(index=False, sep="\t", float_format="%.6g")),
    )


def _texts(table: Table) -> list[list[str | None]]:
    """Write the cells in words: numbers with four significant digits, None for an undefined
    number."""
    columns = [table.frame[column].tolist() for column in table.frame.columns]
    return [[_text(value) for value in row] for row in zip(*columns, strict=True)]


def _hide_pictures(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Leave the pictures out of what the button Copy copies; the CSV file has them."""
    if "picture" not in frame:
        return frame
    pictured = frame.picture.astype(str).str.startswith(PREFIX)
    return frame.assign(picture=frame.picture.mask(pictured, "(in the file)"))


def _text(value: Any) -> str | None:
    import pandas as pd

    if pd.isna(value):
        return None
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _embed_figure(figure: Figure) -> "Markup":
    """Embed the figure's traces once, with a layout for a wide screen and one for a narrow
    screen."""
    wide = draw_for_screen(figure, WIDE)
    narrow = draw_for_screen(stack_panels(figure), NARROW)
    return _embed({"data": wide.data, "wide": wide.layout, "narrow": narrow.layout})


def _embed(value: Any) -> "Markup":
    """Write JSON that can neither end the script element around it, nor open a comment in it."""
    from markupsafe import Markup

    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e"))


def _group_provenance(
    provenance: Mapping[str, Any],
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Split the provenance into titled lists of names and values: first all single values, then one
    list for each mapping."""
    single = {key: value for key, value in provenance.items() if not isinstance(value, Mapping)}
    mappings = {key: value for key, value in provenance.items() if isinstance(value, Mapping)}
    for title, group in {"run": single, **mappings}.items():
        if group:
            yield title.replace("_", " ").capitalize(), list(_flatten(group))


def _flatten(group: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the names and values of a mapping; names of nested mappings are joined by full
    stops."""
    for key, value in group.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        elif isinstance(value, str):
            yield f"{prefix}{key}", value
        else:
            yield f"{prefix}{key}", json.dumps(value, ensure_ascii=False)
