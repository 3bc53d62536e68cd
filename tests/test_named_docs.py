"""Pages of documentation that helps, messages and other pages name."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_page_that_is_named_is_there() -> None:
    places = [*ROOT.glob("src/sslens/**/*.py"), *ROOT.glob("docs/*.md"), ROOT / "README.md"]
    named = {
        page
        for place in places
        for page in re.findall(r"docs/[\w-]+\.(?:md|ipynb)", place.read_text(encoding="utf-8"))
    }
    assert {"docs/commands.md", "docs/zoo.md"} <= named
    assert sorted(page for page in named if not (ROOT / page).is_file()) == []
