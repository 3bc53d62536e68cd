"""A plug-in is a file: `objectives/moco_v3.py` is the objective `moco-v3`. No registry, no list to
edit twice."""

import importlib
from pathlib import Path
from types import ModuleType

from sslens.errors import InputError, nearest


def names(folder: str) -> tuple[str, ...]:
    """The plug-ins of a folder of this package, by file name, without importing any.

    >>> "cka" in names("measures")
    True
    """
    files = (Path(__file__).parent / folder).glob("[!_]*.py")
    return tuple(sorted(file.stem.replace("_", "-") for file in files))


def plugin(folder: str, name: str) -> ModuleType:
    """The module of one plug-in.

    >>> plugin("measures", "cka").__name__
    'sslens.measures.cka'

    Raises:
        InputError: no such file; the nearest names are offered.
    """
    if name not in names(folder):
        raise InputError(f'There is no "{name}" in {folder}: {nearest(name, names(folder))}')
    return importlib.import_module(f"sslens.{folder.replace('/', '.')}.{name.replace('-', '_')}")
