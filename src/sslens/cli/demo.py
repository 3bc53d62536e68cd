"""`sslens demo`."""

from dataclasses import dataclass
from pathlib import Path

from sslens.arguments.answers import Reply, answer_study
from sslens.arguments.options import Text

GROUP = "begin"


@dataclass(frozen=True)
class Command:
    """The whole way in a minute, with nothing downloaded: the small models that come with the
    package, compared.

    Examples:
      sslens demo
      sslens demo --out my-demo
    """

    out: Path = Path("sslens-demo")
    """Folder for the report."""
    device: str = "auto"
    """cpu, cuda, …; auto takes a GPU where there is one."""
    figures: bool = False
    """Draw each figure for paper too, as SVG and PDF."""
    thumbnails: bool = True
    """Show small pictures of images on the page, where they are evidence."""
    dry_run: bool = False
    """Check all that the run would check, print the plan and its cost, and stop."""
    overwrite: bool = False
    """Replace another study in --out: its own files go first, and no others."""


def run(command: Command, line: str, say: Text) -> Reply | None:
    """Carry it out; returns the answer with the path of the report."""
    from sslens.demo import NOTE, declare_demo

    return answer_study(
        declare_demo(command.device),
        command.out,
        line=line,
        say=say,
        figures=command.figures,
        thumbnails=command.thumbnails,
        dry_run=command.dry_run,
        overwrite=command.overwrite,
        title="sslens demo",
        notes=[NOTE],
    )
