"""Whether a stored table is still up to date: a digest of the source code that computes it, which
is read without importing it.

In the analysis' own module, those definitions count that `compute` reaches. Of a package, that is
of an `__init__.py`, those count that define the names which are imported from it, and what runs
when it is imported. Of all other modules every definition counts. All plug-ins of a folder count
where code that counts asks for one by a name that it computes. Docstrings, comments and the layout
of lines never count, nor does code that draws or writes (`figure/`, `report/`).
"""

import ast
import hashlib
import importlib.metadata
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import final

from sslens.store import Store, digest

#: folders that draw and write, and compute nothing
SILENT = ("figure", "report")
#: the libraries that decide the digits of a table by their arithmetic
LIBRARIES = ("torch", "numpy", "scipy")
PACKAGE = Path(__file__).parent.parent
OWN = "sslens."


def list_versions() -> dict[str, str]:
    """Return the versions of the libraries that compute, by name."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def source_digest(
    module: str,
    *,
    entry: str | None = None,
    root: Path | None = None,
    store: Store | None = None,
) -> str:
    """Compute the SHA-256 over a module and all modules of the package that it reaches by imports.

    Args:
        module: the module's dotted name without the package's name, such as "analyses.agreement".
        entry: if given, only this function of the module and what it reaches count.
        root: the folder of a package; this package unless given.
        store: where the digests of files are kept, so that each file is parsed once; none unless
            given.

    >>> one = source_digest("measures.cka")
    >>> one == source_digest("measures.cka"), one == source_digest("measures.rsa")
    (True, False)
    """
    files = find_files(root or PACKAGE)
    contents: dict[tuple[str, str], str] = {}
    waiting = [(module, entry)]
    while waiting:
        name, function = waiting.pop()
        part = (name, "" if function is None else f" {function}")
        if part in contents:
            continue
        source = _parse(files[name], function, store)
        contents[part] = source.digest
        for imported in source.imports:
            waiting += [one for one in _locate(files, imported) if one[0] in files]
    return digest(sorted((*part, code) for part, code in contents.items()))


def find_files(root: Path) -> Mapping[str, Path]:
    """Find the files of the modules that compute, by the modules' dotted names below `root`.

    >>> find_files(PACKAGE)["measures.cka"].name, find_files(PACKAGE)["measures"].name
    ('cka.py', '__init__.py')
    """
    files, start = {}, len(root.parts)
    for folder, folders, names in os.walk(root):
        parts = Path(folder).parts[start:]
        if not parts:
            folders[:] = [name for name in folders if name not in SILENT]
        for name in names:
            stem, ending = os.path.splitext(name)  # noqa: PTH122  # a Path each costs 10 ms
            if ending == ".py":
                own = parts if stem == "__init__" else (*parts, stem)
                files[".".join(own)] = Path(folder, name)
    return files


@final
@dataclass(frozen=True)
class SourceCode:
    """The parts of a source file that count.

    Attributes:
        digest: the digest of the code without docstrings.
        imports: the dotted names of the modules of the package that it imports, without the
            package's name; a name ends in "*" where the plug-ins of a folder are imported.
    """

    digest: str
    imports: tuple[str, ...]


def _parse(path: Path, entry: str | None, store: Store | None) -> SourceCode:
    """What counts of a file; parsed once for each text, in this process and in the store."""
    text = path.read_bytes()
    key = {"text": hashlib.sha256(text).hexdigest(), "entry": entry, "format": 2}
    stored = store.read_json("sources", key) if store is not None else None
    if stored is not None:
        return SourceCode(stored["digest"], tuple(stored["imports"]))
    source = _parse_text(text, entry)
    if store is not None:
        store.write_json("sources", key, {"digest": source.digest, "imports": list(source.imports)})
    return source


@lru_cache(maxsize=1024)
def _parse_text(text: bytes, entry: str | None) -> SourceCode:
    body = ast.parse(text).body
    body = [node for node in body if not _is_for_types(node)]
    if entry is not None:
        known = set[str]().union(*map(_list_defined, body))
        home = None if not entry or entry in known else _find_home(body, entry)
        if home is not None:
            return SourceCode("", (f"{home.removeprefix(OWN)}.{entry}",))
        if not entry or entry in known:
            body = _reach(body, entry)
    tree = _strip(ast.Module(body, []))
    code = ast.dump(tree)
    return SourceCode(
        hashlib.sha256(code.encode()).hexdigest(), tuple(dict.fromkeys(_list_imports(tree)))
    )


def _find_home(body: Sequence[ast.stmt], name: str) -> str | None:
    """Find the module that a package takes a name from when it is first used (`lazy_names`)."""
    for node in body:
        for part in ast.walk(node):
            if isinstance(part, ast.Dict):
                for key, value in zip(part.keys, part.values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == name:
                        home = value.value if isinstance(value, ast.Constant) else None
                        if isinstance(home, str) and home.startswith(OWN):
                            return home
    return None


def _is_for_types(node: ast.stmt) -> bool:
    """Whether a statement is `if TYPE_CHECKING`, which never runs."""
    return isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"


def _reach(body: Sequence[ast.stmt], entry: str) -> list[ast.stmt]:
    """The statements of a module that define what `entry` reaches by name, and those that define
    nothing, with what they reach; `entry` is "" where the module is only imported."""
    defines = [_list_defined(node) for node in body]
    running = [node for node, own in zip(body, defines, strict=True) if not own]
    names, waiting = set[str](), _list_used(running) | {entry}
    while waiting:
        names |= waiting
        reached = [node for node, own in zip(body, defines, strict=True) if own & waiting]
        waiting = _list_used(reached) - names
    return [node for node, own in zip(body, defines, strict=True) if not own or own & names]


def _list_used(nodes: Sequence[ast.stmt]) -> set[str]:
    """The names that statements read, in the functions that they define too."""
    return {part.id for node in nodes for part in ast.walk(node) if isinstance(part, ast.Name)}


def _list_defined(node: ast.stmt) -> set[str]:
    """The names that a statement of a module binds."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return {
        part.id
        for part in ast.walk(node)
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
    }


def _strip(tree: ast.Module) -> ast.Module:
    """The tree without docstrings and other texts that stand alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef):
            node.body = [line for line in node.body if not _is_text(line)]
    return tree


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _list_imports(tree: ast.Module) -> Iterator[str]:
    """What a module imports of the package, in functions too. A name ends in "*" where the plug-ins
    of a folder are taken, and in "." where a module is imported by itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [f"{alias.name}." for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "plugin":
            folders = [part.value for part in node.args[:1] if isinstance(part, ast.Constant)]
            modules = [f"{OWN}{str(folder).replace('/', '.')}.*" for folder in folders]
        else:
            continue
        for module in modules:
            if module.startswith(OWN):
                yield module.removeprefix(OWN)


def _locate(files: Mapping[str, Path], name: str) -> Iterator[tuple[str, str | None]]:
    """The modules that an imported name stands for, each with the definition that counts of it: all
    (None); what runs when it is imported (""), of the folders above; or one that a package has."""
    *parts, last = name.split(".")
    for end in range(1, len(parts)):
        yield ".".join(parts[:end]), ""
    home = ".".join(parts)
    if last == "*":
        yield home, ""
        plugins = (one for one in files if one.rpartition(".")[0] == home)
        yield from ((one, None) for one in plugins if not _is_package(files, one))
    elif last and name in files:
        yield home, ""
        yield name, None
    elif last and _is_package(files, home):
        yield home, last
    else:
        yield home, None


def _is_package(files: Mapping[str, Path], name: str) -> bool:
    return name in files and files[name].name == "__init__.py"
