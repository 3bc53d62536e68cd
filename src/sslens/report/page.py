"""A study's results as one folder to mail around: one HTML file that needs no network, and its
tables and figures as files."""

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from sslens.figure import NARROW, SWITCH, WIDE, Figure, Press, stack_panels, to_plotly
from sslens.store import write_text
from sslens.table import Results, Table

if TYPE_CHECKING:
    from markupsafe import Markup

SHOWN = 200
"""The rows of a longer table that are shown; Copy and the CSV file hold all of them."""


@dataclass(frozen=True, eq=False)
class Section:
    """What one analysis says: its findings in plain words, its tables and its figure.

    `name` becomes the names of its files: `tables/NAME.csv`, or `tables/NAME/TABLE.csv` where there
    are several tables.

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
        """The file of each table, by the table's name, relative to the report's folder."""
        if len(self.results.tables) == 1:
            return dict.fromkeys(self.results, f"tables/{self.name}.csv")
        return {name: f"tables/{self.name}/{name}.csv" for name in self.results}


@final
class Draft:
    """A report in the making: the files of a section are written while the next one is still being
    computed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as out, Draft(Path(out)) as draft:
    ...     path = draft.finish(title="a < b", command="sslens compare", study="", provenance={"versions": {}})
    ...     "<h1>a &lt; b</h1>" in path.read_text(encoding="utf-8")
    True

    Raises:
        InputError: the folder cannot be written to, or the disk is full.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.sections: list[Section] = []
        self._press = Press()

    def __enter__(self) -> "Draft":
        self._press.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._press.__exit__(*error)

    def add(self, section: Section) -> None:
        """Write the tables, and begin figures/NAME.svg and .pdf.

        Raises:
            ValueError: there is one of that name already.
        """
        if section.name in {each.name for each in self.sections}:
            raise ValueError(f"two sections have one name: {section.name}")
        self.sections.append(section)
        for name, file in section.files().items():
            section.results.tables[name].save(self.out / file)
        self._press.save(
            section.figure, *(self._figure(section, ending) for ending in (".svg", ".pdf"))
        )

    def finish(
        self,
        *,
        title: str,
        notes: Sequence[str] = (),
        advice: Sequence[str] = (),
        command: str,
        study: str,
        provenance: Mapping[str, Any],
    ) -> Path:
        """Write study.yaml, provenance.json and, when the figures are there, report.html; returns
        its path.

        `notes` are what a reader must know before the results, `advice` is what to do after them;
        `study` is the resolved study as YAML; mappings in `provenance` (versions, digests) become
        tables of their own. Nothing that is given is read as HTML.
        """
        write_text(self.out / "study.yaml", study)
        write_text(
            self.out / "provenance.json",
            json.dumps(provenance, indent=2, ensure_ascii=False) + "\n",
        )
        shown = [_shown(section) for section in self.sections]
        self._press.wait()
        for section, each in zip(self.sections, shown, strict=True):
            picture = self._figure(section, ".svg").read_bytes()
            each["picture"] = "data:image/svg+xml;base64," + base64.b64encode(picture).decode()
        context = {
            "title": title,
            "sections": shown,
            "notes": list(notes),
            "advice": list(advice),
            "command": command,
            "study": study,
            "switch": SWITCH,
            "provenance": list(_groups(provenance)),
        }
        write_text(self.out / "report.html", _rendered(context))
        return self.out / "report.html"

    def _figure(self, section: Section, ending: str) -> Path:
        return self.out / "figures" / f"{section.name}{ending}"


def write(out: Path, *, sections: Sequence[Section], **rest: Any) -> Path:
    """A report of sections that are all there; for the rest see `Draft.finish`."""
    with Draft(out) as draft:
        for section in sections:
            draft.add(section)
        return draft.finish(**rest)


def _rendered(context: Mapping[str, Any]) -> str:
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
    needed = bool(context["sections"])
    return page.get_template("page.html.jinja").render(
        **context, plotly=Markup(get_plotlyjs()) if needed else None
    )


def _shown(section: Section) -> dict[str, Any]:
    """What the template needs of a section, but for its picture."""
    files = section.files()
    return {
        "name": section.name,
        "title": section.title,
        "caption": section.caption,
        "findings": section.findings,
        "figure": _embedded(_drawn(section.figure)),
        "tables": [
            _shown_table(section, name, table, files[name])
            for name, table in section.results.tables.items()
        ],
    }


def _shown_table(section: Section, name: str, table: Table, file: str) -> dict[str, Any]:
    """What the template needs of a table; its title names it where a section has several."""
    frame, texts = table.frame, _texts(table)
    several = len(section.results.tables) > 1
    return {
        "id": f"{section.name}_{name}" if several else section.name,
        "title": f"{section.title} {name.replace('-', ' ').capitalize()}"
        if several
        else section.title,
        "label": f"Table of {name.replace('-', ' ')}" if several else "Table",
        "file": file,
        "columns": [
            {
                "name": str(column),
                "unit": table.units[column],
                "number": frame[column].dtype.kind in "iuf",
            }
            for column in frame.columns
        ],
        "rows": texts[:SHOWN],
        "count": len(texts),
        "tsv": _embedded(frame.to_csv(index=False, sep="\t", float_format="%.6g")),
    }


def _texts(table: Table) -> list[list[str | None]]:
    """The cells as they are read: four significant digits, None for an undefined number."""
    columns = [table.frame[column].tolist() for column in table.frame.columns]
    return [[_text(value) for value in row] for row in zip(*columns, strict=True)]


def _text(value: Any) -> str | None:
    import pandas as pd

    if pd.isna(value):
        return None
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _drawn(figure: Figure) -> dict[str, Any]:
    """The figure's traces once, with a layout for a wide screen and one for a narrow one."""
    wide = to_plotly(figure, WIDE).to_plotly_json()
    narrow = to_plotly(stack_panels(figure), NARROW).to_plotly_json()
    layouts = {"wide": wide["layout"], "narrow": narrow["layout"]}
    for layout in layouts.values():
        layout.pop("template", None)
    return {"data": wide["data"], **layouts}


def _embedded(value: Any) -> "Markup":
    """JSON that cannot end the script element that holds it, nor open a comment in it."""
    from markupsafe import Markup
    from plotly.utils import PlotlyJSONEncoder

    text = json.dumps(value, cls=PlotlyJSONEncoder, separators=(",", ":"))
    return Markup(text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e"))


def _groups(provenance: Mapping[str, Any]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The provenance as titled lists of names and values: what is no mapping first, then a list a
    mapping."""
    single = {key: value for key, value in provenance.items() if not isinstance(value, Mapping)}
    for title, group in {
        "run": single,
        **{k: v for k, v in provenance.items() if isinstance(v, Mapping)},
    }.items():
        if group:
            yield title.replace("_", " ").capitalize(), list(_flat(group))


def _flat(group: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in group.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, str):
            yield f"{prefix}{key}", value
        else:
            yield f"{prefix}{key}", json.dumps(value, ensure_ascii=False)
