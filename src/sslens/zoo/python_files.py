"""What is said of a model that names a Python file: the MODULE:FUNCTION that was meant, found in
the file's text, of which nothing is run."""

import ast
import difflib
import re
from collections.abc import Iterator
from pathlib import Path

from sslens.whole_file import exists

SUFFIX = ".py"
#: what the name of a function that makes a network begins with or holds
_MAKER = re.compile(r"^(build|make|create|get|load|new)|model|net|encoder|backbone|vit", re.I)
#: bytes of the longest file that is read
LIMIT = 1 << 20


def find_python_file(source: str) -> Path | None:
    """Find the Python file that a source names, with a function behind it or none; None where there
    is no such file. A module in folders may have points between them.

    >>> find_python_file("no_such_module:build") is None
    True
    """
    name = source.partition(":")[0]
    plain = name.removesuffix(SUFFIX)
    dotted = plain.replace(".", "/") if re.fullmatch(r"\w+(\.\w+)+", plain) else plain
    paths = (Path(f"{one}{SUFFIX}") for one in (plain, dotted) if one.strip("./"))
    return next((path for path in paths if exists(path) and path.is_file()), None)


def explain_python_file(source: str, path: Path) -> str:
    """Say how a function in a Python file is given as a model.

    Args:
        source: the source that names the file.
        path: the file.
    """
    start = f'"{source}" is no model; {path} is a Python file'
    try:
        place = path.resolve().relative_to(Path.cwd().resolve())
    except ValueError:
        place, folder = Path(path.name), path.resolve().parent
        start += f", in another folder than this (change to {folder}, or install it)"
    steps = place.with_suffix("").parts
    if not all(step.isidentifier() for step in steps):
        return f"{start}, with a name that no module can have: rename it to letters and _"
    module, asked = ".".join(steps), source.partition(":")[2]
    functions = _choose_functions(path, asked)
    if not functions:
        return (
            f"{start}: give {module}:FUNCTION, with a function in it that returns the network and"
            " needs no arguments"
        )
    return f"{start}: did you mean {' or '.join(f'{module}:{name}' for name in functions[:3])}?"


def _choose_functions(path: Path, asked: str) -> list[str]:
    """The functions of a file that may be meant by the one that was asked for, or by none."""
    try:
        tree = ast.parse(path.read_bytes()[:LIMIT])
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    kinds = (ast.FunctionDef, ast.ClassDef, ast.Assign)
    there = {name for node in tree.body if isinstance(node, kinds) for name in _list_names(node)}
    if asked.partition(".")[0] in there:
        return [asked]
    makers = _list_makers(tree)
    return difflib.get_close_matches(asked, makers, cutoff=0.7) or makers


def _list_names(node: ast.FunctionDef | ast.ClassDef | ast.Assign) -> list[str]:
    """The names that a definition or an assignment gives."""
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [node.name]


def _list_makers(tree: ast.Module) -> list[str]:
    """The functions of a file that seem to make a network and need no arguments; where there are
    none, its networks."""
    functions = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and not _needs_arguments(node.args, 0)
    ]
    public = [name for name in functions if not name.startswith("_")]
    return [name for name in public if _MAKER.search(name)] or list(_list_networks(tree))


def _list_networks(tree: ast.Module) -> Iterator[str]:
    """The classes derived from a Module that are made without arguments."""
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        bases = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
        starts = [
            one.args
            for one in node.body
            if isinstance(one, ast.FunctionDef) and one.name == "__init__"
        ]
        if "Module" in bases and not any(_needs_arguments(args, 1) for args in starts):
            yield node.name


def _needs_arguments(args: ast.arguments, own: int) -> bool:
    """Whether a function must be given arguments, beyond `own` ones."""
    positional = len(args.posonlyargs) + len(args.args) - own
    return positional > len(args.defaults) or None in args.kw_defaults
