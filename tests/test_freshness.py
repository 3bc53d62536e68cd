"""A cached table is as fresh as the code that computes it."""

import shutil
import textwrap
import time
from pathlib import Path

import pytest

import sslens
from sslens.find import names, plugin
from sslens.store import Store
from sslens.study import Study, freshness, run
from sslens.study.freshness import source_digest

NANO = "random:vit_nano_patch8_32"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package's sources, to be changed."""
    root = tmp_path / "sslens"
    source = Path(sslens.__file__).parent
    for path in source.rglob("*.py"):
        copy = root / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    return root


def digest_of(analysis: str, root: Path) -> str:
    return source_digest(f"analyses.{analysis.replace('-', '_')}", entry="compute", root=root)


def append(path: Path, text: str) -> None:
    path.write_text(f"{path.read_text()}\n\n{text}\n")


@pytest.mark.parametrize("analysis", names("analyses"))
def test_the_digest_of_an_analysis_reaches_its_own_code_and_what_it_imports(
    package: Path, analysis: str
) -> None:
    before = digest_of(analysis, package)
    path = package / "analyses" / f"{analysis.replace('-', '_')}.py"
    text = path.read_text()
    path.write_text(text.replace("def compute(", "def compute(  # how\n", 1))
    assert digest_of(analysis, package) == before
    head, _, body = text.partition("def compute(")
    signature, arrow, rest = body.partition(":\n    ")
    path.write_text(f"{head}def compute({signature}{arrow}unused = 1\n    {rest}")
    assert digest_of(analysis, package) != before
    path.write_text(text)
    append(package / "comparisons" / "inputs.py", "MORE = 1")
    assert digest_of(analysis, package) != before


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("measures/cka.py", "MORE = 1"),  # which the analysis reaches by another module
        ("capture/gram.py", "def more() -> None: ..."),
        ("measures/__init__.py", "assert PARAMETERS"),  # which runs when it is imported
    ],
)
def test_a_change_of_a_shared_module_is_seen(package: Path, file: str, text: str) -> None:
    before = digest_of("cka-blocks", package)
    append(package / file, text)
    assert digest_of("cka-blocks", package) != before


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("measures/cka.py", "# a comment"),
        ("measures/cka.py", '"""A text that stands alone."""'),
        ("probes/knn.py", "MORE = 1"),  # which the analysis does not import
        ("measures/rsa.py", "MORE = 1"),  # a plug-in that the analysis does not use
        ("measures/__init__.py", "def more() -> None: ..."),  # which nobody imports
        ("figure/panels.py", "MORE = 1"),  # which only draws
        ("cli/knn.py", "MORE = 1"),
        ("analyses/cka_blocks.py", "def draw_more() -> None: ..."),  # which compute does not reach
    ],
)
def test_a_change_that_decides_no_number_is_not(package: Path, file: str, text: str) -> None:
    before = digest_of("cka-blocks", package)
    append(package / file, text)
    assert digest_of("cka-blocks", package) == before


def test_a_docstring_is_no_code(package: Path) -> None:
    before = digest_of("cka-blocks", package)
    path = package / "measures" / "cka.py"
    text = path.read_text()
    path.write_text(text.replace('    """', '    """In other words: ', 1))
    assert path.read_text() != text
    assert digest_of("cka-blocks", package) == before


@pytest.mark.parametrize(
    ("folder", "stale"),
    [("measures", {"other-measures"}), ("objectives", set()), ("claims", set()), ("cards", set())],
)
def test_a_new_plug_in_is_seen_by_an_analysis_that_takes_them_all(
    package: Path, folder: str, stale: set[str]
) -> None:
    before = {name: digest_of(name, package) for name in names("analyses")}
    (package / folder / "procrustes.py").write_text("MORE = 1\n")
    after = {name: digest_of(name, package) for name in names("analyses")}
    assert {name for name in before if after[name] != before[name]} == stale


SMALL = {
    "analyses/first.py": """
        from sslens.nouns import one
        from sslens import lazy

        def compute():
            return one() + lazy.number
    """,
    "nouns/__init__.py": """
        from sslens.nouns.ones import one as one
        from sslens.nouns.twos import two as two
    """,
    "nouns/ones.py": "from sslens.lazy import three\ndef one(): return three",
    "nouns/twos.py": "def two(): return 2",
    "lazy/__init__.py": """
        number = 0
        homes = {"three": "sslens.lazy.threes", "four": "sslens.lazy.fours"}
        __getattr__ = lazy_names(__name__, homes)
    """,
    "lazy/threes.py": "three = 3",
    "lazy/fours.py": "four = 4",
}


def test_of_a_package_the_names_count_that_are_imported(tmp_path: Path) -> None:
    for file, text in SMALL.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(textwrap.dedent(text))
    before = digest_of("first", tmp_path)
    seen = set()
    for file in SMALL:
        text = (tmp_path / file).read_text()
        append(tmp_path / file, "MORE = 1")
        if digest_of("first", tmp_path) != before:
            seen.add(file)
        (tmp_path / file).write_text(text)
    # `lazy` is imported as a whole, of `nouns` one name, and MORE is no part of `compute`
    assert seen == {"nouns/ones.py", "lazy/__init__.py", "lazy/threes.py"}


def test_a_file_is_parsed_once_for_each_text(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    options = {"entry": "compute", "root": package, "store": store}
    first = source_digest("analyses.cka_blocks", **options)
    freshness._parse_text.cache_clear()
    monkeypatch.setattr(freshness.ast, "parse", lambda text: pytest.fail("parsed again"))
    began = time.perf_counter()
    assert source_digest("analyses.cka_blocks", **options) == first
    assert time.perf_counter() - began < 0.5  # 15 ms on one core
    shutil.rmtree(store.root)
    monkeypatch.undo()
    assert source_digest("analyses.cka_blocks", **options) == first


def test_a_table_is_computed_anew_when_a_shared_module_changed(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And when a library was updated; but not when only words changed."""
    analysis = plugin("analyses", "knn-depth")
    computed: list[int] = []
    compute = analysis.compute

    def counted(*given: object, **more: object) -> object:
        computed.append(1)
        return compute(*given, **more)

    counted.__wrapped__ = compute  # type: ignore[attr-defined]  # whose signature names the needs
    monkeypatch.setattr(analysis, "compute", counted)
    monkeypatch.setattr(freshness, "PACKAGE", package)
    asked = Study(
        (NANO,), "scenes:0:12", ("knn-depth",), batch=4, device="cpu", controls=False, limit=None
    )

    def run_again() -> int:
        computed.clear()
        run(asked, tmp_path / "out", store=Store(tmp_path / "store"), quiet=True)
        return len(computed)

    assert run_again() == 1
    assert run_again() == 0
    append(package / "probes" / "knn.py", "# as before")
    assert run_again() == 0
    append(package / "probes" / "knn.py", "MORE = 1")
    assert run_again() == 1
    assert run_again() == 0
    monkeypatch.setattr("sslens.study.tables.list_versions", lambda: {"torch": "99"})
    assert run_again() == 1
