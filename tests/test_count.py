"""The counter of scripts/count finds each fault that it counts."""

import textwrap
from pathlib import Path

import pytest

from counter import COUNTER


def write(package: Path, files: dict[str, str]) -> Path:
    for name, text in {"__init__.py": "", **files}.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(textwrap.dedent(text), encoding="utf-8")
    return package


LONG = "def f():\n" + "    1\n" * 60


@pytest.mark.parametrize(
    ("name", "files", "offenders"),
    [
        (
            "private imports",
            {
                "a/__init__.py": "from pack.b._secret import x\nfrom pack.b import _name",
                "a/c.py": "from pack import b\nb._name\nb.__doc__\nb.public",
                "b/__init__.py": "from pack.b import _secret\n_name = 1",
                "b/_secret.py": "from pack.b import _name",
                "b/under/d.py": "from pack.b import _secret as plain",
            },
            [
                "a/__init__.py:1 imports b._secret.x",
                "a/__init__.py:2 imports b._name",
                "a/c.py:2 reads b._name",
                "b/under/d.py:1 imports b._secret",
            ],
        ),
        (
            "flags",
            {
                "a.py": '''
                    """Words -- and a rule ---, no flag; var(--ink) is a style's."""
                    f"{1}: give a smaller --batch"
                    def f():
                        """See

                        --no-controls."""
                ''',
                "cli/a.py": "'--batch'",
                "arguments/a.py": "'--batch'",
                "slurm.py": "'--batch'",
            },
            ["a.py:3 --batch", "a.py:7 --no-controls"],
        ),
        (
            "loose results",
            {
                "a.py": "def f() -> dict[str, Any]: ...\ndef g() -> list[dict[str, Any]]: ...",
                "b.py": "class B:\n    def h(self) -> 'dict[str, Any]': ...",
            },
            ["a.py:1 f", "b.py:2 h"],
        ),
        ("long modules", {"a.py": "1\n" * 400, "b.py": "1\n" * 401}, ["b.py:401"]),
        (
            "long functions",
            {"a.py": LONG, "b.py": LONG.replace("    1\n", "", 1)},
            ["a.py:1 f (61 lines)"],
        ),
        (
            "circles",
            {
                "a/__init__.py": "from pack.a.b import x",
                "a/b.py": "def f():\n    from pack import c",
                "c.py": "import pack.a",
                "d.py": "from pack import a",
            },
            ["a -> c -> a.b -> a"],
        ),
    ],
)
def test_offenders_are_found(
    tmp_path: Path, name: str, files: dict[str, str], offenders: list[str]
) -> None:
    counts = COUNTER.count(write(tmp_path / "pack", files))
    assert counts[name] == offenders
    assert counts.keys() == COUNTER.LIMITS.keys()
