"""Results of exhibits that come with sslens, for those that take long to compute."""

import contextlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from sslens import cards, exhibits
from sslens.errors import InputError
from sslens.store import write_text
from sslens.study.reproduction import SHIPPED, Step

#: `results/NAME` is a report's folder without its page
RESULTS = Path(exhibits.__file__).parent / "results"
#: what decided the results, beside their tables
WEIGHTS = "weights.json"


def find_stored(step: Step, results: Path = RESULTS) -> Path | None:
    """Find the results of a step on shipped models that come with sslens; None where there are
    none, or where they are of other weights or images than those that come with it now."""
    folder = results / step.name
    with contextlib.suppress(OSError, ValueError):
        known = json.loads((folder / WEIGHTS).read_text(encoding="utf-8"))
        if step.on == SHIPPED and known == identify(step):
            return folder
    return None


def identify(step: Step) -> Mapping[str, object]:
    """Return what decides stored results: weights, images, and how detectors are trained."""
    found = [cards.look_up(source) for source in step.models.values()]
    return {
        "weights": {one.name: one.sha256 for one in found if one is not None and one.file},
        "images": step.images,
        "bank": step.bank,
        "limit": step.limit,
        "detection": list(step.setting.detection),
    }


def pack(step: Step, report: Path, results: Path = RESULTS) -> Path:
    """Pack the tables, verdicts and first screen of a step's report, so that they come with sslens;
    returns the folder.

    Raises:
        InputError: the report has no tables.
    """
    if not (report / "tables").is_dir():
        raise InputError(f"{report} has no tables: reproduce {step.name} first.")
    folder = results / step.name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(report / "tables", folder / "tables")
    for name in ("verdicts.csv", "provenance.json", "front.json"):
        if (report / name).is_file():
            shutil.copyfile(report / name, folder / name)
    _shorten_command(folder / "provenance.json", step.name)
    write_text(folder / WEIGHTS, json.dumps(identify(step), indent=1) + "\n")
    return folder


def _shorten_command(path: Path, name: str) -> None:
    """Leave out of the command where its report was written, which is a path of one machine."""
    if path.is_file():
        told = json.loads(path.read_text(encoding="utf-8"))
        write_text(
            path, json.dumps(told | {"command": f"sslens reproduce {name}"}, indent=2) + "\n"
        )
