"""A study's results as one folder to mail around: one HTML file that needs no network, its tables
as files and, on request, its figures for paper."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from sslens.comparisons.sheets import save_sheets
from sslens.errors import as_argument
from sslens.figure import Figure, Panel, Press
from sslens.own_files import OwnFiles
from sslens.report.colours import choose_colours
from sslens.report.drawings import Drawing, encode_drawings, group_panels
from sslens.report.front import Front
from sslens.report.older import find_older
from sslens.report.overview import (
    WIDTHS,
    Rank,
    choose_ranked,
    draw_overview,
    find_reach,
    list_ranks,
)
from sslens.report.stills import VIRIDIS, draw_still
from sslens.report.table_views import TableView, view_tables
from sslens.report.verdicts import make_table, write_verdicts
from sslens.report.writing.front import write_terms
from sslens.report.writing.numbers import spell_share, typeset
from sslens.report.writing.pictures import (
    describe_overview,
    describe_panel,
    shorten_finding,
    write_beside,
)
from sslens.statistics.estimate import Estimate
from sslens.statistics.verdicts import Verdict
from sslens.store import write_text
from sslens.table import Results

if TYPE_CHECKING:
    from markupsafe import Markup

WITHOUT_THUMBNAILS = "This page was made without thumbnails; the pictures are in the folder sheets."
"""What is said where the pictures are left out."""


@dataclass(frozen=True, eq=False)
class Section:
    """The part of a report that one analysis gives: findings in plain words, tables and a figure.

    `name` becomes the name of the section's files: `tables/NAME.csv`, or `tables/NAME/TABLE.csv`
    where there are several tables.

    >>> import pandas as pd
    >>> from sslens.figure import Lines
    >>> from sslens.table import Table
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
    computed. Each file is listed before it is written (`sslens.own_files`), and strangers' files in
    the folder are left as they are.

    Args:
        out: the folder.
        figures: whether figures are also drawn for paper, as SVG and PDF.
        spell: how a parameter is called, for a sentence of the page (see `InputError.spelt`).

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as out, Draft(Path(out)) as draft:
    ...     path = draft.finish(title="a < b", command="sslens compare", study="", provenance={})
    ...     "<h1>a &lt; b</h1>" in path.read_text(encoding="utf-8")
    True

    Raises:
        InputError: the folder cannot be written to, the disk is full, or a stranger's file has a
            name that the report needs.
    """

    def __init__(
        self,
        out: Path,
        *,
        figures: bool = False,
        spell: Callable[[str, str | None], str] = as_argument,
    ) -> None:
        self.out = out
        self.own = OwnFiles(out)
        self.own.adopt(find_older(out))
        self.sections: list[Section] = []
        self._spell = spell
        self._press = Press() if figures else None
        self._colours: dict[str, int] = {}

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
            section.results.tables[name].save(self.own.before(self.out / file))
        save_sheets(section.results, self.out / "sheets" / section.name, self.own)
        paths = [self._figure_path(section.name, ending) for ending in (".svg", ".pdf")]
        if self._press is not None:
            self._press.save(section.figure, *map(self.own.before, paths))
            return
        for path in paths:
            self.own.remove(path)

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
        front: Front | None = None,
        extras: Mapping[str, Sequence[Panel]] | None = None,
        thumbnails: bool = True,
    ) -> Path:
        """Write study.yaml, provenance.json, verdicts.csv where there are verdicts, and report.html
        as soon as the figures for paper are drawn. No text is read as HTML.

        Args:
            title: of the page.
            notes: what a reader must know before the results.
            advice: what to do after the results.
            verdicts: what the results say of claims.
            command: the command line.
            study: the resolved study as YAML.
            provenance: names and values; a mapping in it (versions, digests) becomes a table.
            front: the first screen; without it the page begins with the verdicts and the advice.
            extras: further panels of a section, by the section's name.
            thumbnails: whether the page holds pictures of images.

        Returns the path of report.html.
        """
        self.write("study.yaml", study)
        self.write("provenance.json", json.dumps(provenance, indent=2, ensure_ascii=False) + "\n")
        if verdicts:
            make_table(verdicts).save(self.own.before(self.out / "verdicts.csv"))
        else:
            self.own.remove(self.out / "verdicts.csv")  # of the last time
        if self._press is not None:
            self._press.wait()
        results = {section.name: section.results for section in self.sections}
        self._colours = choose_colours({} if front is None else front.families)
        context = {
            "title": title,
            "front": front,
            "terms": _write_terms(front),
            "overview": _draw_front(front),
            "sections": [
                self._view_section(section, (extras or {}).get(section.name, ()), thumbnails)
                for section in self.sections
            ],
            "beside": self._embed_shared(write_beside(results)),
            "notes": [*notes, *([] if thumbnails else [WITHOUT_THUMBNAILS])],
            "advice": [] if front else list(advice),
            "verdicts": write_verdicts(verdicts),
            "command": command,
            "study": study,
            "provenance": list(_group_provenance(provenance)),
        }
        return self.write("report.html", _render(context))

    def write(self, name: str, text: str) -> Path:
        """Write a text file into the folder; returns its path."""
        path = self.own.before(self.out / name)
        write_text(path, text)
        return path

    def _embed_shared(self, beside: Mapping[str, str]) -> "Markup":
        """Embed what all drawings of the page read."""
        return _embed({"beside": beside, "viridis": VIRIDIS, "colours": self._colours})

    def _view_section(
        self, section: Section, extras: Sequence[Panel], thumbnails: bool
    ) -> "_SectionView":
        """Prepare a section for the template."""
        drawings = group_panels(section.figure, extras)
        if not thumbnails:
            drawings = tuple(one for one in drawings if one.kind not in ("sheet", "picture"))
        return _SectionView(
            section.name,
            section.title,
            section.caption,
            section.findings,
            shorten_finding(section.findings[0]) if section.findings else "",
            _embed(encode_drawings(drawings)),
            [_Still.of(drawing, self._colours) for drawing in drawings],
            list(view_tables(section.results.tables, section.files(), pictures=thumbnails)),
            paper=self._press is not None,
        )

    def _figure_path(self, name: str, ending: str) -> Path:
        return self.out / "figures" / f"{name}{ending}"


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

    loader = PackageLoader("sslens.report", package_path="")
    page = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters["typeset"] = typeset
    folder = resources.files("sslens.report")
    parts = {
        name: Markup((folder / file).read_text(encoding="utf-8"))
        for name, file in (("style", "page.css"), ("script", "page.js"))
    }
    return page.get_template("page.html.jinja").render(**context, **parts)


@dataclass(frozen=True)
class _Still:
    """What a reader without JavaScript sees of a drawing: SVG elements, what they show in words,
    and the titles of what is picked."""

    pictures: "tuple[Markup, ...]"
    words: str
    title: str

    @classmethod
    def of(cls, drawing: Drawing, colours: Mapping[str, int]) -> "_Still":
        from markupsafe import Markup

        panels = drawing.start()
        return cls(
            tuple(Markup(draw_still(panel, colours)) for panel in panels),
            describe_panel(panels[0]),
            ", ".join(drawing.panels[0][0]) or panels[0].title,
        )


@dataclass(frozen=True)
class _SectionView:
    """A section as the template shows it; `figure` is JSON, and `paper` says whether its figure is
    drawn for paper too."""

    name: str
    title: str
    caption: str
    findings: tuple[str, ...]
    headline: str
    figure: "Markup"
    stills: list[_Still]
    tables: list[TableView]
    paper: bool


@dataclass(frozen=True)
class _OverviewView:
    """The pictures of the first screen as the template shows them: models at their places for a
    wide and for a narrow window, what they show in words, the accuracies, and the ends of their
    scale."""

    pictures: "tuple[Markup, ...]"
    words: str
    ranks: list[Rank]
    ends: tuple[str, str]


def _write_terms(front: Front | None) -> str:
    """What numbers and the families' names on the first screen stand for."""
    if front is None:
        return ""
    points = () if front.overview is None else front.overview.points
    terms = write_terms([point.family for point in points])
    return " ".join(filter(None, (front.terms, terms)))


def _draw_front(front: Front | None) -> _OverviewView | None:
    """Draw the pictures of the first screen, and say what they show."""
    from markupsafe import Markup

    if front is None or front.overview is None or not front.overview.points:
        return None
    overview = front.overview
    reach = find_reach(choose_ranked(overview.points), overview.chance)
    low, high = (spell_share(Estimate(end)) for end in reach)
    pictures = tuple(Markup(draw_overview(overview, width)) for width in WIDTHS)
    return _OverviewView(pictures, describe_overview(overview), list_ranks(overview), (low, high))


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
