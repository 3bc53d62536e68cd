"""`sslens study`."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from sslens.cli._options import Text


@dataclass(frozen=True)
class Command:
    """Carry out a study from its file, such as the study.yaml that every report has beside it.

    Examples:
      sslens study report/study.yaml
      sslens study study.yaml limit=256 controls=false --out smaller
    """

    file: tyro.conf.Positional[Path]
    """The YAML file."""
    overrides: tyro.conf.Positional[tuple[str, ...]] = ()
    """KEY=VALUE for keys of the study."""
    out: Path = Path("sslens-report")
    """Folder for the report."""
    dry_run: bool = False
    """Print the plan and its cost, and stop."""


def run(command: Command, line: str, say: Text) -> Path | None:
    """Carry it out; returns the path of the report."""
    from sslens import study

    asked = study.read(command.file, command.overrides)
    return study.run(asked, command.out, command=line, dry_run=command.dry_run, say=say)
