"""Options that several commands take, and what they are called with."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

#: prints a line for a person
Text: TypeAlias = Callable[[str], None]


@dataclass(frozen=True)
class Common:
    """The options that every command that computes has."""

    out: Path | None = None
    """Folder for the results."""
    seed: int = 0
    """Of every choice that is random."""
    limit: int | None = None
    """Images taken at most, drawn by their ids and the seed; None takes all. A bank, and the other
    sets of a command, are taken whole."""
    device: str = "auto"
    """cpu, cuda, cuda:1, …; auto takes a GPU where there is one."""
    dry_run: bool = False
    """Check all that the run would check, print the plan and its cost, and stop."""
    overwrite: bool = False
    """Replace another study in --out: its own files go first, and no others."""
