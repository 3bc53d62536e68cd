"""`sslens study`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from sslens.arguments.answers import Reply, answer_study
from sslens.arguments.options import Text
from sslens.arguments.spelling import spell_keys
from sslens.slurm import Slurm

if TYPE_CHECKING:
    from sslens.study import Study

GROUP = "compare"


@dataclass(frozen=True)
class Command:
    """Carry out a study from its file. Every report has such a file beside it, study.yaml.

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
    figures: bool = False
    """Draw each figure for paper too, as SVG and PDF; what is in the store is not computed anew."""
    thumbnails: bool = True
    """Show small pictures of images on the page, where they are evidence."""
    dry_run: bool = False
    """Check all that the run would check, print the plan and its cost, and stop."""
    overwrite: bool = False
    """Replace another study in --out: its own files go first, and no others."""
    slurm: tyro.conf.OmitArgPrefixes[Slurm] = Slurm()


#: how parameters are spelt here: the study's are keys
SPELL = spell_keys(Command.__dataclass_fields__)


def run(command: Command, line: str, say: Text) -> Reply | None:
    """Carry it out; returns the answer with the path of the report."""
    asked = check(command)
    asked.require_sources()
    return answer_study(
        asked,
        command.out,
        line=line,
        say=say,
        figures=command.figures,
        thumbnails=command.thumbnails,
        dry_run=command.dry_run,
        overwrite=command.overwrite,
        spell=SPELL,
    )


def check(command: Command) -> "Study":
    """The study as it stands in the file; what is known to be wrong without images and models is
    refused."""
    from sslens.study import read

    return read(command.file, command.overrides)
