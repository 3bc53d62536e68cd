"""Whether a stored table is still up to date: a digest of the source code that computes it, which
is read without importing it.

In the analysis' own module, those definitions count that `compute` reaches; in all other modules
every definition counts. Docstrings, comments and the layout of lines never count, nor does code
that draws or writes (`figure/`, `report/`).
"""

import ast
import hashlib
import importlib.metadata
from collections.abc import Iterator, Sequence
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


def versions() -> dict[str, str]:
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
    root = root or PACKAGE
    contents: dict[str, str] = {}
    waiting = [(module, entry)]
    while waiting:
        name, function = waiting.pop()
        path = _path(root, name)
        if name in contents or path is None:
            continue
        source = _parse(path, function, store)
        contents[name] = source.digest
        reached = [one for imported in source.imports for one in _modules(root, imported)]
        waiting += [(one, None) for one in reached if one.split(".")[0] not in SILENT]
    return digest(sorted(contents.items()))


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
    key = {"text": hashlib.sha256(text).hexdigest(), "entry": entry, "format": 1}
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
    body = [node for node in body if not _for_types(node)]
    if entry is not None:
        body = _reach(body, entry)
    tree = _strip(ast.Module(body, []))
    code = ast.dump(tree)
    return SourceCode(
        hashlib.sha256(code.encode()).hexdigest(), tuple(dict.fromkeys(_imports(tree)))
    )


def _for_types(node: ast.stmt) -> bool:
    """Whether a statement is `if TYPE_CHECKING`, which never runs."""
    return isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"


def _reach(body: Sequence[ast.stmt], entry: str) -> list[ast.stmt]:
    """The statements of a module that define what `entry` reaches by name, and those that define
    nothing."""
    defines = [_defined(node) for node in body]
    names, waiting = set[str](), {entry}
    while waiting:
        names |= waiting
        reached = [node for node, own in zip(body, defines, strict=True) if own & waiting]
        used = {
            each.id for node in reached for each in ast.walk(node) if isinstance(each, ast.Name)
        }
        waiting = used - names
    return [node for node, own in zip(body, defines, strict=True) if not own or own & names]


def _defined(node: ast.stmt) -> set[str]:
    """The names that a statement of a module binds."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return {
        each.id
        for each in ast.walk(node)
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
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


def _imports(tree: ast.Module) -> Iterator[str]:
    """What a module imports of the package, in functions too, and the folders whose plug-ins it
    takes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "plugin":
            folders = [each.value for each in node.args[:1] if isinstance(each, ast.Constant)]
            modules = [f"sslens.{str(folder).replace('/', '.')}.*" for folder in folders]
        else:
            continue
        for module in modules:
            if module.startswith("sslens."):
                yield module.removeprefix("sslens.")


def _modules(root: Path, name: str) -> Iterator[str]:
    """The modules that an imported name stands for: the folders above it, and itself where it is a
    module and not a name in one."""
    parts = name.split(".")
    if parts[-1] == "*":
        folder = root.joinpath(*parts[:-1])
        yield from (".".join((*parts[:-1], file.stem)) for file in sorted(folder.glob("*.py")))
        return
    for end in range(1, len(parts) + 1):
        module = ".".join(parts[:end])
        if _path(root, module) is not None:
            yield module


def _path(root: Path, module: str) -> Path | None:
    """The file of a module; None where there is none."""
    path = root.joinpath(*module.split("."))
    if path.is_dir() and (path / "__init__.py").is_file():
        return path / "__init__.py"
    path = path.with_name(f"{path.name}.py")
    return path if path.is_file() else None
