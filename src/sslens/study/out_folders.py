"""Which folders a study, a table or a page may be written into, and what is removed there first."""

import csv
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from sslens.errors import InputError
from sslens.own_files import Contents, OwnFiles
from sslens.study.stored import MANIFEST

if TYPE_CHECKING:
    from sslens.study.asked import Study

#: what folders of reports, of tables and of a reproduction's page are listed as
STUDY, KNN, PROBES, PAGES = "study", "study of k-NN", "study of probes", "reproduction"
SAMPLES = "set of samples"
#: the sheet and the list of files of samples, and the columns of the list
SHEET, LISTED = "sheet.png", "samples.csv"
LIST_COLUMNS = ("file", "model", "image", "draw")
#: the name of a sample
_SAMPLE = re.compile(r"model-\d+/image-\d+-sample-\d+\.png")
#: what every report is made of
REPORT = ("report.html", "study.yaml", "provenance.json", "front.json")
#: the tables of probes that most have
TABLES = ("probes.csv", "ridge.csv", "penalties.csv", "factors.csv", "grid.csv")
#: what decides no result, and objects that are no settings
FREE = ("device", "out", "overwrite", "given")


@final
@dataclass(frozen=True)
class Claim:
    """What is to be written into a folder.

    Attributes:
        kind: the word for it, such as "study".
        asked: what decides it, as plain JSON values.
        names: paths below the folder that will surely be written.
        find_older: finds such files that were written before there were lists of files.
        command: what was typed.
    """

    kind: str
    asked: Mapping[str, object]
    names: tuple[str, ...]
    find_older: Callable[[Path], Contents | None]
    command: str = ""

    def require(self, folder: Path, *, overwrite: bool = False) -> None:
        """Refuse a folder that holds something else, or strangers' files where these would be,
        before anything is computed or written.

        Raises:
            InputError: the folder cannot be taken; the message says what it holds.
        """
        if (folder / MANIFEST).is_file():
            raise InputError(f"{folder} holds features", mend="give another {out}")
        older = self.find_older(folder)
        OwnFiles(folder).require(
            self.kind, self.asked, names=self.names, overwrite=overwrite, older=older
        )

    def take(self, folder: Path, *, overwrite: bool = False) -> None:
        """Take the folder; with `overwrite` the files of another study there are removed first, and
        no others.

        Raises:
            InputError: the folder cannot be taken or written.
        """
        self.require(folder, overwrite=overwrite)
        OwnFiles(folder).claim(
            self.kind,
            self.asked,
            command=self.command,
            overwrite=overwrite,
            older=self.find_older(folder),
        )


def claim_study(study: "Study", command: str = "") -> Claim:
    """Describe the report of a study as what is to be written."""
    import yaml

    values = yaml.safe_load(study.yaml())
    asked = {key: value for key, value in values.items() if key not in FREE}
    return Claim(STUDY, asked, REPORT, _find_report, command)


def claim_knn(request: Any) -> Claim:
    """Describe the table of a `KnnRequest`.

    >>> from sslens.study.knn import KnnRequest
    >>> claim_knn(KnnRequest("pixels", "photos")).asked["images"]
    'photos'
    """
    return _claim_tables(KNN, request, ("knn.csv",), ("knn.csv",))


def claim_probes(request: Any) -> Claim:
    """Describe the tables of a `ProbeRequest`."""
    return _claim_tables(PROBES, request, ("probes.csv",), TABLES)


def claim_page(request: Any, command: str = "") -> Claim:
    """Describe the page of a `ReproduceRequest`; the reports of exhibits have folders of their
    own."""
    from sslens.report.older import PAGE

    return Claim(PAGES, _describe(request), (PAGE,), _find_page, command)


def claim_samples(asked: Mapping[str, object], names: Iterable[str]) -> Claim:
    """Describe samples of a generator.

    Args:
        asked: what decides them.
        names: the paths below the folder of the samples.
    """
    return Claim(SAMPLES, asked, (SHEET, LISTED, *names), _find_samples)


def _find_samples(folder: Path) -> Contents | None:
    """Samples without a list of files of ours; their own list tells the last run's."""
    listed = folder / LISTED
    if OwnFiles(folder).read() is not None or not listed.is_file():
        return None
    with listed.open(encoding="utf-8", errors="replace", newline="") as file:
        rows = csv.DictReader(file)
        if tuple(rows.fieldnames or ()) != LIST_COLUMNS:
            return None
        files = {str(row["file"]) for row in rows}
    ours = {name for name in files if _SAMPLE.fullmatch(name) and (folder / name).is_file()}
    return Contents(SAMPLES, files=frozenset({SHEET, LISTED} | ours))


def _describe(request: Any) -> Mapping[str, object]:
    """What decides the results of a request."""
    return {
        key: value for key, value in vars(request).items() if key not in FREE and value is not None
    }


def _claim_tables(kind: str, request: Any, names: tuple[str, ...], older: Iterable[str]) -> Claim:
    def find_tables(folder: Path) -> Contents | None:
        """Tables with columns of ours; what they are of is not known."""
        if OwnFiles(folder).read() is not None:
            return None
        files = frozenset(name for name in older if _has_our_columns(folder / name))
        return Contents(kind, files=files) if files else None

    return Claim(kind, _describe(request), names, find_tables)


def _has_our_columns(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            columns = file.readline(10_000).strip().split(",")
    except (OSError, ValueError):
        return False
    return {"tap", "pooling"} <= set(columns)


def _find_report(folder: Path) -> Contents | None:
    from sslens.report.older import find_older

    return find_older(folder)


def _find_page(folder: Path) -> Contents | None:
    """A page without a list of its files; it does not tell its request."""
    from sslens.report.older import PAGE

    page = folder / PAGE
    if OwnFiles(folder).read() is not None or not page.is_file():
        return None
    text = page.read_text(encoding="utf-8", errors="replace")
    tables = [path.name for path in folder.glob("*.csv") if path.name in text]
    return Contents(PAGES, files=frozenset([PAGE, *tables])) if "sslens" in text else None
