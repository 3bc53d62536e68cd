"""Imports run one way, in the order stated here and nowhere else."""

import ast
import graphlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import sslens

#: a module, or a folder with all that is in it, may import what stands before it
ORDER = [
    "errors",
    "find",
    "store",
    "processes",
    "cores",
    "progress",
    "table",
    "plan",
    "figure",
    "statistics",
    "data",
    "cards",
    "models",
    "zoo",
    "capture",
    "fingerprint",
    "measures",
    "probes",
    "methods",
    "objectives",
    "tasks",
    "recipes",
    "paths",
    "training",
    "comparisons",
    "analyses",
    "claims",
    "report",
    "study",
    "demo",
    "slurm",
    "arguments",
    "cli",
    "__main__",
]
#: a thing lives with what it is about
NAMELESS = {"utils", "util", "common", "helpers", "helper", "misc"}


def imported(module: str, text: str, modules: Mapping[str, str]) -> Iterator[str]:
    """The modules of the package that a module imports, in functions too."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import in line {node.lineno}"
            base = str(node.module)
            found = [
                (
                    f"{base}.{a.name}"
                    if f"{base}.{a.name}".removeprefix("sslens.") in modules
                    else base
                )
                for a in node.names
            ]
        else:
            continue
        for name in found:
            if name.startswith("sslens."):
                yield name.removeprefix("sslens.")


def faults(modules: Mapping[str, str]) -> list[str]:
    """What is wrong with the imports of modules, given by dotted name without the package's, with
    their text."""
    said = [f"{m} is not in the order" for m in modules if m.split(".")[0] not in ORDER]
    said += [
        f"{m} is named after nothing"
        for m in modules
        if NAMELESS & {part.strip("_") for part in m.split(".")}
    ]
    if said:
        return said
    graph = {
        module: set(imported(module, text, modules)) - {module} for module, text in modules.items()
    }
    for module, others in graph.items():
        top = ORDER.index(module.split(".")[0])
        said += [
            f"{module} imports {other}"
            for other in sorted(others)
            if ORDER.index(other.split(".")[0]) > top
        ]
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        said.append(f"a circle: {error.args[1]}")
    return said


def test_the_package_imports_downwards_only() -> None:
    root = Path(sslens.__file__).parent
    modules = {}
    for path in sorted(root.rglob("*.py")):
        name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        if name != "__init__":  # the package itself names what is public, lazily
            modules[name] = path.read_text(encoding="utf-8")
    assert {"errors", "data.images", "data", "analyses.cka_blocks", "cli"} <= modules.keys()
    assert faults(modules) == []
    assert set(ORDER) <= {name.split(".")[0] for name in modules}, (
        "the order lists a module that is not there"
    )


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        ({"errors": "from sslens.store import home", "store": ""}, "errors imports store"),
        ({"errors": "def f():\n    import sslens.cli", "cli": ""}, "errors imports cli"),
        (
            {"store": "if TYPE_CHECKING:\n    from sslens import zoo", "zoo": ""},
            "store imports zoo",
        ),
        ({"elsewhere": ""}, "elsewhere is not in the order"),
        ({"data.utils": ""}, "data.utils is named after nothing"),
        ({"models._common": ""}, "models._common is named after nothing"),
        (
            {"data.a": "from sslens.data.b import x", "data.b": "from sslens.data import a"},
            "a circle: ['data.a', 'data.b', 'data.a']",
        ),
    ],
)
def test_a_fault_is_found(modules: dict[str, str], said: str) -> None:
    found = faults(modules)
    if said.startswith("a circle"):
        assert len(found) == 1
        assert found[0].startswith("a circle")
    else:
        assert found == [said]


def test_the_way_down_is_no_fault() -> None:
    assert (
        faults(
            {"errors": "", "store": "import json\nfrom sslens.errors import InputError", "data": ""}
        )
        == []
    )
