"""The first screen of a report as a file beside the page, for scripts."""

import json
from dataclasses import asdict
from pathlib import Path

from sslens.report.front.screen import Front
from sslens.store import write_text


def write_front(path: Path, front: Front) -> None:
    """Write the first screen as JSON: the fields of `Front` by their names.

    Raises:
        InputError: the file cannot be written, or the disk is full.
    """
    write_text(path, json.dumps(asdict(front), indent=2, ensure_ascii=False) + "\n")
