"""The house: imports run one way, in the order stated here and nowhere else; a folder of plug-ins
holds nothing else; a name that begins with an underscore is used in its own folder only."""

import ast
import graphlib
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import sslens
from counter import COUNTER
from sslens.find import names, plugin
from sslens.recipes import Recipe, recipes

ROOT = Path(sslens.__file__).parent

#: a module, or a folder with all that is in it, may import what stands before it
ORDER = [
    "errors",
    "counts",
    "find",
    "device_names",
    "records",
    "whole_file",
    "settings_file",
    "tensor_file",
    "parts",
    "store",
    "own_files",
    "processes",
    "cores",
    "memory",
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
    "scoring",
    "methods",
    "diffusion",
    "objectives",
    "tasks",
    "recipes",
    "paths",
    "training",
    "comparisons",
    "analyses",
    "claims",
    "exhibits",
    "report",
    "study",
    "demo",
    "slurm",
    "arguments",
    "cli",
    "__main__",
]
#: folders in which each file is one plug-in
PLUGINS = (
    "measures",
    "analyses",
    "objectives",
    "recipes",
    "claims",
    "study/needs",
    "zoo/architectures",
    "zoo/layouts",
    "zoo/spellings",
    "cli",
)
#: recipes are checked by a test of their own
UNCHECKED = {"recipes"}
#: the dataclasses that gather something; all others are records
CHANGING = {
    "paths/path.py: PathMeter",
    "paths/path.py: PathSums",
    "study/costing.py: Clock",
    "training/stopping.py: Stop",
}
#: names of modules that say nothing: a thing lives with what it is about
NAMELESS = {"utils", "util", "common", "helpers", "helper", "misc"}


def list_imports(module: str, text: str, modules: Mapping[str, str]) -> Iterator[str]:
    """List the modules of the package that a module imports, in functions too."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import in line {node.lineno}"
            base = str(node.module)
            full = [f"{base}.{alias.name}" for alias in node.names]
            names = [name if name.removeprefix("sslens.") in modules else base for name in full]
        else:
            continue
        for name in names:
            if name.startswith("sslens."):
                yield name.removeprefix("sslens.")


def list_faults(modules: Mapping[str, str]) -> list[str]:
    """List the faults in the imports of modules, which are given as texts by their dotted names
    without the package's."""
    faults = [f"{m} is not in the order" for m in modules if m.split(".")[0] not in ORDER]
    for module in modules:
        if NAMELESS & {part.strip("_") for part in module.split(".")}:
            faults.append(f"{module} is named after nothing")
    if faults:
        return faults
    graph = {
        module: set(list_imports(module, text, modules)) - {module}
        for module, text in modules.items()
    }
    for module, others in graph.items():
        place = ORDER.index(module.split(".")[0])
        for other in sorted(others):
            if ORDER.index(other.split(".")[0]) > place:
                faults.append(f"{module} imports {other}")
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        faults.append(f"a circle: {error.args[1]}")
    return faults


def test_the_package_imports_downwards_only() -> None:
    modules = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if name != "__init__":  # the package itself names what is public, lazily
            modules[name] = path.read_text(encoding="utf-8")
    assert {"errors", "data.images", "data", "analyses.cka_blocks", "cli"} <= modules.keys()
    assert list_faults(modules) == []
    assert set(ORDER) <= {name.split(".")[0] for name in modules}, (
        "the order lists a module that is not there"
    )


@pytest.mark.parametrize(
    ("modules", "fault"),
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
def test_a_fault_is_found(modules: dict[str, str], fault: str) -> None:
    faults = list_faults(modules)
    assert len(faults) == 1
    assert faults[0].startswith("a circle") if fault.startswith("a circle") else faults == [fault]


def test_the_way_down_is_no_fault() -> None:
    store = "import json\nfrom sslens.errors import InputError"
    assert list_faults({"errors": "", "store": store, "data": ""}) == []


@pytest.mark.parametrize("folder", PLUGINS)
def test_a_folder_of_plugins_holds_nothing_else(folder: str) -> None:
    inside = {path.name for path in (ROOT / folder).iterdir()} - {"__init__.py", "__pycache__"}
    files = {f"{name.replace('-', '_')}.py" for name in names(folder)}
    assert inside == files
    assert files


@pytest.mark.parametrize("folder", [folder for folder in PLUGINS if folder not in UNCHECKED])
def test_each_plugin_has_what_its_folder_asks_for(folder: str) -> None:
    assert importlib.import_module(f"sslens.{folder.replace('/', '.')}").REQUIRED
    for name in names(folder):
        plugin(folder, name)  # which raises where something is missing


def test_each_file_of_recipes_has_recipes() -> None:
    for name in names("recipes"):
        assert all(isinstance(recipe, Recipe) for recipe in recipes(name).values())
        assert recipes(name)


def test_what_begins_with_an_underscore_is_used_in_its_own_folder() -> None:
    modules = COUNTER.read_modules(ROOT)
    assert COUNTER.count_private_imports(modules, "sslens") == []


def test_records_do_not_change() -> None:
    changing = set()
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                marks = [ast.unparse(mark) for mark in node.decorator_list]
                if any("dataclass" in mark and "frozen=True" not in mark for mark in marks):
                    changing.add(f"{path.relative_to(ROOT).as_posix()}: {node.name}")
    assert changing == CHANGING
