"""The files of a report that was written before reports had a list of their files."""

import json
from collections.abc import Mapping
from pathlib import Path

from sslens.errors import InputError
from sslens.own_files import Contents, OwnFiles
from sslens.settings_file import read_yaml

#: what every report has, and what most have
NAMES = ("report.html", "study.yaml", "provenance.json", "front.json", "verdicts.csv")
#: the page of a reproduction
PAGE = "reproduce.html"
FOLDERS = ("tables", "figures", "sheets")


def find_older(folder: Path) -> Contents | None:
    """Find the files of a report without a list: those with a usual name, and of the tables and
    figures those that its page names. None where the folder has a list, or no such report.

    The page is the witness: a table that it does not name is a stranger's, and so are sheets of an
    analysis of which it names no table.
    """
    if OwnFiles(folder).read() is not None or not _is_ours(folder / "provenance.json"):
        return None
    page = folder / "report.html"
    text = page.read_text(encoding="utf-8", errors="replace") if page.is_file() else ""
    files = {name for name in NAMES if (folder / name).is_file()}
    for path in (path for name in FOLDERS for path in (folder / name).rglob("*")):
        name = path.relative_to(folder).as_posix()
        kind, section = (*name.split("/"), "")[:2]
        witness = f"tables/{section}" if kind == "sheets" else name
        if path.is_file() and witness in text:
            files.add(name)
    return Contents("study", _read_study(folder / "study.yaml"), files=frozenset(files))


def _is_ours(path: Path) -> bool:
    """Whether a file is the provenance of a report: it tells the version of sslens."""
    try:
        versions = json.loads(path.read_text(encoding="utf-8"))["versions"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
    return isinstance(versions, Mapping) and "sslens" in versions


def _read_study(path: Path) -> Mapping[str, object]:
    """The keys of a study's file but for the device, which decides no result; none of a file that
    cannot be read."""
    try:
        values = read_yaml(path)
    except (OSError, InputError):
        return {}
    if not isinstance(values, dict):
        return {}
    return {str(key): value for key, value in values.items() if key != "device"}
