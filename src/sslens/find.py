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

    A folder says in `REQUIRED` of its `__init__.py` what each of its files has.

    Raises:
        InputError: no such file, and the nearest names are offered; or the file lacks something.
    """
    if name not in names(folder):
        raise InputError(f'There is no "{name}" in {folder}: {nearest(name, names(folder))}')
    package = f"sslens.{folder.replace('/', '.')}"
    module = importlib.import_module(f"{package}.{name.replace('-', '_')}")
    required = getattr(importlib.import_module(package), "REQUIRED", ())
    lacking = [each for each in required if not hasattr(module, each)]
    if lacking:
        raise InputError(
            f"{folder}/{name.replace('-', '_')}.py lacks {', '.join(lacking)}: each file of"
            f" {folder} has {', '.join(required)}."
        )
    return module
