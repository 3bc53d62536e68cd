"""Patterns of file names that stand for all checkpoints of a run, with options for all of them."""

import re
from collections.abc import Iterable
from pathlib import Path

from sslens.whole_file import exists
from sslens.zoo import split_options

_WILD = re.compile(r"[*?]")


def expand_globs(sources: Iterable[str]) -> tuple[str, ...]:
    """Replace each pattern of file names by the files that it fits, each with the pattern's
    options; files are sorted by the numbers in their names.

    A shell does so too, but not where options stand after an @. A pattern that fits no file stays
    as it is.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("ckpt_10.pth", "ckpt_9.pth"):
    ...         Path(folder, name).touch()
    ...     found = expand_globs([f"{folder}/ckpt_*.pth@heads=4", "pixels"])
    >>> [Path(source).name for source in found]
    ['ckpt_9.pth@heads=4', 'ckpt_10.pth@heads=4', 'pixels']
    """
    return tuple(one for source in sources for one in _expand(source))


def _expand(source: str) -> list[str]:
    pattern, _, options = source.partition("@")
    if exists(source) or not _WILD.search(pattern) or ":" in pattern:
        return [source]
    split_options(source)  # which refuses options that there are not
    path = Path(pattern)
    files = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))), key=_count)
    end = f"@{options}" if options else ""
    return [f"{file}{end}" for file in files] or [source]


def _count(path: Path) -> list[tuple[str, int]]:
    """A key by which 9 comes before 10."""
    return [(text, int(part or 0)) for text, part in re.findall(r"(\D*)(\d*)", str(path))]
