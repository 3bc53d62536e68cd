"""The table of situations of public bug reports names tests that are there."""

import re
from pathlib import Path

from checkpoints import EXAMPLES

TESTS = Path(__file__).parent
TABLE = (TESTS.parent / "docs" / "situations.md").read_text(encoding="utf-8")


def test_every_situation_has_its_test() -> None:
    rows = [line for line in TABLE.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 37
    assert len({row.split(" | ")[0] for row in rows}) == len(rows)
    for row in rows:
        (found,) = re.findall(r"`(test_\w+\.py)::(test_\w+)` \|$", row)
        file, name = found
        source = (TESTS / file).read_text(encoding="utf-8")
        assert re.search(rf"^ *def {name}\(", source, re.MULTILINE), row


def test_every_layout_that_is_named_has_files() -> None:
    named = re.findall(r"\(layouts? ([\w, -]+)\)", TABLE)
    assert named
    assert {name for names in named for name in names.split(", ")} <= EXAMPLES.keys()
